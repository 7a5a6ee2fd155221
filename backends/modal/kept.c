#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"
#include "router.pb-c.h"

/*
 * Sandboxes that outlive the server which made them: their supervisor lives on without a stream, or
 * with the jupyter kernel their keeper and its gateway do, whose token is made of the session's
 * tag. What the service and the sandbox are given is made of the session's tag, which neither of
 * them can lead back to: a tag of the sandbox, which proves that it is the session's, and the proof
 * of the relay's secret.
 *
 * Nothing tells a process in a sandbox that the one who wrote to its stdin is gone: who leaves ends
 * it, and who comes after one that could not (a SIGKILL) does that in its place. Then a relay (or
 * a keeper) is started, an exec of its own, which only carries bytes, and all else is as with a new
 * one.
 */

enum { WORD_DIGITS = 48, ROUTER_MS = 10 * 1000 };

/* What the sandbox's tag is. */
static void tag_word(const struct sandbox *s, char ret[MAC_SIZE])
{
    kept_word(s->base.tag, "label", ret);
    ret[WORD_DIGITS] = '\0'; /* the service takes no longer ones */
}

void kept_tags(const struct sandbox *s, struct owner_tags *tags)
{
    char word[MAC_SIZE];

    if (s->base.tag && !s->place->memory) {
        tag_word(s, word);
        owner_keep(tags, word, s->place->base.env->max_lifetime_seconds);
    }
}

static const char *word_of(const struct sandbox *s, const char *name)
{
    const char *text = json_string_value(json_object_get(s->base.where, name));

    return sandbox_is_id(text) ? text : NULL;
}

int kept_take(struct sandbox *s)
{
    s->request.tag = NULL;
    s->request.where = NULL;
    if (s->base.where && (!s->base.tag || !word_of(s, "sandbox"))) {
        return -1;
    }
    if (s->base.where) {
        const char *name = word_of(s, "name_there");
        (void)snprintf(s->name, sizeof(s->name), "%s", name ? name : word_of(s, "sandbox"));
    }
    return 0;
}

int kept_process(const struct sandbox *s)
{
    const char *text = word_of(s, "process");
    long pid = text ? strtol(text, NULL, 10) : 0;

    return pid > 0 && pid <= INT_MAX ? (int)pid : INT_MAX; /* which none is */
}

/* ---- finding it again ---- */

static bool shows_tag(const struct sandbox *s, const Modal__Client__SandboxTagsGetResponse *a)
{
    char word[MAC_SIZE];

    tag_word(s, word);
    return strcmp(owner_tag(a->tags, a->n_tags, OWNER_TAG_KEPT), word) == 0;
}

static void found(struct sandbox *s)
{
    const char *id = word_of(s, "sandbox");

    memcpy(s->id, id, strlen(id) + 1);
    s->place->reached = true;
    if (s->request.to_end) { /* whatever the code in it has done to its supervisor */
        sandbox_fail(s, ERROR_NOT_FOUND, "the sandbox %s was ended", s->name);
        return;
    }
    s->base.left = true; /* it stays until it has been reached */
    s->base.used = true;
    sandbox_watch(s);
    sandbox_place_it(s);
}

static void on_tags(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                    const struct error *err)
{
    struct sandbox *s = data;

    s->rpc = NULL;
    if (s->base.state == CRATE_CLOSING) {
        sandbox_answered(s);
    } else if (status == GRPC_NOT_FOUND) {
        sandbox_fail(s, ERROR_NOT_FOUND, "the sandbox %s is gone from Modal", s->name);
    } else if (err) {
        sandbox_fail(s, err->kind, "Modal did not say what became of the sandbox %s: %s", s->name,
                     err->message);
    } else if (!shows_tag(s, (const void *)answer)) {
        sandbox_fail(s, ERROR_NOT_FOUND,
                     "the sandbox %s is another's: it does not show this session's tag", s->name);
    } else {
        found(s);
    }
}

void kept_find(struct sandbox *s)
{
    struct error err = {0};

    sandbox_phase(s, CRATE_PLACING, "looking for the session's sandbox");
    if (sandbox_ask_tags(s, word_of(s, "sandbox"), on_tags, s, &err) < 0) {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}

char *kept_ended(const struct sandbox *s, const char *words)
{
    return string_format("the sandbox %s has ended%s%s", s->name, words ? ": " : "",
                         words ? words : "");
}

/* ---- in place of the one who could not end its stdin ---- */

/* What came of it is not asked: a relay that is not let in says so. */
static void on_stdin_ended(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                           const struct error *err)
{
    struct sandbox *s = data;

    (void)answer;
    (void)status;
    (void)err;
    if (s->base.state == CRATE_STARTING) {
        s->last_ended(s);
    }
}

static void end_stdin(struct sandbox *s, uint64_t offset)
{
    Modal__TaskCommandRouter__TaskExecStdinWriteRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIN_WRITE_REQUEST__INIT;
    const struct modal_command_call call = {
        .name = "TaskExecStdinWrite",
        .request = &request.base,
        .answer = &modal__task_command_router__task_exec_stdin_write_response__descriptor,
        .timeout_ms = ROUTER_MS,
        .done = on_stdin_ended,
        .data = s,
    };

    request.task_id = s->task_id;
    request.exec_id = (char *)word_of(s, "exec");
    request.offset = offset;
    request.eof = true;
    if (!modal_command_start(s->router, &call, NULL)) {
        s->last_ended(s);
    }
}

static void on_stdin_status(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                            const struct error *err)
{
    const Modal__TaskCommandRouter__TaskExecStdinStatusResponse *a = (const void *)answer;
    struct sandbox *s = data;

    (void)status;
    if (s->base.state != CRATE_STARTING) {
        return;
    }
    if (err || a->closed) {
        s->last_ended(s);
    } else {
        end_stdin(s, a->num_bytes_written);
    }
}

void kept_end_last(struct sandbox *s, void (*next)(struct sandbox *s))
{
    Modal__TaskCommandRouter__TaskExecStdinStatusRequest request =
        MODAL__TASK_COMMAND_ROUTER__TASK_EXEC_STDIN_STATUS_REQUEST__INIT;
    const struct modal_command_call call = {
        .name = "TaskExecStdinStatus",
        .request = &request.base,
        .answer = &modal__task_command_router__task_exec_stdin_status_response__descriptor,
        .timeout_ms = ROUTER_MS,
        .done = on_stdin_status,
        .data = s,
    };

    s->last_ended = next;
    request.task_id = s->task_id;
    request.exec_id = (char *)word_of(s, "exec");
    if (!request.exec_id || !modal_command_start(s->router, &call, NULL)) {
        next(s);
    }
}

/* ---- what leads to it ---- */

json_t *sandbox_where(const struct crate *crate)
{
    const struct sandbox *s = (const struct sandbox *)crate;
    json_t *where = s->exec ? crate->occupant->ops->where(crate->occupant) : NULL;
    char pid[16];

    if (where && !s->place->jupyter) {
        (void)snprintf(pid, sizeof(pid), "%d", runner_occupant_pid(crate->occupant));
        json_object_set_new(where, "process", json_string(pid));
    }
    if (where) {
        json_object_set_new(where, "sandbox", json_string(s->id));
        json_object_set_new(where, "name_there", json_string(s->name));
        json_object_set_new(where, "exec", json_string(modal_exec_id(s->exec)));
    }
    return where;
}
