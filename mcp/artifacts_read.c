#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/artifact_name.h"
#include "mcp/artifacts_private.h"
#include "mcp/mask.h"
#include "mcp/text.h"

/* Contents of artifacts: out of a sandbox that lives, or from memory when it does not any more. */

/* --- one file of a sandbox --- */

struct fetch {
    struct executor *executor;
    char *path;
    size_t cap;
    int64_t mtime_ns;
    file_done done;
    void *data;
};

static void fetch_end(struct fetch *fetch, const struct file_reply *reply, const struct error *err)
{
    file_done done = fetch->done;
    void *data = fetch->data;

    free(fetch->path);
    free(fetch);
    done(data, reply, err);
}

static void fetch_fail(struct fetch *fetch, enum error_kind kind, const char *text)
{
    struct error err = {0};

    error_set(&err, kind, "%s", text);
    fetch_end(fetch, NULL, &err);
    error_clear(&err);
}

/* What was opened is what was looked at: a name that led elsewhere meanwhile is refused. */
static void on_bytes(void *data, const struct file_reply *reply, const struct error *err)
{
    struct fetch *fetch = data;

    if (err) {
        fetch_end(fetch, NULL, err);
    } else if (reply->size > fetch->cap) {
        fetch_fail(fetch, ERROR_LIMIT, "it has become too big");
    } else if (reply->entry.type != FILE_REGULAR || reply->entry.mtime_ns != fetch->mtime_ns) {
        fetch_fail(fetch, ERROR_INVALID, "it was changed while it was read; read it again");
    } else {
        fetch_end(fetch, reply, NULL);
    }
}

static void on_stat(void *data, const struct file_reply *reply, const struct error *err)
{
    struct fetch *fetch = data;
    struct file_request request = {
        .op = FILE_READ, .path = fetch->path, .length = fetch->cap + 1, .mode = -1};
    char text[160], number[28], most[28];

    if (err) {
        fetch_end(fetch, NULL, err);
    } else if (reply->entry.type != FILE_REGULAR) {
        snprintf(text, sizeof(text), "there is something else in its place now (%s)",
                 file_type_name(reply->entry.type));
        fetch_fail(fetch, ERROR_NOT_FOUND, text);
    } else if (reply->entry.size > fetch->cap) {
        snprintf(text, sizeof(text), "it has %s bytes, more than the %s that are given at once",
                 text_number(reply->entry.size, number), text_number(fetch->cap, most));
        fetch_fail(fetch, ERROR_LIMIT, text);
    } else {
        fetch->mtime_ns = reply->entry.mtime_ns;
        executor_file(fetch->executor, &request, on_bytes, fetch);
    }
}

void artifact_fetch(struct executor *executor, const char *path, size_t cap, file_done done,
                    void *data)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    struct file_request request = {.op = FILE_STAT, .path = path, .mode = -1};
    struct error err = {0};

    if (!fetch || !(fetch->path = strdup(path))) {
        free(fetch);
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "a file");
        done(data, NULL, &err); /* too early, which is a lesser evil than never */
        error_clear(&err);
        return;
    }
    fetch->executor = executor;
    fetch->cap = cap;
    fetch->done = done;
    fetch->data = data;
    executor_file(executor, &request, on_stat, fetch);
}

/* --- reading one --- */

struct reading {
    struct artifacts *artifacts;
    char *key;
    char *name;
    artifact_done done;
    void *data;
};

static void reading_end(struct reading *r, const struct artifact_bytes *bytes,
                        const struct error *err)
{
    r->done(r->data, bytes, err);
    free(r->key);
    free(r->name);
    free(r);
}

static void reading_give(struct reading *r, const char *bytes, size_t size)
{
    struct artifact_bytes given = {.bytes = bytes, .size = size};

    given.mime = artifact_mime_of(r->name, bytes, size, &given.is_text);
    reading_end(r, &given, NULL);
}

static void reading_fail(struct reading *r, const struct artifact *artifact,
                         const struct error *why)
{
    struct error err = {0};

    if (why->kind == ERROR_LIMIT && artifact) {
        error_set(&err, ERROR_LIMIT,
                  "\"%.200s\": %s. Read it in parts with read_file (path \"%.200s\", offset, "
                  "length), or bring it to this machine with download (toolset files)",
                  artifact->name, why->message, artifact->path);
    } else {
        error_set(&err, why->kind, "\"%.200s\": %s", artifact ? artifact->name : r->name,
                  why->message);
    }
    reading_end(r, NULL, &err);
    error_clear(&err);
}

static void reading_begin(struct reading *r, struct artifact *artifact);

static void on_read(void *data, const struct file_reply *reply, const struct error *err)
{
    struct reading *r = data;
    struct artifacts *a = r->artifacts;
    struct artifact *artifact = artifacts_find(a, r->key);

    if (reply) {
        if (artifact) {
            artifact->size = reply->size;
        }
        reading_give(r, reply->bytes, reply->size);
    } else if (artifact && artifact->state != ARTIFACT_LIVE) {
        reading_begin(r, artifact); /* its session ended meanwhile, and it may have been kept */
    } else {
        if (artifact && err->kind == ERROR_NOT_FOUND) {
            artifact_gone(a, artifact, "it is not there any more");
            artifacts_changed(a);
        }
        reading_fail(r, artifact, err);
    }
}

static void reading_begin(struct reading *r, struct artifact *artifact)
{
    struct error err = {0};

    switch (artifact->state) {
    case ARTIFACT_KEPT:
        reading_give(r, artifact->bytes, artifact->kept);
        return;
    case ARTIFACT_LIVE:
        if (executor_started(artifact->executor)) {
            artifact_fetch(artifact->executor, artifact->path, ARTIFACT_READ_CAP, on_read, r);
            return;
        }
        artifact_gone(r->artifacts, artifact, "the sandbox that it was in has ended");
        artifacts_changed(r->artifacts);
        break;
    case ARTIFACT_GONE:
        break;
    }
    error_set(&err, ERROR_NOT_FOUND, "%s", artifact->why ? artifact->why : "it is gone");
    reading_fail(r, artifact, &err);
    error_clear(&err);
}

void artifacts_read(struct artifacts *a, const char *uri, artifact_done done, void *data)
{
    char *key = artifact_uri_key(uri);
    struct artifact *artifact = key ? artifacts_find(a, key) : NULL;
    struct reading *r = artifact ? calloc(1, sizeof(*r)) : NULL;
    struct error err = {0};

    if (r) {
        *r = (struct reading){a, key, strdup(artifact->path), done, data};
        if (r->name) {
            reading_begin(r, artifact);
            return;
        }
        free(r);
    }
    free(key);
    if (artifact) {
        error_set_code(&err, ERROR_INTERNAL, ENOMEM, "a resource");
    } else {
        error_set(&err, ERROR_NOT_FOUND,
                  "it was never listed, or it was dropped for newer ones (%d are known at a time). "
                  "resources/list shows those there are",
                  ARTIFACTS_CAP);
    }
    done(data, NULL, &err);
    error_clear(&err);
}

/* --- before a sandbox is closed --- */

struct rescue {
    struct rescue *next;
    struct artifacts *artifacts;
    struct executor *executor;
    uv_timer_t timer;
    char *key;   /* of the one that is on its way; NULL: none is */
    bool ended;  /* `go_on` was called; what is still on its way is not waited for */
    bool closed; /* its timer is */
    void (*go_on)(void *data);
    void *data;
};

static void rescue_next(struct rescue *r);

static void rescue_drop(struct rescue *r)
{
    if (r->closed && !r->key) {
        free(r);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct rescue *r = handle->data;

    r->closed = true;
    rescue_drop(r);
}

static void rescue_end(struct rescue *r)
{
    struct artifacts *a = r->artifacts;
    struct rescue **link = &a->rescues;

    if (r->ended) {
        return;
    }
    r->ended = true;
    while (*link != r) {
        link = &(*link)->next;
    }
    *link = r->next;
    (void)artifacts_all_gone(a, r->executor,
                             "its session ended, and it could not be brought in within the time "
                             "there is for that (3 s)");
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
    artifacts_changed(a);
    r->go_on(r->data);
}

static void on_rescue_limit(uv_timer_t *timer)
{
    rescue_end(timer->data);
}

static void keep(struct artifacts *a, struct artifact *artifact, const struct file_reply *reply)
{
    size_t size = reply->size;
    bool is_text = false;
    char *bytes;

    /* It may be read when nobody knows the session's secrets any more. */
    (void)artifact_mime_of(artifact->path, reply->bytes, reply->size, &is_text);
    bytes = is_text ? mask_text(a->mask, reply->bytes, reply->size, &size) : NULL;
    if (!bytes && (bytes = malloc(reply->size + 1))) {
        memcpy(bytes, reply->bytes, reply->size);
    }
    if (bytes) {
        artifact_keep(a, artifact, bytes, size);
    } else {
        artifact_gone(a, artifact, "its session ended, and there was no memory to keep it");
    }
}

static void on_rescued(void *data, const struct file_reply *reply, const struct error *err)
{
    struct rescue *r = data;
    struct artifacts *a = r->artifacts;
    struct artifact *artifact = r->ended ? NULL : artifacts_find(a, r->key);
    char why[512];

    free(r->key);
    r->key = NULL;
    if (r->ended) {
        rescue_drop(r);
        return;
    }
    if (artifact && artifact->state == ARTIFACT_LIVE && reply) {
        keep(a, artifact, reply);
    } else if (artifact && artifact->state == ARTIFACT_LIVE) {
        snprintf(why, sizeof(why), "its session ended, and it was not kept: %.400s", err->message);
        artifact_gone(a, artifact, why);
    }
    rescue_next(r);
}

/* The newest first: they are what is asked for. */
static void rescue_next(struct rescue *r)
{
    struct artifacts *a = r->artifacts;
    struct artifact *artifact;

    while ((artifact = artifacts_live(a, r->executor))) {
        if (artifact->superseded || !(r->key = strdup(artifact->key))) {
            artifact_gone(a, artifact, "its session ended");
            continue;
        }
        artifact_fetch(r->executor, artifact->path, ARTIFACT_READ_CAP, on_rescued, r);
        return;
    }
    rescue_end(r);
}

bool artifacts_rescue(struct artifacts *a, struct executor *executor, void (*go_on)(void *data),
                      void *data)
{
    struct rescue *r;

    if (!artifacts_live(a, executor)) {
        return false;
    }
    r = a->stopped || !executor_started(executor) ? NULL : calloc(1, sizeof(*r));
    if (!r) {
        artifacts_lost(a, executor);
        return false;
    }
    r->artifacts = a;
    r->executor = executor;
    r->go_on = go_on;
    r->data = data;
    r->next = a->rescues;
    a->rescues = r;
    uv_timer_init(a->loop, &r->timer);
    r->timer.data = r;
    uv_update_time(a->loop);
    uv_timer_start(&r->timer, on_rescue_limit, ARTIFACTS_RESCUE_MS, 0);
    rescue_next(r);
    return true;
}

void artifacts_stop(struct artifacts *a)
{
    a->stopped = true;
    while (a->rescues) {
        rescue_end(a->rescues);
    }
}
