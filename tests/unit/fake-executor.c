#include "fake-executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "backends/executor.h"
#include "backends/place.h"

enum {
    SHARES_MOST = 16,
    PENDING_MOST = 16,
};

struct fake_counts fake_counts;
struct fake_files fake_files;

struct run {
    struct run *next;
    struct executor *executor;
    const struct run_events *events;
    void *data;
    char *script;
    char *request; /* what the step `request` prints */
    bool cancelled;
    bool hanging; /* played as far as it goes */
};

struct pending_file {
    file_done done;
    void *data;
};

struct pending {
    executor_done done;
    void *data;
    bool refused;
};

struct executor {
    struct place *place;
    uv_timer_t timer;
    struct share *shares[SHARES_MOST];
    unsigned share_count;
    struct pending pending[PENDING_MOST];
    struct pending never; /* the share at /never */
    unsigned pending_count;
    struct pending_file files[PENDING_MOST];
    unsigned file_count;
    struct run *first;
    bool started;
    bool closing;
    executor_done closed;
    void *closed_data;
    void (*on_idle_output)(void *data, enum stream stream, const char *bytes, size_t size);
    void *idle_data;
};

static const char *const languages[] = {"python", "shell", NULL};
static const struct place_ops full_ops = {
    .name = "fake",
    .capabilities = CAP_STATEFUL | CAP_EPHEMERAL | CAP_COPY | CAP_MOUNT | CAP_FILES,
    .languages = languages,
};
static const struct place_ops plain_ops = {
    .name = "plain",
    .capabilities = CAP_STATEFUL,
    .languages = languages,
};

/* --- places --- */

struct fake_place {
    struct place place;
    uv_timer_t timer;
    void (*closed)(void *data);
    void *data;
};

int place_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
               struct error *err)
{
    struct fake_place *p;

    if (strcmp(env->backend, "broken") == 0) {
        return error_set(err, ERROR_UNSUPPORTED, "this backend is broken");
    }
    p = calloc(1, sizeof(*p));
    p->place.ops = strcmp(env->backend, "plain") == 0 ? &plain_ops : &full_ops;
    p->place.loop = loop;
    p->place.env = env;
    uv_timer_init(loop, &p->timer);
    p->timer.data = p;
    fake_counts.places_opened++;
    *ret = &p->place;
    return 0;
}

void place_warm(struct place *place)
{
    (void)place;
    fake_counts.warmed++;
}

int place_delete_snapshot(struct place *place, const char *id, executor_done done, void *data,
                          struct error *err)
{
    (void)place;
    (void)id;
    (void)done;
    (void)data;
    return error_set(err, ERROR_UNSUPPORTED, "no snapshots in this fake");
}

struct run *executor_snapshot(struct executor *e, const char *id,
                              const struct snapshot_request *request, double timeout_seconds,
                              const struct run_events *events, void *data, struct error *err)
{
    (void)e;
    (void)id;
    (void)request;
    (void)timeout_seconds;
    (void)events;
    (void)data;
    error_set(err, ERROR_UNSUPPORTED, "no snapshots in this fake");
    return NULL;
}

static void on_place_closed(uv_handle_t *handle)
{
    struct fake_place *p = handle->data;
    void (*closed)(void *data) = p->closed;
    void *data = p->data;

    free(p);
    fake_counts.places_closed++;
    closed(data);
}

void place_close(struct place *place, void (*closed)(void *data), void *data)
{
    struct fake_place *p = (struct fake_place *)place;

    p->closed = closed;
    p->data = data;
    uv_close((uv_handle_t *)&p->timer, on_place_closed);
}

/* --- runs --- */

static void complete(struct run *run, enum cause cause, const char *text)
{
    struct executor *e = run->executor;
    struct outcome outcome;

    e->first = run->next;
    outcome_init(&outcome);
    outcome.cause = cause;
    outcome.execution_count = 1;
    if (cause == CAUSE_ERROR) {
        outcome.error.etype = strdup("Exception");
        outcome.error.evalue = strdup(text);
    }
    fake_counts.runs_done++;
    run->events->on_done(run->data, &outcome);
    outcome_deinit(&outcome);
    free(run->script);
    free(run->request);
    free(run);
}

static void say(struct run *run, enum stream stream, const char *text)
{
    run->events->on_output(run->data, stream, text, strlen(text));
    run->events->on_output(run->data, stream, "\n", 1);
}

static void show_result(struct run *run, const char *text)
{
    json_t *data = json_pack("{ss}", "text/plain", text), *metadata = json_object();
    struct display display = {.kind = DISPLAY_RESULT, .data = data, .metadata = metadata};

    run->events->on_display(run->data, &display);
    json_decref(data);
    json_decref(metadata);
}

enum step { STEP_GOES_ON, STEP_HANGS, STEP_OVER };

static enum step step(struct run *run, const char *word, const char *text)
{
    struct executor *e = run->executor;

    if (strcmp(word, "out") == 0 || strcmp(word, "err") == 0) {
        say(run, word[0] == 'o' ? STREAM_STDOUT : STREAM_STDERR, text);
    } else if (strcmp(word, "result") == 0) {
        show_result(run, text);
    } else if (strcmp(word, "note") == 0) {
        run->events->on_note(run->data, text);
    } else if (strcmp(word, "waiting") == 0) {
        run->events->on_waiting(run->data, text);
    } else if (strcmp(word, "request") == 0) {
        say(run, STREAM_STDOUT, run->request);
    } else if (strcmp(word, "fail") == 0) {
        complete(run, CAUSE_ERROR, text);
        return STEP_OVER;
    } else if (strcmp(word, "started") == 0) {
        run->events->on_started(run->data);
    } else if (strcmp(word, "hang") == 0) {
        return STEP_HANGS;
    } else if (strcmp(word, "idle") == 0) {
        char *late = strdup(text);

        complete(run, CAUSE_OK, NULL);
        e->on_idle_output(e->idle_data, STREAM_STDOUT, late, strlen(late));
        free(late);
        return STEP_OVER;
    }
    return STEP_GOES_ON;
}

/* Does what the script says; true when the run is over. */
static bool play(struct run *run)
{
    struct executor *e = run->executor;
    char *line, *rest = run->script, *text;
    enum step how;

    if (run->cancelled || e->closing) {
        complete(run, CAUSE_CANCELLED, NULL);
        return true;
    }
    if (run->hanging) {
        return false;
    }
    while ((line = strsep(&rest, "\n"))) {
        text = line;
        strsep(&text, " ");
        how = step(run, line, text ? text : "");
        if (how == STEP_OVER) {
            return true;
        }
        if (how == STEP_HANGS) {
            run->hanging = true;
            return false;
        }
    }
    complete(run, CAUSE_OK, NULL);
    return true;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct executor *e = handle->data;
    executor_done closed = e->closed;
    void *data = e->closed_data;

    for (unsigned i = 0; i < e->share_count; i++) {
        share_free(e->shares[i]);
    }
    free(e);
    fake_counts.executors_closed++;
    if (closed) {
        closed(data, NULL);
    }
}

static void answer_shares(struct executor *e)
{
    struct error err = {0};

    error_set(&err, ERROR_INVALID, "this dest is refused");
    for (unsigned i = 0; i < e->pending_count; i++) {
        struct pending pending = e->pending[i];

        pending.done(pending.data, pending.refused ? &err : NULL);
    }
    e->pending_count = 0;
    error_clear(&err);
}

static void answer_files(struct executor *e)
{
    struct error err = {0};

    if (e->closing) {
        error_set(&err, ERROR_LOST, "the session was closed");
    } else if (!fake_files.there) {
        error_set(&err, ERROR_UNSUPPORTED, "there are no files");
    } else if (fake_files.error != ERROR_NONE) {
        error_set(&err, fake_files.error, "no such luck");
    }
    while (e->file_count > 0) {
        struct pending_file file = e->files[--e->file_count];

        file.done(file.data, err.kind == ERROR_NONE ? &fake_files.reply : NULL,
                  err.kind == ERROR_NONE ? NULL : &err);
    }
    error_clear(&err);
}

static void on_timer(uv_timer_t *timer)
{
    struct executor *e = timer->data;

    answer_shares(e);
    answer_files(e);
    for (struct run *run = e->first, *next; run; run = next) {
        next = run->next;
        if (!play(run)) {
            break;
        }
    }
    if (e->closing) {
        uv_close((uv_handle_t *)&e->timer, on_timer_closed);
    }
}

static void soon(struct executor *e)
{
    uv_timer_start(&e->timer, on_timer, 0, 0);
}

/* --- the contract --- */

struct executor *executor_new(struct place *place)
{
    struct executor *e = calloc(1, sizeof(*e));

    e->place = place;
    uv_timer_init(place->loop, &e->timer);
    e->timer.data = e;
    fake_counts.executors++;
    return e;
}

void executor_set_idle_output(struct executor *e,
                              void (*on_idle_output)(void *data, enum stream stream,
                                                     const char *bytes, size_t size),
                              void *data)
{
    e->on_idle_output = on_idle_output;
    e->idle_data = data;
}

void executor_add_share(struct executor *e, struct share *share_owned, executor_progress progress,
                        executor_done done, void *data)
{
    bool refused = strcmp(share_owned->dest, "/refused") == 0;
    bool never = strcmp(share_owned->dest, "/never") == 0;

    if (progress) {
        progress(data, "copying");
    }
    if (never) {
        e->never = (struct pending){done, data, true};
    } else {
        e->pending[e->pending_count++] = (struct pending){done, data, refused};
        soon(e);
    }
    if (refused || never) {
        share_free(share_owned);
    } else {
        e->shares[e->share_count++] = share_owned;
    }
}

void executor_cancel_share(struct executor *e, const void *data)
{
    if (e->never.done && e->never.data == data) {
        e->pending[e->pending_count++] = e->never;
        e->never = (struct pending){0};
        soon(e);
    }
}

int executor_check_shares(struct place *place, struct share *const *shares, unsigned count,
                          struct error *err)
{
    (void)place;
    (void)shares;
    (void)count;
    (void)err;
    return 0;
}

const struct share *executor_share(const struct executor *e, unsigned index)
{
    return index < e->share_count ? e->shares[index] : NULL;
}

static char *describe(const struct executor *e, const struct run_request *request)
{
    char *env = request->env ? json_dumps(request->env, JSON_COMPACT) : strdup("-");
    char *text, *longer;

    if (asprintf(&text, "%s %s %s %g %s", request->language,
                 request->stdin_text ? request->stdin_text : "-", env, request->timeout_seconds,
                 request->keep_full_output ? "keep" : "drop") < 0) {
        abort();
    }
    free(env);
    for (unsigned i = 0; i < e->share_count; i++) {
        if (asprintf(&longer, "%s %s", text, e->shares[i]->dest) < 0) {
            abort();
        }
        free(text);
        text = longer;
    }
    return text;
}

struct run *executor_run(struct executor *e, const struct run_request *request,
                         const struct run_events *events, void *data, struct error *err)
{
    struct run *run, **end = &e->first;

    if (strcmp(request->language, "python") != 0 && strcmp(request->language, "shell") != 0) {
        error_set(err, ERROR_UNSUPPORTED, "language \"%s\" is not there", request->language);
        return NULL;
    }
    run = calloc(1, sizeof(*run));
    run->executor = e;
    run->events = events;
    run->data = data;
    run->script = strndup(request->code, request->code_size);
    run->request = describe(e, request);
    while (*end) {
        end = &(*end)->next;
    }
    *end = run;
    e->started = true;
    fake_counts.runs++;
    soon(e);
    return run;
}

void run_cancel(struct run *run)
{
    run->cancelled = true;
    soon(run->executor);
}

int run_signal(struct run *run, int number, struct error *err)
{
    (void)run;
    return error_set(err, ERROR_UNSUPPORTED, "signal %d", number);
}

int run_write(struct run *run, const char *bytes, size_t size, bool eof, struct error *err)
{
    (void)run;
    (void)bytes;
    (void)eof;
    return error_set(err, ERROR_UNSUPPORTED, "%zu bytes", size);
}

void fake_files_clear(void)
{
    free((char *)fake_files.asked.path);
    free((char *)fake_files.asked.dest);
    free((void *)fake_files.asked.bytes);
    memset(&fake_files, 0, sizeof(fake_files));
}

void executor_file(struct executor *e, const struct file_request *request, file_done done,
                   void *data)
{
    struct fake_files before = fake_files;
    char *bytes;

    e->files[e->file_count++] = (struct pending_file){done, data};
    soon(e);
    if (!fake_files.there) {
        return;
    }
    bytes = malloc(request->size + 1);
    fake_files.asked = *request;
    fake_files.asked.path = strdup(request->path);
    fake_files.asked.dest = request->dest ? strdup(request->dest) : NULL;
    if (request->size > 0) {
        memcpy(bytes, request->bytes, request->size);
    }
    bytes[request->size] = '\0';
    fake_files.asked.bytes = bytes;
    fake_files.count++;
    free((char *)before.asked.path);
    free((char *)before.asked.dest);
    free((void *)before.asked.bytes);
}

bool executor_started(const struct executor *e)
{
    return e->started;
}

bool executor_ready(const struct executor *e)
{
    return e->started;
}

json_t *executor_ports(const struct executor *e, const char **ret_note)
{
    (void)e;
    *ret_note = NULL;
    return NULL;
}

bool executor_busy(const struct executor *e)
{
    return e->first != NULL;
}

void executor_close(struct executor *e, executor_done done, void *data)
{
    e->closing = true;
    e->closed = done;
    e->closed_data = data;
    e->pending_count = 0;
    soon(e);
}
