#ifndef CELLBLOCK_BASE_LOG_H
#define CELLBLOCK_BASE_LOG_H

/*
 * The program's log: one line a message on stderr, non-blocking and capped, so that a host that
 * never reads our stderr cannot stop us; lines that do not fit are dropped and counted, and the
 * count is told when there is room again. Library code (base/, backends/) reports through errors
 * and events and logs only what has no caller to tell: a leftover that could not be removed, say.
 *
 * Never log whole arguments, code, output or secrets.
 *
 * The levels are those of RFC 5424 that MCP uses.
 */
enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_CRITICAL,
    LOG_LEVEL_ALERT,
    LOG_LEVEL_EMERGENCY,
};

struct log;

/* Writes to `fd` (not closed by the log), messages at `level` and above. NULL when out of memory.
 */
struct log *log_new(int fd, enum log_level level);
void log_free(struct log *log);

/* A NULL log swallows everything. */
void log_write(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "debug" … "emergency" → level; -EINVAL for any other word, *ret untouched. */
int log_level_parse(const char *name, enum log_level *ret);
const char *log_level_name(enum log_level level);

#endif
