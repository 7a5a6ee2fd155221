#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/modal/internal.h"
#include "router.pb-c.h"

/* A sandbox that has a readiness probe is asked whether it is ready before anything is started in
 * it. The service does the probing, and its router answers when the probe has gone well. */

enum { READY_SPARE_MS = 2000, READY_WORDS_CAP = 200 };

/* "port 5432 is not listened on", "pg_isready -q does not end with 0". To be freed. */
static char *what_is_missing(const json_t *probe)
{
    const json_t *port = json_object_get(probe, "port");
    const json_t *words = json_object_get(probe, "command");
    char *text = strdup("");
    size_t index;
    json_t *word;

    if (port) {
        free(text);
        return string_format("port %d is not listened on", (int)json_integer_value(port));
    }
    json_array_foreach(words, index, word)
    {
        char *longer = string_format("%s%s%s", text ? text : "", index > 0 ? " " : "",
                                     json_string_value(word));

        free(text);
        text = longer;
    }
    if (text) {
        char *said = string_format("\"%.*s\" does not end with 0", READY_WORDS_CAP, text);

        free(text);
        text = said;
    }
    return text;
}

static void on_never(struct sandbox *s)
{
    const struct environment *env = s->place->base.env;
    char *missing = what_is_missing(env->readiness_probe);

    sandbox_fail(s, ERROR_TIMEOUT,
                 "readiness_probe: the sandbox was not ready within %u s (%s); see what "
                 "sandbox_command does there, or give it longer with timeout_seconds",
                 modal_spec_probe_seconds(env), missing ? missing : "it did not say why");
    free(missing);
}

/* The service has had time to say that the sandbox has ended, and why. */
static void on_no_word(struct sandbox *s)
{
    sandbox_fail(s, ERROR_LOST,
                 "readiness_probe: nobody could say whether the sandbox is ready: %s",
                 s->base.reason ? s->base.reason : "the router did not answer");
}

static void on_ready(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                     const struct error *err)
{
    struct sandbox *s = data;

    (void)answer;
    s->asking_ready = NULL;
    if (s->base.state != CRATE_STARTING) {
        return;
    }
    uv_timer_stop(&s->timer);
    if (!err) {
        sandbox_start_program(s);
    } else if (status == GRPC_DEADLINE_EXCEEDED) {
        on_never(s);
    } else {
        free(s->base.reason);
        s->base.reason = strdup(err->message);
        sandbox_arm(s, WORD_MS, on_no_word);
    }
}

void sandbox_wait_ready(struct sandbox *s)
{
    unsigned seconds = modal_spec_probe_seconds(s->place->base.env);
    Modal__TaskCommandRouter__SandboxWaitUntilReadyTcrRequest request =
        MODAL__TASK_COMMAND_ROUTER__SANDBOX_WAIT_UNTIL_READY_TCR_REQUEST__INIT;
    struct error err = {0};
    const struct modal_command_call call = {
        .name = "SandboxWaitUntilReady",
        .request = &request.base,
        .answer = &modal__task_command_router__sandbox_wait_until_ready_tcr_response__descriptor,
        .timeout_ms = seconds * 1000 + READY_SPARE_MS,
        .patience_ms = seconds * 1000,
        .done = on_ready,
        .data = s,
    };

    request.task_id = s->task_id;
    request.timeout = (float)seconds;
    sandbox_phase(s, CRATE_STARTING, "waiting until the sandbox is ready (readiness_probe)");
    s->asking_ready = modal_command_start(s->router, &call, &err);
    if (s->asking_ready) {
        sandbox_arm(s, (uint64_t)seconds * 1000 + READY_SPARE_MS, on_never);
    } else {
        sandbox_fail(s, err.kind, "%s", err.message);
    }
    error_clear(&err);
}
