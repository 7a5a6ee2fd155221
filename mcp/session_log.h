#ifndef CELLBLOCK_MCP_SESSION_LOG_H
#define CELLBLOCK_MCP_SESSION_LOG_H

#include <jansson.h>
#include <stddef.h>

/*
 * The last of what a session printed while no run was going: a ring of SESSION_LOG_CAP bytes, both
 * streams as they came, that takes no memory before the first byte.
 */
enum { SESSION_LOG_CAP = 64 * 1024 };

struct session_log {
    char *ring;
    size_t next;  /* where the next byte goes */
    size_t count; /* bytes that are there */
};

void session_log_deinit(struct session_log *log);
/* Never fails: what finds no memory is dropped. */
void session_log_append(struct session_log *log, const char *bytes, size_t size);
/* The last `lines` lines as a JSON string of valid UTF-8, cut to `limit` bytes in a result; NULL
 * when out of memory. */
json_t *session_log_tail(const struct session_log *log, size_t lines, size_t limit);

#endif
