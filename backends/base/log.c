#include "backends/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 1024 }; /* below PIPE_BUF: a pipe takes a whole line or nothing */

struct log {
    int fd;
    enum log_level level;
    unsigned long dropped;
};

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",   [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_NOTICE] = "notice", [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_ERROR] = "error",   [LOG_LEVEL_CRITICAL] = "critical",
    [LOG_LEVEL_ALERT] = "alert",   [LOG_LEVEL_EMERGENCY] = "emergency",
};

enum { LEVEL_COUNT = sizeof(level_names) / sizeof(level_names[0]) };

struct log *log_new(int fd, enum log_level level)
{
    struct log *log = calloc(1, sizeof(*log));
    if (log) {
        log->fd = fd;
        log->level = level;
    }
    return log;
}

void log_free(struct log *log)
{
    free(log);
}

/*
 * Never waits, and never sets O_NONBLOCK: stderr is shared with other processes, and the flag
 * belongs to the open file, not to us. A pipe that polls writable takes PIPE_BUF bytes at once.
 */
static bool write_now(int fd, const char *line, size_t size)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    ssize_t n = send(fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK) {
        if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)) {
            return false;
        }
        n = write(fd, line, size);
    }
    return n == (ssize_t)size;
}

/* A message is one line whatever is in it. Bytes from 0x80 up are UTF-8 and stay. */
static void flatten(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
}

static bool write_line(const struct log *log, enum log_level level, const char *text)
{
    char line[LINE_MAX_SIZE];
    int n = snprintf(line, sizeof(line), "cellblock: %s: %s\n", level_names[level], text);

    if (n < 0) {
        return false;
    }
    if ((size_t)n >= sizeof(line)) {
        memcpy(line + sizeof(line) - sizeof(" …\n"), " …\n", sizeof(" …\n"));
        n = sizeof(line) - 1;
    }
    return write_now(log->fd, line, (size_t)n);
}

static bool tell_dropped(struct log *log)
{
    char text[64];

    if (log->dropped == 0) {
        return true;
    }
    (void)snprintf(text, sizeof(text), "%lu log lines were dropped", log->dropped);
    if (!write_line(log, LOG_LEVEL_WARNING, text)) {
        return false;
    }
    log->dropped = 0;
    return true;
}

void log_write(struct log *log, enum log_level level, const char *format, ...)
{
    char text[LINE_MAX_SIZE];
    va_list args;

    if (!log || level < log->level || (int)level >= LEVEL_COUNT) {
        return;
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    flatten(text);
    if (!tell_dropped(log) || !write_line(log, level, text)) {
        log->dropped++;
    }
}

int log_level_parse(const char *name, enum log_level *ret)
{
    for (int i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(level_names[i], name) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
    return (int)level < LEVEL_COUNT ? level_names[level] : "unknown";
}
