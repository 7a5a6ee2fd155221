#include "backends/jupyter/records.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIRST_LINE "cellblock-kernels 1"
#define LAST_LINE "end"
#define PREFIX "jupyter-"

enum {
    TRIES = 8,
    ENTRIES_CAP = 4096, /* of the folder */
    NAME_DIGITS = 16,
    OLD_SECONDS = 30 * 24 * 3600, /* of a server that nobody has come back to */
};

struct records {
    char *url;
    struct strings kernels;
    int folder, fd; /* -1: there is no file */
    char name[64];
};

/* ---- the folder ---- */

/* A folder that only we can write to. */
static bool is_ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int checked(int fd)
{
    if (fd >= 0 && !is_ours(fd)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* One step down, out of `parent`, which is closed. */
static int step(int parent, const char *name, int flags, bool make)
{
    int fd;

    if (parent < 0) {
        return -1;
    }
    if (make) {
        (void)mkdirat(parent, name, 0700);
    }
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    close(parent);
    return checked(fd);
}

static int open_base(const char *variable)
{
    const char *path = getenv(variable);

    if (!path || path[0] != '/') {
        return -1;
    }
    return checked(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* The folder that ours is in; -1 when there is none. */
static int open_parent(bool make)
{
    int base = open_base("XDG_RUNTIME_DIR");

    return base >= 0 ? base : step(step(open_base("HOME"), ".local", 0, make), "state", 0, make);
}

static int open_folder(bool make)
{
    return step(open_parent(make), "cellblock", O_NOFOLLOW, make);
}

/* It goes with the last record. */
static void remove_folder(void)
{
    int parent = open_parent(false);

    if (parent >= 0) {
        (void)unlinkat(parent, "cellblock", AT_REMOVEDIR);
        close(parent);
    }
}

/* ---- words ---- */

static void host_name(char space[HOST_NAME_MAX + 1])
{
    if (gethostname(space, HOST_NAME_MAX) < 0) {
        space[0] = '\0';
    }
    space[HOST_NAME_MAX] = '\0';
}

static bool good_id(const char *id)
{
    size_t n = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n <= RECORD_ID_CAP && id[n] == '\0';
}

/* The address without "user:password@". */
static char *plain_url(const char *url)
{
    const char *start = strstr(url, "://");
    const char *end;
    const char *at = NULL;

    if (!start) {
        return strdup(url);
    }
    start += 3;
    end = start + strcspn(start, "/");
    for (const char *p = start; p < end; p++) {
        at = *p == '@' ? p : at;
    }
    return string_format("%.*s%s", (int)(start - url), url, at ? at + 1 : start);
}

/* ---- our own ---- */

struct records *records_new(const char *url)
{
    struct records *r = calloc(1, sizeof(*r));

    if (!r || !(r->url = plain_url(url))) {
        free(r);
        return NULL;
    }
    r->folder = r->fd = -1;
    return r;
}

const char *records_url(const struct records *r)
{
    return r->url;
}

static void close_file(struct records *r, bool remove)
{
    if (r->fd < 0) {
        return;
    }
    if (remove) {
        (void)unlinkat(r->folder, r->name, 0);
    }
    close(r->fd);
    close(r->folder);
    r->fd = r->folder = -1;
    if (remove) {
        remove_folder();
    }
}

/* Another one may have locked and removed it before we had locked it, or the folder. */
static bool try_file(struct records *r)
{
    uint64_t number = 0;
    struct stat st;

    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number)) {
        return false;
    }
    (void)snprintf(r->name, sizeof(r->name), PREFIX "%016llx", (unsigned long long)number);
    r->folder = open_folder(true);
    r->fd = r->folder >= 0 ? openat(r->folder, r->name,
                                    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)
                           : -1;
    if (r->fd >= 0 && flock(r->fd, LOCK_EX | LOCK_NB) == 0 && fstat(r->fd, &st) == 0 &&
        st.st_nlink == 1) {
        return true;
    }
    if (r->fd >= 0) {
        close_file(r, true);
    } else if (r->folder >= 0) {
        close(r->folder);
        r->folder = -1;
    }
    return false;
}

static char *record_text(const struct records *r, size_t *ret_size)
{
    char host[HOST_NAME_MAX + 1];
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);

    if (!out) {
        return NULL;
    }
    host_name(host);
    (void)fprintf(out, FIRST_LINE "\nhost %s\nserver %s\n", host, r->url);
    for (size_t i = 0; i < r->kernels.count; i++) {
        (void)fprintf(out, "kernel %s\n", r->kernels.list[i]);
    }
    (void)fputs(LAST_LINE "\n", out);
    return fclose(out) == 0 ? text : NULL;
}

/* In one write: killed between two system calls we leave a file that ends at its last line. */
static void write_record(struct records *r)
{
    size_t size = 0;
    char *text = record_text(r, &size);

    if (text && size <= RECORD_SIZE_CAP && pwrite(r->fd, text, size, 0) == (ssize_t)size) {
        (void)ftruncate(r->fd, (off_t)size);
    }
    free(text);
}

void records_add(struct records *r, const char *id)
{
    if (!good_id(id) || r->kernels.count >= RECORD_KERNELS_CAP) {
        return;
    }
    for (int i = 0; i < TRIES && r->fd < 0; i++) {
        (void)try_file(r);
    }
    strings_add(&r->kernels, id);
    if (r->fd >= 0) {
        write_record(r);
    }
}

void records_remove(struct records *r, const char *id)
{
    struct strings *k = &r->kernels;

    for (size_t i = 0; i < k->count; i++) {
        if (strcmp(k->list[i], id) == 0) {
            free(k->list[i]);
            k->list[i] = k->list[--k->count];
            k->list[k->count] = NULL;
            break;
        }
    }
    if (k->count == 0) {
        close_file(r, true);
    } else if (r->fd >= 0) {
        write_record(r);
    }
}

void records_free(struct records *r)
{
    if (!r) {
        return;
    }
    close_file(r, r->kernels.count == 0);
    strings_free(&r->kernels);
    free(r->url);
    free(r);
}

/* ---- those of the dead ---- */

static char *read_record(int fd)
{
    struct stat st;
    char *text;
    ssize_t n;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1 ||
        (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 || st.st_size > RECORD_SIZE_CAP) {
        return NULL;
    }
    text = malloc((size_t)st.st_size + 1);
    n = text ? pread(fd, text, (size_t)st.st_size, 0) : -1;
    if (n < 0 ||
        strnlen(text, (size_t)n) != (size_t)n) { // NOLINT(clang-analyzer-core.CallAndMessage)
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static bool line_is(const char *line, const char *word, const char *value)
{
    size_t n = strlen(word);
    return line && strncmp(line, word, n) == 0 && strcmp(line + n, value) == 0;
}

/* True for a whole record of this host and server; all else is none of our business. */
static bool parse_record(char *text, const char *url, struct strings *kernels)
{
    char host[HOST_NAME_MAX + 1];
    char *rest = NULL;
    char *line;

    host_name(host);
    if (!line_is(strtok_r(text, "\n", &rest), FIRST_LINE, "") || !host[0] ||
        !line_is(strtok_r(NULL, "\n", &rest), "host ", host) ||
        !line_is(strtok_r(NULL, "\n", &rest), "server ", url)) {
        return false;
    }
    while ((line = strtok_r(NULL, "\n", &rest))) {
        if (strcmp(line, LAST_LINE) == 0) {
            return true;
        }
        if (strncmp(line, "kernel ", 7) != 0 || !good_id(line + 7) ||
            kernels->count >= RECORD_KERNELS_CAP) {
            return false;
        }
        strings_add(kernels, line + 7);
    }
    return false;
}

/* Of one that was killed before it had written, or will try again; or too old. */
static bool is_useless(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           (st.st_size == 0 || time(NULL) - st.st_mtime > OLD_SECONDS);
}

/* Nobody holds it, and it is a record of this server? */
static bool take_left(int folder, const char *name, const char *url, struct record_left *left)
{
    struct strings kernels = {0};
    int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool held = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    char *text = held ? read_record(fd) : NULL;

    if (text && parse_record(text, url, &kernels) && strings_ok(&kernels) == 0) {
        *left = (struct record_left){
            .folder = fcntl(folder, F_DUPFD_CLOEXEC, 3), .fd = fd, .kernels = kernels};
        (void)snprintf(left->name, sizeof(left->name), "%.60s", name);
        free(text);
        return true;
    }
    if (held && is_useless(fd)) {
        (void)unlinkat(folder, name, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    strings_free(&kernels);
    free(text);
    return false;
}

static bool is_record(const char *name)
{
    size_t n = strlen(PREFIX);
    return strncmp(name, PREFIX, n) == 0 && strspn(name + n, "0123456789abcdef") == NAME_DIGITS &&
           name[n + NAME_DIGITS] == '\0';
}

unsigned records_left(const char *url, struct record_left left[RECORDS_LEFT_CAP])
{
    int folder = open_folder(false);
    int again = folder >= 0 ? fcntl(folder, F_DUPFD_CLOEXEC, 3) : -1;
    DIR *entries = again >= 0 ? fdopendir(again) : NULL;
    char *plain = plain_url(url);
    const struct dirent *entry;
    unsigned count = 0;

    for (int i = 0; entries && plain && i < ENTRIES_CAP && count < RECORDS_LEFT_CAP; i++) {
        if (!(entry = readdir(entries))) {
            break;
        }
        if (is_record(entry->d_name) && take_left(folder, entry->d_name, plain, &left[count])) {
            count++;
        }
    }
    if (entries) {
        closedir(entries);
    } else if (again >= 0) {
        close(again);
    }
    if (folder >= 0) {
        close(folder);
    }
    free(plain);
    return count;
}

void record_left_close(struct record_left *left, bool gone)
{
    if (gone) {
        (void)unlinkat(left->folder, left->name, 0);
    }
    close(left->fd);
    close(left->folder);
    strings_free(&left->kernels);
    if (gone) {
        remove_folder();
    }
}
