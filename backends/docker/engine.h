#ifndef CELLBLOCK_DOCKER_ENGINE_H
#define CELLBLOCK_DOCKER_ENGINE_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/base/net/http.h"
#include "backends/docker/context.h"

/*
 * The Engine API, as far as every part of the place needs it: finding the engine, agreeing on a
 * version, JSON calls and streams of JSON lines.
 *
 * What holds for every operation: no callback before the start function has returned, and exactly
 * one completion, also when it could not be started at all.
 */
struct engine;

enum {
    ENGINE_API_MINOR = 44,       /* the newest 1.x that was read; theirs when that is older */
    ENGINE_API_MINOR_LEAST = 40, /* mounts, init, events as they are used here */
    ENGINE_CALL_MS = 30 * 1000,
    ENGINE_LINE_CAP = 256 * 1024, /* of one line in a stream of JSON */
};

struct engine_facts {
    char version[64]; /* "20.10.24" */
    int api_minor;    /* that is used: 1.41 → 41 */
    bool podman;
    bool remote;
    char name[300]; /* for people: "Docker 20.10.24 at unix:///var/run/docker.sock (found)" */
};

/* Looks for nothing yet. NULL when out of memory. `env` is borrowed. */
struct engine *engine_new(uv_loop_t *loop, const struct environment *env);
/* Calls that go on are completed (as lost) before `closed`. */
void engine_close(struct engine *engine, void (*closed)(void *data), void *data);

typedef void (*engine_done)(void *data, const struct error *err);
/* Finds the engine and agrees on a version; at once when that was done before and it still
 * answered the last time. Any number may ask at the same time. */
void engine_connect(struct engine *engine, engine_done done, void *data);
/* NULL until connected. */
const struct engine_facts *engine_facts(const struct engine *engine);

struct engine_call {
    const char *method;
    char *path;          /* "/containers/json"; taken over. NULL: out of memory, told by `done` */
    json_t *body;        /* taken over; NULL: none */
    unsigned timeout_ms; /* 0: ENGINE_CALL_MS */
    /* `err` is NULL for a status below 400. A refusal has the engine's own words in it, and its
     * status; no answer has status 0. */
    void (*done)(void *data, long status, json_t *reply, const struct error *err);
    void *data;
};

void engine_call(struct engine *engine, const struct engine_call *call);

/* A reply of JSON values, one after another, while it comes. */
struct engine_lines;
struct engine_lines_events {
    void (*on_value)(void *data, json_t *value); /* borrowed */
    void (*on_end)(void *data, long status, const struct error *err);
};
/* `path` is taken over; `headers` end with NULL, or are NULL. NULL with `err`; then on_end is not
 * called. */
struct engine_lines *engine_lines_open(struct engine *engine, const char *method, char *path,
                                       const char *const *headers,
                                       const struct engine_lines_events *events, void *data,
                                       struct error *err);
/* The same with a body (of an image build), which is copied. */
struct engine_lines *engine_lines_post(struct engine *engine, char *path, const char *content_type,
                                       const void *body, size_t size,
                                       const struct engine_lines_events *events, void *data,
                                       struct error *err);
/* on_end follows from the loop. */
void engine_lines_cancel(struct engine_lines *lines);

/* The connection, for streams that are upgraded, and the path with the version that was agreed on
 * (to be freed). Only when connected. */
struct http *engine_http(struct engine *engine);
char *engine_path(const struct engine *engine, const char *path);

/* Text from outside that goes into a message: what is not printable ASCII becomes '?' or a blank.
 */
void engine_plain(char *text);

#endif
