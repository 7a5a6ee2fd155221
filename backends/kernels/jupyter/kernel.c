#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/kernel_command.h"
#include "backends/kernels/jupyter/session_internal.h"

/*
 * The jupyter kernel, our side: one run at a time. A run is over when its reply has come and the
 * kernel has said that it is idle again; from a kernel with our helper the reply also says how much
 * was put out, so that nothing is waited for in vain and nothing that a server held back goes
 * unnoticed; what was lost in a cut is got again (kernel_gap.c). Messages whose parent is not our
 * request are strangers', and are ignored.
 */
enum {
    RUN_CAP = 9 * 1024 * 1024, /* most servers end the connection at 10 MiB */
    LINGER_MS = 3000,          /* reply → idle */
    CUT_LINGER_MS = 10 * 1000, /* more, while nothing is connected */
    INTERRUPT_MS = 3000,
    SILENT_CHECK_MS = 1000, /* of a run that nothing is heard of */
    CHECK_MS = 5000,
};

struct jupyter {
    struct jupyter_session *session;
    struct kernel_events events;
    void *data;
    struct jupyter_output output;
    struct jupyter_gap gap;
    bool greeted;
    /* The run that is going: `run` is "" when none is. */
    char run[RUN_ID_SIZE];
    struct session_kernel *target;
    bool sent;
    bool waits;      /* for the connection, with nothing sent before that */
    bool delayed;    /* waits for its kernel, and that is to be told */
    bool heard;      /* something has come that answers it */
    json_t *request; /* content of the execute request */
    char *input;
    size_t input_size, input_at;
    char message[JUPYTER_ID_SIZE];
    char before[JUPYTER_ID_SIZE]; /* the run before: its leftovers are still its own */
    char info[JUPYTER_ID_SIZE];   /* asked after a cut, to see what has arrived */
    json_t *reply;
    bool idle;
    bool lingered;
    uint64_t deadline; /* 0: none */
    uint64_t check_at; /* when the server is asked whether the kernel is there still */
    struct error refused;
};

static struct jupyter *jupyter_of(struct kernel *k)
{
    return (struct jupyter *)k;
}

/* ---- ending a run ---- */

static void forget_run(struct jupyter *j)
{
    j->run[0] = '\0';
    memcpy(j->before, j->message, sizeof(j->before));
    j->message[0] = j->info[0] = '\0';
    j->target = NULL;
    j->delayed = j->sent = j->heard = j->idle = j->lingered = false;
    j->deadline = 0;
    gap_end(&j->gap);
    json_decref(j->request);
    json_decref(j->reply);
    j->request = j->reply = NULL;
    free(j->input);
    j->input = NULL;
    j->input_size = j->input_at = 0;
}

static const char *text_of(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void refuse(struct jupyter *j, const struct error *err)
{
    forget_run(j);
    j->events.on_refused(j->data, err);
}

static void finish(struct jupyter *j)
{
    json_t *content = j->reply;
    json_t *done = j->target->is_python ? json_object_get(content, "cellblock") : NULL;
    struct kernel_reply reply = {.status = KERNEL_OK};
    char *traceback;

    j->reply = NULL;
    reply_tell(&j->output, done);
    traceback = reply_read(content, done, &reply);
    forget_run(j);
    j->events.on_reply(j->data, &reply);
    free(traceback);
    json_decref(content);
}

/* ---- sending a run ---- */

static int send_run(struct jupyter *j)
{
    bool connected = remote_is_open(j->target->remote);
    int r = remote_send(j->target->remote, JUPYTER_SHELL, "execute_request", j->request, NULL, 0,
                        j->message);

    j->sent = r == 0;
    j->waits = !connected;
    j->check_at = uv_now(j->session->server->loop) + SILENT_CHECK_MS;
    session_watch(j->session);
    return r;
}

static int keep_input(struct jupyter *j, const struct run_request *request)
{
    if (!request->stdin_text) {
        return 0;
    }
    j->input = malloc(request->stdin_size + 1);
    if (!j->input) {
        return -ENOMEM;
    }
    memcpy(j->input, request->stdin_text, request->stdin_size);
    j->input[request->stdin_size] = '\0';
    j->input_size = request->stdin_size;
    return 0;
}

static int begin(struct jupyter *j, const struct run_request *request)
{
    bool ours = kernel_is_ours(request);
    bool allowed = ours || kernel_check_stranger(request, &j->refused) == 0;

    j->target = ours ? session_python(j->session) : NULL;
    if (ours && (!j->target || !j->target->ready)) {
        return -EPIPE;
    }
    if (ours && kernel_check_command(j->target, request, &j->refused) < 0) {
        j->target = NULL;
    }
    if (!ours && allowed) {
        j->target = session_language(j->session, request->language);
    }
    if (!j->target) {
        session_soon(j->session); /* refused */
        return 0;
    }
    /* Another Python of the server has the helper too, and runs its code as "python". */
    struct run_request run = *request;
    if (!ours) {
        run.language = "python";
    }
    bool helped = ours || (j->target->ready && j->target->is_python);
    j->request = helped ? kernel_helper_content(&run) : kernel_stranger_content(request);
    if (!j->request || keep_input(j, request) < 0) {
        return -ENOMEM;
    }
    if (!j->target->ready) {
        j->delayed = true;
        session_soon(j->session);
        return 0;
    }
    return send_run(j);
}

static int jupyter_run(struct kernel *k, const struct run_request *request)
{
    struct jupyter *j = jupyter_of(k);
    int r;

    if (kernel_request_size(request) > RUN_CAP) {
        return -EMSGSIZE;
    }
    j->output.got[0] = j->output.got[1] = 0;
    j->output.displays = 0;
    j->output.dropped = j->output.cut = false;
    gap_begin(&j->gap);
    (void)snprintf(j->run, sizeof(j->run), "%s", request->id);
    r = begin(j, request);
    if (r < 0) {
        forget_run(j);
    }
    return r;
}

/* A kernel that was started for this run has answered. Only now it is known whether it has the
 * helper. */
void kernel_language_ready(struct jupyter *j, struct session_kernel *k)
{
    if (j->target != k || j->sent) {
        return;
    }
    if (k->is_python) {
        const json_t *code = json_object_get(j->request, "code");
        struct run_request request = {
            .id = j->run,
            .language = "python",
            .code = json_string_value(code),
            .code_size = json_string_length(code),
            .stdin_text = j->input,
            .stdin_size = j->input_size,
        };
        json_t *content = kernel_helper_content(&request);
        json_decref(j->request);
        j->request = content;
    }
    if (!j->delayed && j->events.on_begun) {
        j->events.on_begun(j->data);
    }
    j->delayed = false;
    (void)send_run(j);
}

void kernel_language_failed(struct jupyter *j, const struct session_kernel *k,
                            const struct error *err)
{
    if (j->target != k) {
        return;
    }
    if (j->sent) {
        kernel_language_died(j, k);
    } else {
        refuse(j, err);
    }
}

void kernel_language_died(struct jupyter *j, const struct session_kernel *k)
{
    struct kernel_reply reply = {
        .status = KERNEL_ERROR,
        .etype = "KernelDied",
        .evalue = "the kernel of this language ended while it ran the code; nobody knows how. Its "
                  "variables are gone, those of the other languages are kept",
    };

    if (j->target == k) {
        forget_run(j);
        j->events.on_reply(j->data, &reply);
    }
}

/* ---- messages ---- */

static void maybe_done(struct jupyter *j)
{
    json_t *done = json_object_get(j->reply, "cellblock");
    bool whole = done && reply_is_complete(&j->output, done);

    if (done && !whole && gap_may_come(&j->gap, &j->output, j->target, j->run)) {
        return;
    }
    if (j->reply && (j->idle || whole)) {
        finish(j);
    } else if (j->reply && j->deadline == 0) {
        j->deadline = uv_now(j->session->server->loop) + LINGER_MS;
        session_watch(j->session);
    }
}

/* A reply without our mark is a kernel's that has no helper: it was replaced, and ran nothing. */
static void take_reply(struct jupyter *j, struct jupyter_message *m)
{
    json_t *content = jupyter_message_content(m);
    json_t *done = json_object_get(content, "cellblock");
    const char *failed = text_of(done, "failed");
    char why[300];

    if (j->target->is_python && (!json_is_object(done) || failed)) {
        (void)snprintf(why, sizeof(why), "does not answer as our session's%s%.200s",
                       failed ? ": " : ": the kernel was restarted by somebody else",
                       failed ? failed : "");
        j->events.on_broken(j->data, why);
        return;
    }
    if (content && !j->reply) {
        j->reply = json_incref(content);
        maybe_done(j);
    }
}

static void take_input_request(struct jupyter *j)
{
    const char *rest = j->input ? j->input + j->input_at : "";
    size_t left = j->input ? j->input_size - j->input_at : 0;
    const char *end = left ? memchr(rest, '\n', left) : NULL;
    size_t line = end ? (size_t)(end - rest) : left;
    json_t *content = json_object();
    char id[JUPYTER_ID_SIZE];

    /* End of file is ^D, as jupyter-client's own console has it. */
    json_object_set_new(content, "value", left ? json_stringn(rest, line) : json_string("\x04"));
    j->input_at += line + (end ? 1 : 0);
    (void)remote_send(j->target->remote, JUPYTER_STDIN, "input_reply", content, NULL, 0, id);
    json_decref(content);
}

const char *kernel_silent_run(const struct jupyter *j)
{
    return j->run[0] && !j->heard ? j->run : NULL;
}

static void take_of_run(struct jupyter *j, struct jupyter_message *m)
{
    j->heard = true;
    if (m->channel == JUPYTER_SHELL && strcmp(m->type, "execute_reply") == 0) {
        take_reply(j, m);
    } else if (m->channel == JUPYTER_STDIN && strcmp(m->type, "input_request") == 0) {
        take_input_request(j);
    } else if (m->channel == JUPYTER_IOPUB && strcmp(m->type, "status") == 0) {
        const char *state = text_of(jupyter_message_content(m), "execution_state");
        j->idle = j->idle || (state && strcmp(state, "idle") == 0);
        maybe_done(j);
    } else if (m->channel == JUPYTER_IOPUB) {
        gap_take(&j->gap, &j->output, j->target, j->run, m);
        if (j->run[0]) {
            maybe_done(j);
        }
    }
}

static void late_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct jupyter *j = data;

    if (j->run[0]) {
        j->events.on_leftover(j->data, stream, bytes, size);
    } else {
        j->events.on_output(j->data, stream, bytes, size);
    }
}

/* What leftovers of the run before print is not the present one's. */
static void take_late(struct jupyter *j, struct jupyter_message *m)
{
    static const struct kernel_events events = {.on_output = late_output};
    struct jupyter_output output = {.events = &events, .data = j};

    if (m->channel == JUPYTER_IOPUB && strcmp(m->type, "stream") == 0) {
        output_take(&output, m);
    }
}

static void maybe_never_arrived(struct jupyter *j)
{
    struct kernel_reply reply = {
        .status = KERNEL_ERROR,
        .etype = "ConnectionLost",
        .evalue = "the connection to the kernel was cut when the code was sent or while it ran, "
                  "and its answer is lost: whether it ran is not known",
    };

    if (j->run[0] && !j->reply) {
        forget_run(j);
        j->events.on_reply(j->data, &reply);
    }
}

void kernel_take_message(struct jupyter *j, struct session_kernel *k, struct jupyter_message *m)
{
    if (!*m->parent) {
        return;
    }
    if (j->run[0] && j->sent && k == j->target && strcmp(m->parent, j->message) == 0) {
        take_of_run(j, m);
    } else if (j->info[0] && k == j->target && strcmp(m->parent, j->info) == 0) {
        if (m->channel == JUPYTER_SHELL) {
            maybe_never_arrived(j);
        }
    } else if (strcmp(m->parent, j->before) == 0) {
        take_late(j, m);
    }
}

/* ---- after a cut ---- */

/* Whether what was on its way has arrived is not known. Our helper runs nothing twice that comes
 * under one id and answers with what it remembers: it is just sent again. A number makes it another
 * message, since kernels drop one whose signature they have seen. */
static void send_again(struct jupyter *j)
{
    json_int_t before = json_integer_value(json_object_get(j->request, "again"));

    json_object_set_new(j->request, "again", json_integer(before + 1));
    (void)remote_send_again(j->target->remote, JUPYTER_SHELL, "execute_request", j->request,
                            j->message);
}

static void note_cut(struct jupyter *j)
{
    if (j->waits) {
        j->waits = false; /* it has only now been sent */
        return;
    }
    j->output.cut = true;
    j->gap.given_up = false;
    j->gap.tries = 0;
    if (j->target->is_python && j->target->threads) {
        gap_ask(&j->gap, j->target, j->run);
    }
}

void kernel_take_kept(struct jupyter *j, json_t *content)
{
    if (j->run[0] && j->target && j->gap.asking) {
        gap_take_answer(&j->gap, &j->output, j->target, j->run, content);
        maybe_done(j);
    }
}

void kernel_connected_again(struct jupyter *j, struct session_kernel *k)
{
    json_t *nothing;

    if (!j->run[0] || j->target != k || !j->sent) {
        return;
    }
    note_cut(j);
    if (j->reply) {
        maybe_done(j);
        return;
    }
    if (k->is_python) {
        send_again(j);
        return;
    }
    nothing = json_object();
    (void)remote_send(k->remote, JUPYTER_SHELL, "kernel_info_request", nothing, NULL, 0, j->info);
    json_decref(nothing);
}

/* ---- interrupt ---- */

static void on_interrupted(void *data, json_t *content, const struct error *err)
{
    struct jupyter_session *s = data;
    struct jupyter *j = s->kernel;

    (void)content;
    if (err && j && j->run[0] && j->target && !s->closing) {
        remote_order(j->target->remote, "interrupt"); /* the other way round */
    }
}

void kernel_interrupt(struct jupyter *j)
{
    struct session_kernel *k = j->target;

    if (!j->run[0]) {
        return;
    }
    if (!j->sent) {
        struct kernel_reply reply = {.status = KERNEL_INTERRUPTED};
        forget_run(j);
        j->events.on_reply(j->data, &reply);
        return;
    }
    if (!k) {
        return; /* it has ended, and is told in a moment */
    }
    if (k->is_python && k->threads) {
        session_ask(k, json_pack("{s:s, s:s}", "op", "interrupt", "run", j->run), NULL, 0,
                    INTERRUPT_MS, on_interrupted, j->session);
    } else {
        remote_order(k->remote, "interrupt");
    }
}

/* ---- deadlines ---- */

void kernel_target_gone(struct jupyter *j, const struct session_kernel *k)
{
    if (j->target == k) {
        j->target = NULL;
    }
}

/* What is missing may come with the next connection. */
static void linger_or_finish(struct jupyter *j, uint64_t now)
{
    bool open = remote_is_open(j->target->remote);

    j->output.cut = j->output.cut || !open;
    if (open || j->lingered) {
        finish(j);
    } else {
        j->lingered = true;
        j->deadline = now + CUT_LINGER_MS;
    }
}

bool kernel_check(struct jupyter *j, uint64_t now)
{
    if (!j->target) {
        return false;
    }
    if (j->deadline && j->deadline <= now && j->reply && !j->gap.asking) {
        linger_or_finish(j, now);
    }
    if (j->run[0] && j->sent && j->check_at <= now) {
        j->check_at = now + (j->heard ? CHECK_MS : SILENT_CHECK_MS);
        remote_check(j->target->remote);
    }
    return j->run[0] && j->sent;
}

void kernel_soon(struct jupyter *j)
{
    struct error err = j->refused;

    if (!j->greeted) {
        j->greeted = true;
        j->events.on_ready(j->data, "Jupyter kernel");
        return;
    }
    if (j->delayed) {
        j->delayed = false;
        if (j->run[0] && !j->sent && j->events.on_delayed) {
            j->events.on_delayed(j->data, "starting the kernel of this language");
        }
        return;
    }
    if (j->run[0] && !j->target && err.kind != ERROR_NONE) {
        j->refused = (struct error){0};
        refuse(j, &err);
        error_clear(&err);
    }
}

/* ---- what the executor calls ---- */

static struct kernel *jupyter_attach(struct link *link, const struct kernel_events *events,
                                     void *data)
{
    struct jupyter_session *s = ((struct session_link *)link)->session;
    struct jupyter *j = calloc(1, sizeof(*j));

    if (!j) {
        return NULL;
    }
    j->session = s;
    j->events = *events;
    j->data = data;
    j->output = (struct jupyter_output){.events = &j->events, .data = data};
    s->kernel = j;
    session_soon(s);
    return (struct kernel *)j;
}

static int jupyter_signal(struct kernel *k, const char *run, int number)
{
    struct jupyter *j = jupyter_of(k);

    return j->run[0] && j->target ? kernel_send_signal(j->target, run, number) : -EPIPE;
}

static int jupyter_write(struct kernel *k, const char *run, const char *bytes, size_t size,
                         bool eof)
{
    struct jupyter *j = jupyter_of(k);

    return j->run[0] && j->target ? kernel_send_stdin(j->target, run, bytes, size, eof) : -EPIPE;
}

/* Everything is delivered as it comes. */
static void jupyter_drain(struct kernel *k)
{
    (void)k;
}

static void jupyter_detach(struct kernel *k)
{
    struct jupyter *j = jupyter_of(k);

    if (j->session->kernel == j) {
        j->session->kernel = NULL;
    }
    forget_run(j);
    error_clear(&j->refused);
    free(j);
}

const struct kernel_ops jupyter_kernel = {
    .name = "jupyter",
    .attach = jupyter_attach,
    .run = jupyter_run,
    .signal = jupyter_signal,
    .write = jupyter_write,
    .drain = jupyter_drain,
    .detach = jupyter_detach,
};
