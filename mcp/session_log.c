#include "mcp/session_log.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/text.h"

void session_log_deinit(struct session_log *log)
{
    free(log->ring);
    *log = (struct session_log){0};
}

void session_log_append(struct session_log *log, const char *bytes, size_t size)
{
    size_t first;

    if (!log->ring && !(log->ring = malloc(SESSION_LOG_CAP))) {
        return;
    }
    if (size > SESSION_LOG_CAP) {
        bytes += size - SESSION_LOG_CAP;
        size = SESSION_LOG_CAP;
    }
    first = SESSION_LOG_CAP - log->next < size ? SESSION_LOG_CAP - log->next : size;
    memcpy(log->ring + log->next, bytes, first);
    memcpy(log->ring, bytes + first, size - first);
    log->next = (log->next + size) % SESSION_LOG_CAP;
    log->count = log->count + size < SESSION_LOG_CAP ? log->count + size : SESSION_LOG_CAP;
}

/* The number of bytes that the last `lines` lines have; a line end at the very end ends the last of
 * them. */
static size_t tail_size(const char *text, size_t size, size_t lines)
{
    size_t at = size > 0 && text[size - 1] == '\n' ? size - 1 : size;

    while (at > 0) {
        if (text[at - 1] == '\n' && --lines == 0) {
            break;
        }
        at--;
    }
    return size - at;
}

json_t *session_log_tail(const struct session_log *log, size_t lines, size_t limit)
{
    size_t start = (log->next + SESSION_LOG_CAP - log->count) % SESSION_LOG_CAP, size = 0;
    char *whole = log->count && lines ? malloc(log->count) : NULL;
    struct text text;
    bool cut = false;
    json_t *tail;

    if (!whole) {
        return log->count && lines ? NULL : json_string("");
    }
    for (; size < log->count; size++) {
        whole[size] = log->ring[(start + size) % SESSION_LOG_CAP];
    }
    size = tail_size(whole, size, lines);
    text = text_of(whole + log->count - size, size);
    tail = text_render(&text, limit, TEXT_TAIL_MOST, &cut);
    free(whole);
    return tail;
}
