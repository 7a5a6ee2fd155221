#include "mcp/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mcp/cloud_share.h"
#include "mcp/host_path.h"
#include "mcp/session_private.h"
#include "mcp/session_secrets.h"

/* --- shares, opened --- */

struct share_list {
    struct share **items;
    unsigned count;
};

static void share_list_deinit(struct share_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        share_free(list->items[i]);
    }
    free(list->items);
    *list = (struct share_list){0};
}

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "session");
}

/* Opens `source` under the check of host_path_open and appends the share. */
static int share_list_open(struct share_list *list, const struct config *config,
                           const json_t *roots, enum share_type type, const char *source,
                           const char *dest, bool read_only, struct error *err)
{
    struct share **grown = reallocarray(list->items, list->count + 1, sizeof(struct share *));
    struct share *share;
    bool is_directory;
    char *resolved;
    int fd;

    if (!grown) {
        return out_of_memory(err);
    }
    list->items = grown;
    if (host_path_open(config, roots, source, &fd, &resolved, &is_directory, err) < 0) {
        return -1;
    }
    share = share_new(type, fd, resolved, dest, read_only);
    free(resolved);
    if (!share) {
        return out_of_memory(err);
    }
    list->items[list->count++] = share;
    return 0;
}

/* Appends a bucket. */
static int share_list_bucket(struct share_list *list, const json_t *wanted, const char *dest,
                             bool read_only, struct error *err)
{
    struct share **grown = reallocarray(list->items, list->count + 1, sizeof(struct share *));
    struct share *share;

    if (!grown) {
        return out_of_memory(err);
    }
    list->items = grown;
    share = cloud_share_new(wanted, dest, read_only, err);
    if (!share) {
        return -1;
    }
    list->items[list->count++] = share;
    return 0;
}

/* One share of the environment's own: the owner's word is enough, so its source is its own root. */
static int open_own_share(struct share_list *list, const struct config *config,
                          const json_t *wanted, struct error *err)
{
    const char *source = json_string_value(json_object_get(wanted, "source"));
    const char *type = json_string_value(json_object_get(wanted, "type"));
    bool read_only = !json_is_false(json_object_get(wanted, "read_only"));
    json_t *roots;
    char *dest;
    int r;

    if (share_check_dest(json_string_value(json_object_get(wanted, "dest")), &dest, err) < 0) {
        return -1;
    }
    if (strcmp(type, "cloud") == 0) {
        r = share_list_bucket(list, wanted, dest, read_only, err);
        free(dest);
        return r;
    }
    roots = json_pack("[s]", source);
    r = share_list_open(list, config, roots, strcmp(type, "mount") == 0 ? SHARE_MOUNT : SHARE_COPY,
                        source, dest, read_only, err);
    free(dest);
    json_decref(roots);
    return r;
}

static int open_own_shares(struct share_list *list, const struct config *config,
                           const struct environment *env, struct error *err)
{
    size_t index;
    json_t *wanted;

    json_array_foreach(env->shares, index, wanted)
    {
        const char *type = json_string_value(json_object_get(wanted, "type"));

        if (env->snapshot && strcmp(type, "copy") == 0) {
            continue; /* it is in there, as the session left it */
        }
        if (open_own_share(list, config, wanted, err) < 0) {
            return error_wrap(err, "environment \"%s\", shares[%zu]", env->name, index);
        }
    }
    return 0;
}

static int check_shares(const struct share_list *list, const struct place_slot *slot,
                        struct error *err)
{
    if (executor_check_shares(slot->place, list->items, list->count, err) < 0) {
        return error_wrap(err, "environment \"%s\", shares", slot->env->name);
    }
    return 0;
}

void session_share_noted(void *data, const struct error *err)
{
    (void)data;
    (void)err;
}

static void give_shares(struct share_list *list, struct executor *e)
{
    for (unsigned i = 0; i < list->count; i++) {
        executor_add_share(e, list->items[i], NULL, session_share_noted, NULL);
    }
    list->count = 0;
    share_list_deinit(list);
}

/* --- one session --- */

/* An executor of a session that is being closed. */
struct closing {
    struct session *session;
    struct executor *executor;
    struct share_op *ops; /* answered; kept until the executor cannot call back any more */
    executor_done done;
    void *data;
};

/* One of the two streams between runs. */
struct idle_piece {
    struct session *session;
    enum stream stream;
};

static void tell_idle(void *data, const char *bytes, size_t size)
{
    const struct idle_piece *piece = data;
    struct session *s = piece->session;
    struct sessions *owner = s->owner;
    enum stream stream = piece->stream;

    session_log_append(&s->log, bytes, size);
    size = size < s->idle_room ? size : s->idle_room;
    s->idle_room -= size;
    if (size > 0 && owner->idle_output) {
        owner->idle_output(owner->idle_data, s->id, stream, bytes, size);
    }
}

static void on_idle_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct session *s = data;
    struct idle_piece piece = {s, stream};

    if (!s->idle_masks[stream].mask) {
        mask_stream_init(&s->idle_masks[stream], s->owner->mask);
    }
    mask_stream_write(&s->idle_masks[stream], bytes, size, tell_idle, &piece);
}

/* A new executor of the session with these shares; the list is emptied. NULL when out of memory. */
static struct executor *make_executor(struct session *s, struct share_list *shares)
{
    struct executor *e = executor_new(s->slot->place);

    if (!e) {
        share_list_deinit(shares);
        return NULL;
    }
    s->slot->users++;
    executor_set_idle_output(e, on_idle_output, s);
    session_keep_executor(s, e);
    give_shares(shares, e);
    return e;
}

/* What the options give it; -1 when out of memory. */
static int take_options(struct session *s, const struct session_options *options)
{
    s->base = s->env = options->base;
    if (options->derived && options->derived->env && !options->derived->own_place) {
        s->own = options->derived->env;
        options->derived->env = NULL;
    } else if (options->derived && options->derived->env) {
        /* The place has the one that was derived, and may be there for longer than the session. */
        s->own = malloc(sizeof(*s->own));
        if (!s->own || environment_copy(s->own, options->derived->env) < 0) {
            free(s->own);
            s->own = NULL;
            return -1;
        }
    }
    s->env = s->own ? s->own : s->base;
    s->name = options->name ? strdup(options->name) : NULL;
    s->tags = options->tags ? json_copy(options->tags) : NULL;
    s->variables = options->variables ? json_deep_copy(options->variables) : NULL;
    return (options->name && !s->name) || (options->tags && !s->tags) ||
                   (options->variables && !s->variables)
               ? -1
               : 0;
}

uint64_t session_wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct session *session_blank(struct sessions *owner, struct place_slot *slot,
                                     const char *id, const struct session_options *options)
{
    struct session *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->owner = owner;
    s->slot = slot;
    s->idle_room = IDLE_OUTPUT_CAP;
    s->last_closing = calloc(1, sizeof(struct closing));
    if (!s->last_closing || take_options(s, options) < 0) {
        session_free(s);
        return NULL;
    }
    s->made_at = s->used_at = uv_now(owner->loop);
    s->made_ms = session_wall_ms();
    s->end_at = s->made_at + (uint64_t)(s->env->max_lifetime_seconds * 1000);
    strncpy(s->id, id, sizeof(s->id) - 1);
    return s;
}

struct session *session_new(struct sessions *owner, struct place_slot *slot, const char *id,
                            const struct session_options *options, struct error *err)
{
    struct share_list shares = {0};
    struct session *s = session_blank(owner, slot, id, options);

    if (!s) {
        out_of_memory(err);
        return NULL;
    }
    /* What was left has its shares. */
    if (session_take_kept(s, options, err) < 0 ||
        (!options->record && open_own_shares(&shares, owner->config, s->env, err) < 0) ||
        check_shares(&shares, slot, err) < 0) {
        share_list_deinit(&shares);
        session_free(s);
        return NULL;
    }
    s->own_shares = shares.count;
    s->executor = make_executor(s, &shares);
    if (!s->executor) {
        session_free(s);
        out_of_memory(err);
        return NULL;
    }
    return s;
}

void session_free(struct session *s)
{
    if (s->own) {
        environment_deinit(s->own);
        free(s->own);
    }
    free(s->name);
    json_decref(s->tags);
    json_decref(s->variables);
    session_drop_secrets(s);
    mask_stream_deinit(&s->idle_masks[STREAM_STDOUT]);
    mask_stream_deinit(&s->idle_masks[STREAM_STDERR]);
    session_log_deinit(&s->log);
    session_free_kept(s);
    free(s->last_closing);
    free(s->notice);
    json_decref(s->ports_told);
    free(s);
}

const char *session_id(const struct session *s)
{
    return s->id;
}

const struct environment *session_environment(const struct session *s)
{
    return s->env;
}

const struct place *session_place(const struct session *s)
{
    return s->slot ? s->slot->place : NULL;
}

struct executor *session_executor(struct session *s)
{
    return s->executor;
}

struct artifacts *session_artifacts(struct session *s)
{
    return s->owner->artifacts;
}

char *session_take_notice(struct session *s)
{
    char *notice = s->notice;

    s->notice = NULL;
    return notice;
}

void session_begin(struct session *s)
{
    s->uses++;
    s->idle_room = IDLE_OUTPUT_CAP;
}

void session_end(struct session *s)
{
    s->uses--;
    s->used_at = uv_now(s->owner->loop);
    if (s->ended) {
        sessions_drop(s);
    } else {
        session_unused(s);
    }
}

void session_to_background(struct session *s)
{
    s->background++;
    sessions_schedule(s->owner);
}

void session_end_background(struct session *s)
{
    s->background--;
    session_end(s);
}

/* --- closing an executor of a session --- */

/* Nothing is left of it: whoever waited for that is told. */
static void answer_finish_ops(struct session *s)
{
    struct finish_op *op;

    while ((op = s->finish_ops)) {
        s->finish_ops = op->next;
        if (op->done) {
            op->done(op->data, NULL);
        }
        free(op);
    }
}

static void on_session_executor_closed(void *data, const struct error *err)
{
    struct closing *closing = data;
    struct session *s = closing->session;
    struct sessions *owner = s->owner;
    struct place_slot *slot = s->slot;
    struct share_op *op;

    (void)err;
    while ((op = closing->ops)) {
        closing->ops = op->next;
        free(op);
    }
    if (closing->done) {
        closing->done(closing->data, NULL);
    }
    free(closing);
    s->closing--;
    if (s->ended && s->closing == 0) {
        s->slot = NULL; /* one of its own may go with its last executor */
        answer_finish_ops(s);
        sessions_drop(s);
    }
    place_slot_release(owner, slot);
}

/* Answers the additions that a closing executor will not answer. */
static void fail_ops(struct share_op *ops)
{
    struct error err = {0};

    error_set(&err, ERROR_LOST, "the session was reset or ended before the share was there");
    for (struct share_op *op = ops; op; op = op->next) {
        if (op->session) {
            op->session = NULL;
            op->done(op->data, &err);
        }
    }
    error_clear(&err);
}

/* What its runs have left has been brought in. */
static void close_now(void *data)
{
    struct closing *closing = data;

    session_stop_executor(closing->session, closing->executor, on_session_executor_closed, closing);
}

static void close_executor(struct session *s, struct executor *e, struct closing *closing)
{
    closing->session = s;
    closing->executor = e;
    closing->ops = s->ops;
    s->ops = NULL;
    s->closing++;
    fail_ops(closing->ops);
    if (!artifacts_rescue(s->owner->artifacts, e, close_now, closing)) {
        close_now(closing);
    }
}

void session_close(struct session *s)
{
    struct closing *closing = s->last_closing;
    struct executor *e = s->executor;

    s->ended = true;
    s->last_closing = NULL;
    s->executor = NULL;
    close_executor(s, e, closing);
    session_stop_secrets(s);
}

/* --- shares --- */

static void on_share_progress(void *data, const char *line)
{
    struct share_op *op = data;

    if (op->session && op->progress) {
        op->progress(op->data, line);
    }
}

static void on_share_done(void *data, const struct error *err)
{
    struct share_op *op = data, **link;

    if (!op->session) {
        return; /* answered already; freed with its executor */
    }
    for (link = &op->session->ops; *link != op; link = &(*link)->next) {
    }
    *link = op->next;
    op->done(op->data, err);
    free(op);
}

void session_add_share(struct session *s, struct share *share_owned, executor_progress progress,
                       executor_done done, void *data)
{
    struct share_op *op = calloc(1, sizeof(*op));
    struct error err = {0};

    if (!op) {
        share_free(share_owned);
        out_of_memory(&err);
        done(data, &err);
        error_clear(&err);
        return;
    }
    *op = (struct share_op){s->ops, s, progress, done, data};
    s->ops = op;
    executor_add_share(s->executor, share_owned, on_share_progress, on_share_done, op);
}

void session_cancel_share(struct session *s, const void *data)
{
    const struct share_op *op = s->ops;

    while (op && op->data != data) {
        op = op->next;
    }
    if (op) {
        executor_cancel_share(s->executor, op);
    }
}

/* A share that a person has allowed is good for what was opened then, whatever its path leads to
 * now; a bucket is what it was. */
static int share_list_keep(struct share_list *list, const struct share *share, struct error *err)
{
    struct share **grown = reallocarray(list->items, list->count + 1, sizeof(struct share *));
    struct stat st;

    if (!grown) {
        return out_of_memory(err);
    }
    list->items = grown;
    if (share->type != SHARE_CLOUD && (fstat(share->fd, &st) < 0 || st.st_nlink == 0)) {
        return error_set(err, ERROR_NOT_FOUND,
                         "source %s, which a person had allowed, was removed; ask with add_share "
                         "again after a reset with keep_shares false",
                         share->source);
    }
    list->items[list->count] = share_clone(share);
    if (!list->items[list->count]) {
        return out_of_memory(err);
    }
    list->count++;
    return 0;
}

/* Opens the sources of all shares anew. -1 with an error that names the one that is missing. */
static int reopen_shares(struct session *s, const json_t *roots, bool keep_shares,
                         struct share_list *list, struct error *err)
{
    const struct config *config = s->owner->config;
    const struct share *share;

    if (open_own_shares(list, config, s->env, err) < 0) {
        return -1;
    }
    for (unsigned i = s->own_shares; keep_shares && (share = executor_share(s->executor, i)); i++) {
        bool as_it_is = share->consented || share->type == SHARE_CLOUD;
        int r = as_it_is ? share_list_keep(list, share, err)
                         : share_list_open(list, config, roots, share->type, share->source,
                                           share->dest, share->read_only, err);

        if (r < 0) {
            return -1;
        }
    }
    return 0;
}

int session_reset(struct session *s, const json_t *roots, bool keep_shares, executor_done done,
                  void *data, struct error *err)
{
    struct closing *closing = calloc(1, sizeof(*closing));
    struct executor *old = s->executor, *fresh;
    struct share_list shares = {0};
    unsigned own = (unsigned)json_array_size(s->env->shares);

    if (!closing) {
        return out_of_memory(err);
    }
    if (reopen_shares(s, roots, keep_shares, &shares, err) < 0 ||
        executor_check_shares(s->slot->place, shares.items, shares.count, err) < 0) {
        share_list_deinit(&shares);
        free(closing);
        return error_wrap(err, "nothing was reset");
    }
    fresh = make_executor(s, &shares);
    if (!fresh) {
        free(closing);
        return out_of_memory(err);
    }
    session_forget_where(s);
    if (s->env->mode == MODE_EPHEMERAL) {
        session_ephemerals_close(s); /* all its runs are in them */
    }
    s->executor = fresh;
    s->own_shares = own;
    s->shares_unknown = false;
    closing->done = done;
    closing->data = data;
    close_executor(s, old, closing);
    return 0;
}
