#ifndef CELLBLOCK_TESTS_LOCAL_FILES_TRIAL_H
#define CELLBLOCK_TESTS_LOCAL_FILES_TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "backends/local/files_do.h"
#include "backends/local/user.h"

/* Operations on the files of a root that belongs to somebody else. */

enum { LIMIT = 1000 }; /* of entries and bytes, where a test names none */

/* A sandbox's root, and a folder of the host's beside it, both of the sandbox's user. */
struct trial {
    struct sandbox_user user;
    char top[64];
    int root, workspace, outside;
    struct file_job job;
    struct file_reply reply;
    struct error err;
};

void put(int dir, const char *name, const char *text, mode_t mode);
int folder(int dir, const char *name);
int set_up(void **state);
int tear_down(void **state);
/* What kind of error it comes to; the rest is in t->reply and t->err. */
enum error_kind ask(struct trial *t, struct file_request request);
enum error_kind simple(struct trial *t, enum file_op op, const char *path);
enum error_kind recursive(struct trial *t, enum file_op op, const char *path);
enum error_kind pair(struct trial *t, enum file_op op, const char *path, const char *dest);
enum error_kind replacing(struct trial *t, enum file_op op, const char *path, const char *dest);
enum error_kind read_from(struct trial *t, const char *path, uint64_t offset, uint64_t length);
enum error_kind write_to(struct trial *t, const char *path, const char *text);
void assert_reads(struct trial *t, const char *path, const char *text);
void assert_lists(struct trial *t, const char *path, const char *const *names);
/* The error's message. */
bool mentions(const struct trial *t, const char *words);
/* How many there are in a folder. */
unsigned entries_of(int dir);

#endif
