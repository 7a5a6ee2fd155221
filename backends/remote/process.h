#ifndef CELLBLOCK_REMOTE_PROCESS_H
#define CELLBLOCK_REMOTE_PROCESS_H

#include <stddef.h>

/*
 * What a server is told from another one by, for the marks of what it makes elsewhere: the host,
 * its boot, the pid namespace, and when the process was started. Only a server of this host, seen
 * from the same pid namespace, can be judged.
 */
enum {
    PROCESS_TEXT_SIZE = 512,
};

struct process_home {
    char host[PROCESS_TEXT_SIZE];
    char boot[PROCESS_TEXT_SIZE]; /* the boot's id */
    char pids[PROCESS_TEXT_SIZE]; /* the pid namespace */
};

/* Of this process. What nobody can tell is "". */
void process_home(struct process_home *ret);
/* In clock ticks since the boot; 0 when there is no such process. */
unsigned long long process_start(long pid);

#endif
