#ifndef CELLBLOCK_TESTS_TAR_TRIAL_H
#define CELLBLOCK_TESTS_TAR_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "backends/base/buffer.h"
#include "backends/base/net/tar.h"

/* A folder of the test's own, and a taker of what a tar writer makes of it. */

enum { KEEP_CAP = 64 * 1024 * 1024, LIMIT_MS = 20000 };

/* A loop, a writer on it, and what its taker got. */
struct taker {
    uv_loop_t loop;
    struct tar_writer *writer;
    struct share *share;
    struct buffer kept;
    uint64_t size;   /* of all pieces */
    unsigned pieces; /* so many came */
    unsigned hold;   /* from this piece on none is asked for any more; 0: never */
    bool discard;    /* only counted */
    bool close_in_piece;
    unsigned ended, closed;
    struct error err;
};

/* What a test has: a folder of its own, and the taker. */
struct scene {
    char top[64];
    int dir;
    struct taker taker;
};

int set_up(void **state);
int tear_down(void **state);
void put_file(int dir, const char *name, const char *text, mode_t mode);
void put_sparse(int dir, const char *name, off_t size);
struct share *share_of(struct scene *s, const char *name);
void begin(struct scene *s, const char *name, const struct tar_options *options);

/* Turns the loop until *count is `want`, or for `limit_ms`. */
void turn(struct taker *t, const unsigned *count, unsigned want, unsigned limit_ms);
void finish(struct taker *t);

/* All of `name`, kept. */
void take_all(struct scene *s, const char *name, const struct tar_options *options);

/* `name` must end in an error of this kind with `part` in it. */
void assert_fails(struct scene *s, const char *name, const struct tar_options *options,
                  enum error_kind kind, const char *part);

struct found {
    mode_t mode;
    int64_t size, uid, gid, mtime;
    long mtime_ns;
    char link[PATH_MAX];
    char text[64];
    unsigned count;
};

/* Finds the entry `name`; its count is 0 when it is not there. */
void find(const void *bytes, size_t size, const char *name, struct found *f);
void find_kept(struct scene *s, const char *name, struct found *f);

/* Unpacks it with another program into the folder `to`. */
void unpack(struct scene *s, const char *program, const char *to);

#endif
