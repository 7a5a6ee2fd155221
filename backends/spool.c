#include "backends/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void spool_init(struct spool *s, struct machine *machine, bool there)
{
    *s = (struct spool){.machine = machine, .there = there, .fd = -1};
    s->here = machine && !there && !machine->place->ops->machine_spool_open;
    buffer_init(&s->head, RUN_SPOOL_AFTER);
}

static void close_file(struct spool *s)
{
    if (s->fd >= 0) {
        (void)close(s->fd);
        s->fd = -1;
    }
}

/* A file that is here is still needed. */
static void end_keeping(struct spool *s)
{
    s->over = true;
    if (!s->here) {
        close_file(s);
    }
    buffer_deinit(&s->head);
}

void spool_deinit(struct spool *s)
{
    end_keeping(s);
    close_file(s);
    free(s->path);
    s->path = NULL;
}

/* No name: nothing is left behind, however we end. */
static int open_here(struct spool *s)
{
    const char *folder = getenv("TMPDIR");

    s->fd =
        open(folder && folder[0] == '/' ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return s->fd < 0 ? -errno : 0;
}

/* The sandbox's code owns the folder: whatever it put there, only a plain file is written to. */
static int open_file(struct spool *s)
{
    struct stat st;
    int fd;
    int r = s->machine->place->ops->machine_spool_open(s->machine, s->path, &fd);

    if (r < 0) {
        return r;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return -EINVAL;
    }
    s->fd = fd;
    return 0;
}

/* The path that is told is the one that the code can open. */
static int name_as_seen(struct spool *s)
{
    const struct place_ops *ops = s->machine->place->ops;
    const char *folder = ops->machine_folder ? ops->machine_folder(s->machine) : NULL;
    char *seen = NULL;

    if (!folder) {
        return 0;
    }
    if (asprintf(&seen, "%s%s", folder, s->path) < 0) {
        return -ENOMEM;
    }
    free(s->path);
    s->path = seen;
    return 0;
}

static int name_file(struct spool *s, const char *run, enum stream stream)
{
    const char *suffix = stream == STREAM_STDOUT ? "stdout" : "stderr";

    if (asprintf(&s->path, RUN_OUTPUT_FOLDER "/%s.%s", run, suffix) < 0) {
        s->path = NULL;
        return -ENOMEM;
    }
    return 0;
}

static int start_file(struct spool *s, const char *run, enum stream stream)
{
    int r = name_file(s, run, stream);

    if (r < 0) {
        return r;
    }
    r = s->here ? open_here(s) : open_file(s);
    if (r == 0 && !s->here) {
        r = name_as_seen(s);
    }
    if (r < 0) {
        free(s->path);
        s->path = NULL;
    }
    return r;
}

static void write_out(struct spool *s, const char *bytes, size_t size)
{
    uint64_t left = RUN_SPOOL_CAP - s->kept;

    if (size > left) {
        size = (size_t)left;
    }
    while (size > 0) {
        ssize_t n = write(s->fd, bytes, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            end_keeping(s);
            return;
        }
        s->kept += (uint64_t)n;
        bytes += n;
        size -= (size_t)n;
    }
    if (s->kept == RUN_SPOOL_CAP) {
        end_keeping(s);
    }
}

void spool_write(struct spool *s, const char *run, enum stream stream, const char *bytes,
                 size_t size)
{
    s->total += size;
    if (s->over || s->there || !s->machine || size == 0) {
        return;
    }
    if (s->fd < 0) {
        if (buffer_append(&s->head, bytes, size) == 0) {
            return;
        }
        if (start_file(s, run, stream) < 0) {
            end_keeping(s);
            return;
        }
        write_out(s, buffer_data(&s->head), buffer_size(&s->head));
        buffer_deinit(&s->head);
    }
    if (!s->over) {
        write_out(s, bytes, size);
    }
}

void spool_skip(struct spool *s, uint64_t bytes)
{
    s->total += bytes;
}

void spool_kept_there(struct spool *s, const char *run, enum stream stream, uint64_t bytes)
{
    if (!s->there || !s->machine || s->over || bytes > s->total || bytes > RUN_SPOOL_CAP ||
        s->total <= RUN_SPOOL_AFTER) {
        return;
    }
    end_keeping(s);
    if (name_file(s, run, stream) == 0) {
        s->kept = bytes;
    }
}

bool spool_is_here(const struct spool *s)
{
    return s->here && s->fd >= 0 && s->kept > 0;
}

int spool_source(const struct spool *s)
{
    char path[64];
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
    fd = open(path, O_PATH | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void spool_was_lost(struct spool *s)
{
    s->kept = 0;
}

void spool_finish(struct spool *s, bool gone, struct full_output *ret)
{
    *ret = (struct full_output){.total = s->total};
    if (!gone && s->kept > 0 && ((!s->here && !s->there) || name_as_seen(s) == 0)) {
        ret->path = s->path;
        ret->kept = s->kept;
        s->path = NULL;
    }
    spool_deinit(s);
}
