#ifndef CELLBLOCK_MCP_ROOTS_H
#define CELLBLOCK_MCP_ROOTS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "backends/base/error.h"

/*
 * The folders that a legacy client offers. It is asked once, when the first call wants to know, and
 * again after it has said that they changed.
 */
enum {
    ROOTS_LIMIT_MS = 5000,
    ROOTS_CAP = 64, /* roots beyond are left out */
};

struct roots;

/* `send` is given roots/list requests to pass on. NULL when out of memory. */
struct roots *roots_new(uv_loop_t *loop, void (*send)(void *data, json_t *request_owned),
                        void *data);

/* Has the client declared the capability? Without it nobody is asked and there are none. */
void roots_enable(struct roots *r, bool enable);

/* `done` is called once, never before this returns: with a borrowed array of paths, or with an
 * error. With `ask` false (a modern request) the array is empty. */
void roots_ask(struct roots *r, bool ask,
               void (*done)(void *data, const json_t *paths, const struct error *err), void *data);

/* A response of the client; `result` is NULL for an error. Ignored when it answers no question of
 * ours. */
void roots_answer(struct roots *r, const json_t *id, const json_t *result);

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
