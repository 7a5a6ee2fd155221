#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"
#include "backends/registry.h"

enum { SHARES_CAP = 256 };

/* ---- answers ---- */

/* Takes the error. Without memory for the answer it would never come: then it comes now, which is
 * the lesser evil. */
static void answer_soon(struct executor *e, executor_done done, void *data, struct error *err)
{
    struct answer *answer;

    if (!done) {
        error_clear(err);
        return;
    }
    answer = calloc(1, sizeof(*answer));
    if (!answer) {
        done(data, err->kind == ERROR_NONE ? NULL : err);
        error_clear(err);
        return;
    }
    answer->done = done;
    answer->data = data;
    answer->error = *err;
    *err = (struct error){0};
    *e->answers_end = answer;
    e->answers_end = &answer->next;
    executor_soon(e);
}

void executor_answer_shares(struct executor *e)
{
    while (e->answers) {
        struct answer *answer = e->answers;
        e->answers = answer->next;
        if (!e->answers) {
            e->answers_end = &e->answers;
        }
        answer->done(answer->data, answer->error.kind == ERROR_NONE ? NULL : &answer->error);
        error_clear(&answer->error);
        free(answer);
    }
}

/* ---- entries ---- */

static void entry_free(struct entry *entry)
{
    share_free(entry->share);
    free(entry);
}

static void entry_unlink(struct executor *e, const struct entry *entry)
{
    for (struct entry **at = &e->entries; *at; at = &(*at)->next) {
        if (*at == entry) {
            *at = entry->next;
            e->entry_count--;
            return;
        }
    }
}

static void entry_answer(struct executor *e, struct entry *entry, struct error *err)
{
    executor_done done = entry->done;

    entry->done = NULL;
    answer_soon(e, done, entry->data, err);
}

void executor_free_shares(struct executor *e)
{
    while (e->entries) {
        struct entry *entry = e->entries;
        e->entries = entry->next;
        entry_free(entry);
    }
}

const struct share *executor_share(const struct executor *e, unsigned index)
{
    for (const struct entry *entry = e->entries; entry; entry = entry->next) {
        if (index-- == 0) {
            return entry->share;
        }
    }
    return NULL;
}

/* Those that a machine is made with, or the copies. */
static unsigned list_shares(const struct executor *e, bool copies, struct share **to)
{
    unsigned count = 0;

    for (const struct entry *entry = e->entries; entry; entry = entry->next) {
        if ((entry->share->type == SHARE_COPY) == copies) {
            to[count++] = entry->share;
        }
    }
    return count;
}

int executor_start_shares(const struct executor *e, struct share ***ret,
                          struct start_request *request)
{
    struct share **all = calloc((size_t)e->entry_count + 1, sizeof(struct share *));

    if (!all) {
        return -1;
    }
    request->mount_count = list_shares(e, false, all);
    request->mounts = all;
    request->copy_count = list_shares(e, true, all + request->mount_count);
    request->copies = all + request->mount_count;
    *ret = all;
    return 0;
}

/* ---- puts ---- */

static void put_progress(void *data, const char *line)
{
    const struct entry *entry = data;
    const struct executor *e = entry->executor;

    if (entry->done && entry->progress) {
        entry->progress(entry->data, line);
    } else if (!entry->done && e->queue.first && !e->closing) {
        const struct run *run = e->queue.first;
        if (run->events.on_waiting) {
            run->events.on_waiting(run->data, line);
        }
    }
}

/* A copy that somebody is waiting for fails for itself; one that was noted before fails the start.
 */
static void put_failed(struct executor *e, struct entry *entry, const struct error *err)
{
    bool stalled = err->kind == ERROR_TIMEOUT && !executor_put_is_stuck(e, NULL);
    struct error copy = {0};

    if (entry->done) {
        (void)error_set(&copy, err->kind, "%s%s", err->message,
                        stalled ? ". The session goes on without it: add the share again, and "
                                  "call reset_session first if it stalls once more"
                                : "");
        entry_unlink(e, entry);
        entry_answer(e, entry, &copy);
        entry_free(entry);
        return;
    }
    (void)error_set(&copy, err->kind, "the share %s could not be brought in at %s: %s%s",
                    entry->share->source, entry->share->dest, err->message,
                    stalled ? ". The next run tries it again" : "");
    entry->state = ENTRY_NOTED;
    executor_fail_start(e, copy.kind, copy.message);
    error_clear(&copy);
}

static void put_done(void *data, const struct error *err)
{
    struct entry *entry = data;
    struct executor *e = entry->executor;
    struct error none = {0};

    if (err) {
        put_failed(e, entry, err);
    } else {
        entry->state = ENTRY_THERE;
        entry->cancelled = false; /* it was there first */
        entry_answer(e, entry, &none);
    }
    executor_check_ready(e);
    executor_soon(e); /* the next one */
}

static void put_start(struct executor *e, struct entry *entry)
{
    struct error err = {0};
    struct share *share;

    if (executor_put_is_stuck(e, &err)) {
        put_failed(e, entry, &err);
    } else if (!(share = share_clone(entry->share))) {
        (void)error_set(&err, ERROR_LIMIT, "no descriptor or memory is left for the copy");
        put_failed(e, entry, &err);
    } else {
        entry->state = ENTRY_PUTTING;
        executor_put(e, share, put_progress, put_done, entry);
    }
    error_clear(&err);
}

/* One at a time: two copies into one folder do not get into each other's way, and a failure has
 * left nothing half made. */
static struct entry *next_due(const struct executor *e)
{
    if (!executor_can_put(e) && !executor_put_is_stuck(e, NULL)) {
        return NULL;
    }
    for (struct entry *entry = e->entries; entry; entry = entry->next) {
        if (entry->state == ENTRY_NOTED && entry->share->type == SHARE_COPY) {
            return entry;
        }
    }
    return NULL;
}

void executor_put_shares(struct executor *e)
{
    struct entry *entry;

    /* Looked up anew each time: a put may be answered, and the list change, before it returns. */
    while ((e->state == EXECUTOR_PREPARING || e->state == EXECUTOR_READY) &&
           (entry = next_due(e))) {
        put_start(e, entry);
    }
}

bool executor_shares_are_in(const struct executor *e)
{
    for (const struct entry *entry = e->entries; entry; entry = entry->next) {
        if (entry->share->type == SHARE_COPY && entry->state != ENTRY_THERE) {
            return false;
        }
    }
    return true;
}

static void forget_put(struct executor *e, struct entry *entry)
{
    struct error err = {0};

    if (!entry->done) {
        entry->state = ENTRY_NOTED;
        return;
    }
    if (entry->state != ENTRY_PUTTING && !e->closing) {
        entry_answer(e, entry, &err); /* it will be there from the next start on */
        return;
    }
    (void)error_set(&err, ERROR_LOST,
                    "the sandbox ended before %s was copied into it; add the share again",
                    entry->share->source);
    entry_unlink(e, entry);
    entry_answer(e, entry, &err);
    entry_free(entry);
}

void executor_forget_puts(struct executor *e)
{
    struct entry *next;

    for (struct entry *entry = e->entries; entry; entry = next) {
        next = entry->next;
        forget_put(e, entry);
    }
}

void executor_cancel_share(struct executor *e, const void *data)
{
    struct entry *entry = e->entries;
    struct error err = {0};

    while (entry && !(entry->done && entry->data == data)) {
        entry = entry->next;
    }
    if (entry && entry->state == ENTRY_PUTTING) {
        entry->cancelled = true;
        executor_put_cancel(e, entry);
    } else if (entry) {
        executor_set_cancelled(entry->share, &err);
        put_failed(e, entry, &err);
        error_clear(&err);
    }
}

/* ---- executor_add_share ---- */

static bool contains(const char *outer, const char *inner)
{
    size_t n = strlen(outer);
    return strncmp(outer, inner, n) == 0 && (inner[n] == '\0' || inner[n] == '/');
}

/* What the place itself has to say about this very source and dest; asked last. */
static int check_by_place(struct place *place, const struct share *share, struct error *err)
{
    return place->ops->share_check ? place->ops->share_check(place, share, err) : 0;
}

static int check_apart(const struct share *there, const struct share *share, struct error *err)
{
    if (contains(there->dest, share->dest) || contains(share->dest, there->dest)) {
        return error_set(err, ERROR_INVALID,
                         "dest: %s is taken by the share of %s at %s; choose another dest",
                         share->dest, there->source, there->dest);
    }
    return 0;
}

int executor_check_shares(struct place *place, struct share *const *shares, unsigned count,
                          struct error *err)
{
    for (unsigned i = 0; i < count; i++) {
        if (place_takes_share(place, shares[i]->type, shares[i]->read_only, err) < 0) {
            return -1;
        }
        for (unsigned j = 0; j < i; j++) {
            if (check_apart(shares[j], shares[i], err) < 0) {
                return -1;
            }
        }
        if (check_by_place(place, shares[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int check_share(const struct executor *e, const struct share *share, struct error *err)
{
    if (e->closing) {
        return error_set(err, ERROR_LOST, "the session is being closed");
    }
    if (place_takes_share(e->place, share->type, share->read_only, err) < 0) {
        return -1;
    }
    if (share->type != SHARE_COPY && executor_started(e)) {
        return error_set(err, ERROR_REFUSED,
                         "%s can only be added before the sandbox is started, and it has been; "
                         "call reset_session first%s",
                         share->type == SHARE_MOUNT ? "a mount" : "a bucket",
                         share->type == SHARE_MOUNT ? ", or use type \"copy\"" : "");
    }
    if (e->entry_count >= SHARES_CAP) {
        return error_set(err, ERROR_LIMIT, "a session has at most %d shares", SHARES_CAP);
    }
    for (const struct entry *entry = e->entries; entry; entry = entry->next) {
        if (!entry->cancelled && check_apart(entry->share, share, err) < 0) {
            return -1;
        }
    }
    return check_by_place(e->place, share, err);
}

static struct entry *entry_append(struct executor *e, struct share *share)
{
    struct entry **end = &e->entries;
    struct entry *entry = calloc(1, sizeof(*entry));

    if (!entry) {
        return NULL;
    }
    while (*end) {
        end = &(*end)->next;
    }
    entry->executor = e;
    entry->share = share;
    *end = entry;
    e->entry_count++;
    return entry;
}

/* Is there a machine that a copy goes to now? */
static bool goes_in_now(const struct executor *e, const struct share *share)
{
    return share->type == SHARE_COPY &&
           (e->state == EXECUTOR_STARTING || e->state == EXECUTOR_PREPARING ||
            e->state == EXECUTOR_READY);
}

void executor_add_share(struct executor *e, struct share *share_owned, executor_progress progress,
                        executor_done done, void *data)
{
    struct error err = {0};
    struct entry *entry = NULL;

    if (check_share(e, share_owned, &err) == 0) {
        entry = entry_append(e, share_owned);
        if (!entry) {
            (void)error_set(&err, ERROR_INTERNAL, "out of memory");
        }
    }
    if (!entry) {
        share_free(share_owned);
        answer_soon(e, done, data, &err);
    } else if (goes_in_now(e, share_owned)) {
        entry->progress = progress;
        entry->done = done;
        entry->data = data;
        executor_soon(e);
    } else {
        answer_soon(e, done, data, &err);
    }
}
