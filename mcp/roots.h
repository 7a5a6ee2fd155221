#ifndef CELLBLOCK_MCP_ROOTS_H
#define CELLBLOCK_MCP_ROOTS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "backends/base/error.h"
#include "mcp/client_request.h"

/*
 * The folders that a legacy client offers. It is asked once, when the first call wants to know, and
 * again after it has said that they changed.
 */
enum {
    ROOTS_LIMIT_MS = 5000,
    ROOTS_CAP = 64, /* roots beyond are left out */
};

struct roots;

/* Asks with `requests`, which is stopped and closed when this is. NULL when out of memory. */
struct roots *roots_new(uv_loop_t *loop, struct client_requests *requests);

/* Has the client declared the capability? Without it nobody is asked and there are none. */
void roots_enable(struct roots *r, bool enable);

/* `done` is called once, never before this returns: with a borrowed array of paths, or with an
 * error. With `ask` false (a modern request) the array is empty. */
void roots_ask(struct roots *r, bool ask,
               void (*done)(void *data, const json_t *paths, const struct error *err), void *data);

/* notifications/roots/list_changed. */
void roots_changed(struct roots *r);

/* The client answers nothing any more: who waits is told an error. */
void roots_stop(struct roots *r);

/* After roots_stop. Who still waits is told before `closed` is. */
void roots_close(struct roots *r, void (*closed)(void *data), void *data);

/* "file:///home/me/My%20Data" → "/home/me/My Data" as a JSON string; NULL for what is no local
 * absolute path. */
json_t *roots_path(const char *uri);

#endif
