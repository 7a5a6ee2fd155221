#include "mcp/run_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/content.h"
#include "mcp/mime.h"
#include "mcp/run_artifacts.h"
#include "mcp/server.h"
#include "mcp/session_secrets.h"
#include "mcp/text.h"

enum {
    SESSION_ID_ROOM = 32,
    NAME_ROOM = 80, /* of an environment or a backend */
};

struct run_record {
    struct run_record *next; /* the older one */
    struct run_records *owner;
    char id[RUN_ID_SIZE];
    char session_id[SESSION_ID_ROOM];
    struct session *session;                         /* NULL when the run is done */
    char environment[NAME_ROOM], backend[NAME_ROOM]; /* those of a session may go with it */
    struct executor *executor;                       /* NULL: the session's */
    struct run *run;                                 /* NULL when it is done */
    struct content *content;                         /* likewise */
    const char *tool;
    const char *failure_note;
    char title[RUN_TITLE_SIZE];
    char *hint;
    char *waiting_for;
    bool background, ephemeral, keep_log, started, structured;
    bool ending;                 /* the run is done, and its result waits for images */
    uint64_t began_at, ended_at; /* uv_now: when it was asked for, or when the code started */
    enum cause cause;
    struct mask_stream masks[2]; /* by enum stream; values that it must not tell */
    struct run_log log;
    json_t *result;
    size_t size; /* about, in bytes, when it is done */
    struct run_watcher *watchers;
    struct run_watcher *telling; /* the next one to be told, while watchers are told */
};

struct run_records {
    uv_loop_t *loop;
    struct run_record *list;                            /* the newest first */
    char forgotten[RUN_RECORDS_FORGOTTEN][RUN_ID_SIZE]; /* a ring */
    size_t forgotten_next;
};

struct run_records *run_records_new(uv_loop_t *loop)
{
    struct run_records *records = calloc(1, sizeof(*records));

    if (records) {
        records->loop = loop;
    }
    return records;
}

static void record_free(struct run_record *record)
{
    content_free(record->content);
    mask_stream_deinit(&record->masks[STREAM_STDOUT]);
    mask_stream_deinit(&record->masks[STREAM_STDERR]);
    run_log_deinit(&record->log);
    json_decref(record->result);
    free(record->hint);
    free(record->waiting_for);
    free(record);
}

void run_records_free(struct run_records *records)
{
    struct run_record *record;

    while (records && (record = records->list)) {
        records->list = record->next;
        record_free(record);
    }
    free(records);
}

static void take_out(struct run_record *record)
{
    struct run_record **link = &record->owner->list;

    while (*link != record) {
        link = &(*link)->next;
    }
    *link = record->next;
}

/* --- what is kept of ended ones --- */

static void forget(struct run_records *records, struct run_record **link)
{
    struct run_record *record = *link;

    memcpy(records->forgotten[records->forgotten_next], record->id, RUN_ID_SIZE);
    records->forgotten_next = (records->forgotten_next + 1) % RUN_RECORDS_FORGOTTEN;
    *link = record->next;
    record_free(record);
}

/* Where the one is that has to go first for the sake of `record`, which has just ended. */
static struct run_record **one_too_many(const struct run_record *record)
{
    struct run_record **oldest = NULL, **oldest_here = NULL, **link = &record->owner->list, *other;
    unsigned all = 0, here = 0;
    size_t bytes = 0;

    for (; (other = *link); link = &other->next) {
        all += other->background;
        if (!other->background || other->run || other->ending) {
            continue;
        }
        bytes += other->size;
        if (other != record) {
            oldest = link;
        }
        if (strcmp(other->session_id, record->session_id) == 0) {
            here++;
            oldest_here = other != record ? link : oldest_here;
        }
    }
    if (here > RUN_RECORDS_SESSION) {
        return oldest_here;
    }
    return all > RUN_RECORDS_CAP || bytes > RUN_RECORDS_BYTES ? oldest : NULL;
}

static void make_room(struct run_record *record)
{
    struct run_record **link;

    while ((link = one_too_many(record))) {
        forget(record->owner, link);
    }
}

/* --- watchers --- */

void run_record_watch(struct run_record *record, struct run_watcher *watcher)
{
    struct run_watcher **end = &record->watchers;

    while (*end) {
        end = &(*end)->next;
    }
    watcher->next = NULL;
    *end = watcher;
}

void run_record_unwatch(struct run_record *record, struct run_watcher *watcher)
{
    struct run_watcher **link = &record->watchers;

    while (*link && *link != watcher) {
        link = &(*link)->next;
    }
    if (!*link) {
        return;
    }
    *link = watcher->next;
    if (record->telling == watcher) {
        record->telling = watcher->next;
    }
}

/* The next watcher to be told; any may be taken out meanwhile. */
static struct run_watcher *next_watcher(struct run_record *record)
{
    struct run_watcher *watcher = record->telling;

    if (watcher) {
        record->telling = watcher->next;
    }
    return watcher;
}

static void tell_done(struct run_record *record)
{
    struct run_watcher *watcher;

    while ((watcher = record->watchers)) {
        record->watchers = watcher->next;
        watcher->done(watcher->data);
    }
}

/* --- while it runs --- */

static void on_waiting(void *data, const char *what)
{
    struct run_record *record = data;
    struct run_watcher *watcher;

    free(record->waiting_for);
    record->waiting_for = strdup(what);
    record->telling = record->watchers;
    while ((watcher = next_watcher(record))) {
        if (watcher->waiting) {
            watcher->waiting(watcher->data, what);
        }
    }
}

static void on_started(void *data)
{
    struct run_record *record = data;
    struct run_watcher *watcher;

    record->started = true;
    record->began_at = uv_now(record->owner->loop);
    record->telling = record->watchers;
    while ((watcher = next_watcher(record))) {
        if (watcher->started) {
            watcher->started(watcher->data);
        }
    }
}

/* One of the two streams. */
struct piece {
    struct run_record *record;
    enum stream stream;
};

static void take_output(void *data, const char *bytes, size_t size)
{
    const struct piece *piece = data;
    struct run_record *record = piece->record;
    struct run_watcher *watcher;

    content_output(record->content, piece->stream, bytes, size);
    if (record->keep_log) {
        run_log_append(&record->log, piece->stream, bytes, size);
    }
    record->telling = record->watchers;
    while ((watcher = next_watcher(record))) {
        if (watcher->output) {
            watcher->output(watcher->data, bytes, size);
        }
    }
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct run_record *record = data;
    struct piece piece = {record, stream};

    mask_stream_write(&record->masks[stream], bytes, size, take_output, &piece);
}

static struct mask *mask_of(const struct run_record *record)
{
    return record->masks[STREAM_STDOUT].mask;
}

static void on_held(void *data, enum stream stream, uint64_t bytes, uint64_t lines)
{
    struct run_record *record = data;

    content_held(record->content, stream, bytes, lines);
}

static void on_sample(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct run_record *record = data;
    struct run_watcher *watcher;

    (void)stream;
    record->telling = record->watchers;
    while ((watcher = next_watcher(record))) {
        if (watcher->sample) {
            watcher->sample(watcher->data, bytes, size);
        }
    }
}

/* The text itself, or a masked one in *ret_owned. */
static const char *masked(const struct run_record *record, const char *text, char **ret_owned)
{
    size_t size;

    *ret_owned = text ? mask_text(mask_of(record), text, strlen(text), &size) : NULL;
    return *ret_owned ? *ret_owned : text;
}

static void on_display(void *data, const struct display *display)
{
    struct run_record *record = data;
    struct display shown = *display;
    char *id = NULL;

    shown.data = mask_json(mask_of(record), display->data, true);
    shown.metadata = mask_json(mask_of(record), display->metadata, true);
    shown.display_id = masked(record, display->display_id, &id);
    content_display(record->content, &shown);
    json_decref(shown.data);
    json_decref(shown.metadata);
    free(id);
}

static void on_note(void *data, const char *text)
{
    struct run_record *record = data;
    char *owned;

    content_note(record->content, masked(record, text, &owned));
    free(owned);
}

/* --- its end --- */

static void on_images(void *data);

/* Of a sandbox that is the session's own, not of one for this run. */
static void add_ports(struct run_record *record)
{
    char *text = record->ephemeral ? NULL : session_take_ports(record->session);

    if (text) {
        content_note(record->content, text);
    }
    free(text);
}

/* True: the result is there, but for images that are on their way; on_images follows. */
static bool finish_content(struct run_record *record, const struct outcome *outcome)
{
    struct artifacts *artifacts = session_artifacts(record->session);
    struct artifact_origin origin = {
        .session = record->session_id,
        .run = record->id,
        .executor = record->executor ? record->executor : session_executor(record->session),
    };
    struct content_run run = {
        .session = record->session_id,
        .run = record->id,
        .environment = record->environment,
        .backend = record->backend,
        .hint = record->background ? NULL : record->hint, /* told when it went there */
        .files_kept = !record->ephemeral,
        .streams_apart = record->background,
    };

    if (outcome->cause != CAUSE_OK && record->failure_note) {
        content_note(record->content, record->failure_note);
    }
    add_ports(record);
    run_artifacts_link(artifacts, &origin, outcome, &run);
    record->result = content_finish(record->content, &run, outcome);
    run_artifacts_add_output(artifacts, &origin, outcome, record->content, record->result);
    content_free(record->content);
    record->content = NULL;
    record->ending =
        !record->structured && run_images_start(record->owner->loop, &origin, outcome,
                                                run.artifacts, record->result, on_images, record);
    json_decref((json_t *)run.artifacts);
    return record->ending;
}

/* What waited for more output is told, and the outcome without any secret. True as above. */
static bool make_result(struct run_record *record, const struct outcome *outcome)
{
    struct piece pieces[] = {{record, STREAM_STDOUT}, {record, STREAM_STDERR}};
    struct outcome shown = *outcome;
    char *texts[4];
    bool waits;

    for (int i = 0; i < 2; i++) {
        mask_stream_flush(&record->masks[pieces[i].stream], take_output, &pieces[i]);
    }
    shown.error.etype = (char *)masked(record, outcome->error.etype, &texts[0]);
    shown.error.evalue = (char *)masked(record, outcome->error.evalue, &texts[1]);
    shown.error.traceback = (char *)masked(record, outcome->error.traceback, &texts[2]);
    shown.note = (char *)masked(record, outcome->note, &texts[3]);
    waits = finish_content(record, &shown);
    for (int i = 0; i < 4; i++) {
        free(texts[i]);
    }
    return waits;
}

/* Lets go of the session and of an executor of its own, which closes in the background. */
static void leave_session(struct run_record *record)
{
    struct session *s = record->session;

    record->session = NULL;
    if (record->executor) {
        session_ephemeral_close(s, record->executor);
        record->executor = NULL;
    }
    if (record->background) {
        session_end_background(s);
    } else {
        session_end(s);
    }
}

static void finish(struct run_record *record)
{
    tell_done(record);
    leave_session(record);
    if (record->background) {
        record->size = sizeof(*record) + record->log.room + mime_size(record->result);
        make_room(record);
    } else {
        take_out(record);
        record_free(record);
    }
}

static void on_images(void *data)
{
    struct run_record *record = data;

    record->ending = false;
    finish(record);
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct run_record *record = data;

    record->run = NULL;
    record->cause = outcome->cause;
    record->ended_at = uv_now(record->owner->loop);
    session_note_run(record->session, outcome);
    if (!make_result(record, outcome)) {
        finish(record);
    }
}

static const struct run_events events = {
    .on_waiting = on_waiting,
    .on_started = on_started,
    .on_output = on_output,
    .on_held = on_held,
    .on_sample = on_sample,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

/* --- its start --- */

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "a run");
}

/* The first line that is not blank, as far as it has room, cut between characters. */
static void set_title(char title[RUN_TITLE_SIZE], const char *text)
{
    size_t size;

    if (!text) {
        return;
    }
    text += strspn(text, " \t\r\n");
    size = text_prefix(text, strcspn(text, "\r\n"), RUN_TITLE_SIZE - 1).size;
    memcpy(title, text, size);
    title[size] = '\0';
}

static struct run_record *find(const struct run_records *records, const char *id)
{
    struct run_record *record = records->list;

    while (record && strcmp(record->id, id) != 0) {
        record = record->next;
    }
    return record;
}

static struct run_record *record_new(struct run_records *records, const struct run_plan *plan,
                                     struct error *err)
{
    const struct environment *env = session_environment(plan->session);
    struct run_record *record = calloc(1, sizeof(*record));

    if (!record || !(record->content = content_new(plan->structured))) {
        free(record);
        out_of_memory(err);
        return NULL;
    }
    do {
        run_id_new(record->id);
    } while (find(records, record->id));
    strncpy(record->session_id, session_id(plan->session), SESSION_ID_ROOM - 1);
    strncpy(record->environment, env->name, NAME_ROOM - 1);
    strncpy(record->backend, env->backend, NAME_ROOM - 1);
    set_title(record->title, plan->title);
    record->owner = records;
    record->session = plan->session;
    record->tool = plan->tool;
    record->failure_note = plan->failure_note;
    record->structured = plan->structured;
    record->ephemeral = plan->ephemeral;
    record->keep_log = plan->may_turn || plan->background;
    record->began_at = uv_now(records->loop);
    return record;
}

/* Only runs that are going count: ended ones make room. */
static int check_room(const struct run_records *records, struct error *err)
{
    unsigned going = 0;

    for (const struct run_record *record = records->list; record; record = record->next) {
        going += record->background && record->run;
    }
    if (going >= RUN_RECORDS_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "%u runs are going in the background, the most that this server keeps: "
                         "wait for some with poll_run, or end them with cancel_run",
                         going);
    }
    return 0;
}

/* What nobody will read may stay where it was printed. A cursor may ask for any of it, and a value
 * that must not be told is only found in what is whole. */
static void leave_out(const struct run_record *record, struct run_request *request)
{
    if (!record->keep_log && !mask_of(record)) {
        request->output_head = request->output_tail = content_wanted(record->structured);
    }
}

static int submit(struct run_record *record, struct run_plan *plan, struct error *err)
{
    struct executor *executor = session_executor(record->session);
    struct run_request request;

    if (plan->ephemeral) {
        executor = record->executor = session_ephemeral_executor(record->session, err);
        if (!executor) {
            return -1;
        }
    }
    plan->request.id = record->id;
    plan->request.keep_full_output = !plan->ephemeral;
    request = plan->request;
    mask_stream_init(&record->masks[STREAM_STDOUT], session_mask(record->session));
    mask_stream_init(&record->masks[STREAM_STDERR], session_mask(record->session));
    leave_out(record, &request);
    request.env = session_run_env(plan->session, plan->request.env);
    record->run = executor_run(executor, &request, &events, record, err);
    json_decref(request.env);
    return record->run ? 0 : -1;
}

struct run_record *run_record_start(struct run_records *records, struct run_plan *plan,
                                    struct error *err)
{
    struct run_record *record;

    if ((plan->background && check_room(records, err) < 0) ||
        !(record = record_new(records, plan, err))) {
        return NULL;
    }
    session_begin(record->session);
    if (submit(record, plan, err) < 0) {
        leave_session(record);
        record_free(record);
        return NULL;
    }
    record->hint = plan->hint;
    record->next = records->list;
    records->list = record;
    if (plan->background) {
        run_record_to_background(record);
    }
    return record;
}

void run_record_to_background(struct run_record *record)
{
    record->background = true;
    session_to_background(record->session);
}

void run_record_cancel(struct run_record *record)
{
    if (record->run) {
        run_cancel(record->run);
    }
}

struct run *run_record_run(struct run_record *record)
{
    return record->run;
}

/* --- looking at them --- */

static enum run_state state_of(const struct run_record *record)
{
    if (!record->run) {
        return RUN_DONE;
    }
    return record->started ? RUN_RUNNING : RUN_WAITING;
}

const char *run_state_name(enum run_state state)
{
    static const char *const names[] = {
        [RUN_WAITING] = "waiting", [RUN_RUNNING] = "running", [RUN_DONE] = "done"};

    return names[state];
}

const char *run_seconds(double seconds, char space[32])
{
    snprintf(space, 32, "%.*f s", seconds < 9.95 ? 1 : 0, seconds);
    return space;
}

void run_record_view(const struct run_record *record, struct run_view *ret)
{
    uint64_t until = record->run ? uv_now(record->owner->loop) : record->ended_at;

    *ret = (struct run_view){
        .id = record->id,
        .session = record->session_id,
        .environment = record->environment,
        .backend = record->backend,
        .tool = record->tool,
        .title = record->title,
        .waiting_for = record->waiting_for,
        .state = state_of(record),
        .cause = record->cause,
        .background = record->background,
        .ephemeral = record->ephemeral,
        .seconds = (double)(until - record->began_at) / 1000,
        .result = record->result,
        .log = record->keep_log ? &record->log : NULL,
        .hint = record->hint,
        .place = record->session ? session_place(record->session) : NULL,
    };
}

struct run_record *run_records_find(struct run_records *records, const char *id, struct error *err)
{
    struct run_record *record = find(records, id);

    for (size_t i = 0; !record && i < RUN_RECORDS_FORGOTTEN; i++) {
        if (records->forgotten[i][0] && strcmp(records->forgotten[i], id) == 0) {
            error_set(err, ERROR_LOST,
                      "run \"%s\" has ended and what it gave was dropped for newer ones (%d of a "
                      "session are kept, %d in all); poll a run soon after its end",
                      records->forgotten[i], RUN_RECORDS_SESSION, RUN_RECORDS_CAP);
            return NULL;
        }
    }
    if (!record) {
        error_set(err, ERROR_NOT_FOUND,
                  "there is no run \"%.64s\" in the background of this server. A run's id (\"r-\" "
                  "and 8 characters) is in the answer of the call that started it; list_runs "
                  "shows those there are",
                  id);
    }
    return record;
}

struct run_record *run_records_next(struct run_records *records, struct run_record *record)
{
    return record ? record->next : records->list;
}
