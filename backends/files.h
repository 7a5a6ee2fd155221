#ifndef CELLBLOCK_FILES_H
#define CELLBLOCK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/error.h"

/*
 * Files of a session's sandbox: one request, one reply, beside whatever runs there.
 *
 * A path is a C string of bytes other than NUL, absolute or from the working directory
 * (/workspace). It is resolved in the sandbox's own root as its user: a link leads where it leads
 * for the code there, never out of the sandbox. Where the last part of a path is a link, FILE_STAT,
 * FILE_REMOVE, FILE_COPY and FILE_MOVE mean the link itself; FILE_READ follows it; FILE_WRITE
 * replaces what it leads to (as a shell's > would).
 *
 * Only regular files are read and written: a FIFO, a device or a socket is ERROR_INVALID at once
 * and never opened. No operation waits behind a run, and none leaves anything in a run's namespace.
 *
 * Failures say what and where, and are of these kinds: ERROR_NOT_FOUND (nothing there),
 * ERROR_REFUSED (its permissions, a read-only file system), ERROR_INVALID (a directory where a file
 * is expected and the reverse, something is there already, a directory is not empty, a name too
 * long, too many links), ERROR_LIMIT (no space, past a cap below), ERROR_LOST (the sandbox went
 * away), ERROR_TIMEOUT.
 */
enum {
    FILE_PATH_CAP = 4095,             /* bytes of a path */
    FILE_READ_CAP = 8 * 1024 * 1024,  /* bytes of one FILE_READ */
    FILE_WRITE_CAP = 8 * 1024 * 1024, /* bytes of one FILE_WRITE */
    FILE_LIST_CAP = 20000,            /* entries of one FILE_LIST */
    FILE_NAMES_CAP = 4 * 1024 * 1024, /* bytes of all names and targets of one FILE_LIST */
    FILE_DEPTH_CAP = 64,              /* of folders below the one that is listed, copied, removed */
    FILE_COPY_FILES_CAP = 100000,     /* files of one FILE_COPY or FILE_REMOVE */
};

enum file_op {
    FILE_STAT,
    FILE_LIST,   /* entries of a directory, sorted by name in the order of bytes; not . and .. */
    FILE_READ,   /* from `offset`, at most `length` bytes (and FILE_READ_CAP); fewer at the end */
    FILE_WRITE,  /* the whole file is there or the old one: written beside and renamed, unless
                  * `append`. Missing parents are made */
    FILE_MKDIR,  /* and its missing parents; one that is there is fine */
    FILE_REMOVE, /* a directory with something in it only with `recursive` */
    FILE_COPY, /* a file, or with `recursive` a tree; links are copied as links, anything else than
                * files, folders and links is ERROR_INVALID. Times and modes are kept */
    FILE_MOVE, /* rename(2), or copy and remove between file systems */
};

enum file_type { FILE_REGULAR, FILE_DIRECTORY, FILE_SYMLINK, FILE_OTHER };

struct file_request {
    enum file_op op;
    const char *path;
    const char *dest; /* COPY, MOVE: the new name itself, not a folder to put it into */
    uint64_t offset;
    uint64_t length;
    const void *bytes; /* WRITE; `size` of them */
    size_t size;
    bool append;
    bool recursive; /* LIST, REMOVE, COPY */
    bool replace;   /* COPY, MOVE: what is at dest may be replaced, a whole tree as well; else
                     * ERROR_INVALID */
    int mode; /* WRITE, MKDIR: permissions, 0 to 0777; -1: those of the old file, or 0644, 0755 */
    size_t limit; /* LIST: entries at most, up to FILE_LIST_CAP */
};

struct file_entry {
    char *name; /* LIST: from the listed directory on ("sub/a.txt"), bytes as they are */
    enum file_type type;
    unsigned mode;    /* permissions only, 0 to 07777 */
    uint64_t size;    /* of a regular file in bytes, of a link the length of its target; else 0 */
    int64_t mtime_ns; /* since 1970 */
    char *target;     /* of a link, as far as it could be read; else NULL */
};

struct file_reply {
    struct file_entry entry; /* STAT, READ: the file's; WRITE, MKDIR, COPY, MOVE: of what is there
                              * now; name is NULL */
    struct file_entry *entries; /* LIST: `count` of them */
    size_t count;
    bool more;   /* LIST: there are more than the limit, or some are nested past FILE_DEPTH_CAP */
    char *bytes; /* READ: `size` of them */
    size_t size;
};

void file_reply_deinit(struct file_reply *reply);

/* Checks what can be checked without a sandbox: path and dest (not empty, no longer than the cap),
 * caps, mode. -1 with ERROR_INVALID or ERROR_LIMIT that says what is allowed. */
int file_request_check(const struct file_request *request, struct error *err);

/* "file", "directory", "symlink", "other" */
const char *file_type_name(enum file_type type);

/* A name or path as a line of text that is unambiguous: printable UTF-8 as it is, a backslash
 * doubled, and each byte of what is a control character, no UTF-8 or invisible as \xHH (\n, \r and
 * \t as these). To be freed; NULL when out of memory. */
char *file_name_text(const char *name);
/* The name or path that such a line stands for; what is no escape is itself. 0 and *ret, to be
 * freed, or -1 with ERROR_INVALID: a backslash that begins no escape, a NUL. */
int file_name_parse(const char *text, char **ret, struct error *err);

enum { FILE_TEMPORARY_SIZE = 40 };
/* A name that nobody can guess, for what is not in place yet: ".cellblock-" and digits. 0 or -EIO.
 */
int file_temporary_name(char ret[FILE_TEMPORARY_SIZE]);

/* The reply is the caller's to read until this returns; with an error it is NULL. */
typedef void (*file_done)(void *data, const struct file_reply *reply, const struct error *err);

#endif
