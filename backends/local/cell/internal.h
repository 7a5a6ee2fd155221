#ifndef CELLBLOCK_CELL_INTERNAL_H
#define CELLBLOCK_CELL_INTERNAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "backends/local/cell/cell.h"

/* What the parts of libcell share. Functions answer 0 or -errno; *step names what was being done,
 * static text, for the report. */

struct cell {
    const struct cell_spec *spec;
    const char *paths; /* spec->paths_size bytes */
    int fds[CELL_FD_COUNT];
    const char *step;
};

/* The path of the entry, which has letter `kind`; calls `each` for every entry of the list. */
int cell_each_path(const struct cell *cell, int (*each)(void *data, char kind, const char *path),
                   void *data);

/* mounts.c: maps the user, then builds the cell's own root from the zygote's and enters it. */
int cell_enter_namespaces(struct cell *cell);

/* walls.c: what the worker does to itself, in this order; there is no way back. */
int cell_raise_walls(struct cell *cell);
/* Drops every capability, from the bounding set too. */
int cell_drop_capabilities(void);

/* calls.c: names of system calls, NULL-terminated. */
extern const char *const cell_calls_allowed[];
extern const char *const cell_calls_refused[];

/* seccomp.c */
int cell_filter_prepare(void);
int cell_filter_load(unsigned flags); /* enum cell_flag */

/* watch.c: the memory (and, with CELL_WATCH_DISK, the files) of the cell, in bytes. */
struct cell_usage {
    unsigned long long memory;
    unsigned long long disk;
    unsigned long long files;
};
void cell_measure(const struct cell *cell, struct cell_usage *ret);
/* SIGKILL to every process of the cell but the caller. */
void cell_kill_all(const struct cell *cell);

/* init.c: the cell init's life. Never returns. */
_Noreturn void cell_init_run(struct cell *cell, pid_t worker);
void cell_report(int status_fd, const struct cell_report *report);
_Noreturn void cell_fail(const struct cell *cell, int code);

#endif
