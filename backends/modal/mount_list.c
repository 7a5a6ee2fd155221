#include "backends/modal/mount_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/net/source.h"
#include "backends/base/strings.h"
#include "backends/modal/mount_internal.h"

struct mount_list *mount_list_new(void)
{
    return calloc(1, sizeof(struct mount_list));
}

void mount_list_free(struct mount_list *list)
{
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        free(list->files[i].path);
    }
    free(list->files);
    free(list);
}

char *mount_file_dest(const struct share *share, const struct mount_file *file)
{
    return string_format("%s%s%s", share->dest, *file->path ? "/" : "", file->path);
}

/* ---- opening ---- */

static const char *name_of(const struct mount_file *file)
{
    return *file->path ? file->path : "the file";
}

static int fail_changed(const struct share *share, const struct mount_file *file, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "mounting %s: %s changed while it was uploaded; mount it when nothing writes "
                     "it any more",
                     share->source, name_of(file));
}

int mount_unchanged(const struct share *share, const struct mount_file *file, int fd,
                    struct error *err)
{
    struct mount_facts facts;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return error_set_code(err, ERROR_INTERNAL, errno, "mounting %s: %s", share->source,
                              name_of(file));
    }
    mount_facts_of(&st, &facts);
    return S_ISREG(st.st_mode) && mount_facts_equal(&facts, &file->facts)
               ? 0
               : fail_changed(share, file, err);
}

static int open_it(const struct share *share, const struct mount_file *file, struct error *err)
{
    int fd;

    if (!*file->path) {
        return source_open(share, err);
    }
    /* O_NONBLOCK: what has become a FIFO meanwhile must not hold us. */
    fd = mount_open_below(share->fd, file->path, O_RDONLY | O_NONBLOCK);
    if (fd == -EACCES || fd == -EPERM) {
        return error_set(err, ERROR_REFUSED,
                         "mounting %s: the server's user (uid %u) may not read %s: allow it "
                         "(chmod), or leave it out",
                         share->source, (unsigned)geteuid(), file->path);
    }
    return fd < 0 ? error_set_code(err, ERROR_INVALID, fd, "mounting %s: %s", share->source,
                                   file->path)
                  : fd;
}

int mount_open(const struct share *share, const struct mount_file *file, struct error *err)
{
    struct source_rights before;
    int fd;

    source_lay_down(&before);
    fd = open_it(share, file, err);
    source_take_up(&before);
    if (fd >= 0 && mount_unchanged(share, file, fd, err) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* ---- hashing ---- */

static bool is_blob(const struct mount_file *file)
{
    return file->facts.size >= MOUNT_INLINE_CAP;
}

/* Milliseconds of the wall clock. */
static int64_t in_ms(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

static bool is_settled(const struct mount_facts *facts, const struct timespec *now)
{
    return in_ms(&facts->mtime) + MOUNT_SETTLED_MS < in_ms(now) &&
           in_ms(&facts->ctime) + MOUNT_SETTLED_MS < in_ms(now);
}

static int begin_file(struct mount_hashing *h, const struct share *share, struct mount_file *file,
                      struct error *err)
{
    struct timespec now;

    h->fd = mount_open(share, file, err);
    if (h->fd < 0) {
        h->fd = -1;
        return -1;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    file->settled = is_settled(&file->facts, &now);
    h->offset = 0;
    SHA256Init(&h->sha256);
    MD5Init(&h->md5);
    return 0;
}

static int end_file(struct mount_hashing *h, const struct share *share, struct mount_file *file,
                    struct error *err)
{
    int r = mount_unchanged(share, file, h->fd, err);

    (void)close(h->fd);
    h->fd = -1;
    SHA256Final(file->sha256, &h->sha256);
    MD5Final(file->md5, &h->md5);
    file->hashed = r == 0;
    h->next++;
    return r;
}

/* What is left of the file, or `budget` bytes of it. */
static int read_some(struct mount_hashing *h, const struct share *share, struct mount_file *file,
                     void *space, uint64_t *budget, struct error *err)
{
    while (*budget > 0 && h->offset < file->facts.size) {
        ssize_t n = pread(h->fd, space, MOUNT_PIECE, (off_t)h->offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_set_code(err, ERROR_INVALID, errno, "mounting %s: %s", share->source,
                                  name_of(file));
        }
        if (n == 0 || (uint64_t)n > file->facts.size - h->offset) {
            return fail_changed(share, file, err);
        }
        SHA256Update(&h->sha256, space, (size_t)n);
        if (is_blob(file)) {
            MD5Update(&h->md5, space, (size_t)n);
        }
        h->offset += (uint64_t)n;
        h->bytes += (uint64_t)n;
        *budget -= (uint64_t)n < *budget ? (uint64_t)n : *budget;
    }
    return 0;
}

/* A file costs more than its bytes: so many of them count for its opening. */
enum { FILE_COST = 32 * 1024 };

static int hash_some(struct mount_hashing *h, struct mount_list *list, const struct share *share,
                     void *space, struct error *err)
{
    uint64_t budget = MOUNT_HASH_STEP;

    while (budget > 0 && h->next < list->count) {
        struct mount_file *file = &list->files[h->next];

        if (file->hashed) {
            h->next++;
            h->bytes += file->facts.size;
            continue;
        }
        if ((h->fd < 0 && begin_file(h, share, file, err) < 0) ||
            read_some(h, share, file, space, &budget, err) < 0) {
            return -1;
        }
        if (h->offset == file->facts.size && end_file(h, share, file, err) < 0) {
            return -1;
        }
        budget -= budget < FILE_COST ? budget : FILE_COST;
    }
    return h->next == list->count;
}

int mount_hash(struct mount_hashing *h, struct mount_list *list, const struct share *share,
               struct error *err)
{
    void *space = malloc(MOUNT_PIECE);
    int r = space ? hash_some(h, list, share, space, err)
                  : error_set(err, ERROR_INTERNAL, "mounting %s: out of memory", share->source);

    free(space);
    return r;
}

void mount_hashing_deinit(struct mount_hashing *h)
{
    if (h->fd >= 0) {
        (void)close(h->fd);
        h->fd = -1;
    }
}

/* ---- a small file ---- */

static int read_all(int fd, char *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

/* What is sent is what was hashed. */
static bool has_hash(const struct mount_file *file, const void *bytes)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA2_CTX context;

    SHA256Init(&context);
    SHA256Update(&context, bytes, (size_t)file->facts.size);
    SHA256Final(digest, &context);
    return memcmp(digest, file->sha256, sizeof(digest)) == 0;
}

void *mount_read(const struct share *share, const struct mount_file *file, struct error *err)
{
    int fd = mount_open(share, file, err);
    void *bytes = fd < 0 ? NULL : malloc((size_t)file->facts.size + 1);

    if (fd < 0) {
        return NULL;
    }
    if (!bytes) {
        error_set(err, ERROR_INTERNAL, "mounting %s: out of memory", share->source);
    } else if (read_all(fd, bytes, (size_t)file->facts.size) < 0 || !has_hash(file, bytes)) {
        fail_changed(share, file, err);
        free(bytes);
        bytes = NULL;
    }
    (void)close(fd);
    return bytes;
}
