#include "backends/remote/process.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_FIELD = 3, START_FIELD = 22 };

static bool read_text(const char *path, char space[PROCESS_TEXT_SIZE])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, space, PROCESS_TEXT_SIZE - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    space[n > 0 ? n : 0] = '\0';
    space[strcspn(space, "\n")] = '\0';
    return n > 0;
}

unsigned long long process_start(long pid)
{
    char path[64];
    char text[PROCESS_TEXT_SIZE];
    char *at;
    char *rest = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    if (!read_text(path, text) || !(at = strrchr(text, ')'))) {
        return 0;
    }
    at = strtok_r(at + 1, " ", &rest);
    if (!at || *at == 'Z' || *at == 'X') {
        return 0;
    }
    for (int field = STATE_FIELD; at && field < START_FIELD; field++) {
        at = strtok_r(NULL, " ", &rest);
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

void process_home(struct process_home *ret)
{
    ssize_t n = readlink("/proc/self/ns/pid", ret->pids, sizeof(ret->pids) - 1);

    ret->pids[n > 0 ? n : 0] = '\0';
    ret->host[sizeof(ret->host) - 1] = '\0';
    if (gethostname(ret->host, sizeof(ret->host) - 1) < 0) {
        ret->host[0] = '\0';
    }
    (void)read_text("/proc/sys/kernel/random/boot_id", ret->boot);
}
