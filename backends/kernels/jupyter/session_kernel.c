#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/embedded.h"
#include "backends/kernels/jupyter/session_internal.h"

extern const struct embedded_file embedded_jupyter[]; /* "setup": see bundle.py */

enum {
    STARTS_MAX = 3,
    START_MS = 90 * 1000,
    FOLDER_CAP = 4096,
};

struct session_kernel *session_kernel_new(struct jupyter_session *s, const char *language)
{
    struct session_kernel *k = calloc(1, sizeof(*k));
    struct session_kernel **end = &s->kernels;

    if (!k || !(k->language = strdup(language))) {
        abort();
    }
    k->session = s;
    while (*end) {
        end = &(*end)->next;
    }
    *end = k;
    return k;
}

static bool is_main(const struct session_kernel *k)
{
    return strcmp(k->language, "python") == 0;
}

/* ---- ending ---- */

static void kernel_free(struct session_kernel *k)
{
    struct jupyter_session *s = k->session;
    struct session_kernel **at = &s->kernels;

    while (*at != k) {
        at = &(*at)->next;
    }
    *at = k->next;
    if (s->kernel) {
        kernel_target_gone(s->kernel, k);
    }
    free(k->language);
    free(k);
    s->closing_kernels--;
    session_close_step(s);
}

static void on_remote_closed(void *data, const struct error *err)
{
    (void)err; /* a server that does not end it: there is nobody to tell */
    kernel_free(data);
}

/* A kernel that is busy takes seconds to be deleted; its helper is quicker. */
static void kill_quickly(struct session_kernel *k)
{
    char id[JUPYTER_ID_SIZE];
    json_t *content = json_pack("{s:s}", "op", "die");

    if (content) {
        (void)remote_send(k->remote, JUPYTER_CONTROL, "cellblock_request", content, NULL, 0, id);
    }
    json_decref(content);
}

void session_kernel_close(struct session_kernel *k)
{
    struct jupyter_session *s = k->session;
    bool given = is_main(k) && (s->kernel_id || session_leaves_python(s));

    if (k->closing) {
        return;
    }
    k->closing = true;
    s->closing_kernels++;
    if (is_main(k) && !given && k->pid) {
        s->before = k->pid;
    }
    if (k->asking) {
        return; /* freed when the answer is there */
    }
    if (!k->remote) {
        k->remote = remote_new(s->server, s->websockets, &(struct remote_events){0}, k);
        if (!k->remote) {
            abort();
        }
    } else if ((k->ready || s->to_end > 0) && k->is_python && !given) {
        kill_quickly(k);
    }
    remote_close(k->remote, given ? REMOTE_LEAVE : REMOTE_DELETE, on_remote_closed, k);
}

/* Python's kernel has ended, nobody knows how; the server and the session's folder are there. */
static void main_is_gone(struct jupyter_session *s)
{
    const char *run = s->kernel ? kernel_silent_run(s->kernel) : NULL;

    if (s->state == SESSION_LIVE) {
        s->asking_begun = run != NULL;
        (void)snprintf(s->run, sizeof(s->run), "%s", run ? run : "");
    }
    session_end(s, EXIT_SIGNAL, 0, true, NULL);
}

/* It cannot be used: at the start, or any more. */
void session_kernel_failed(struct session_kernel *k, const struct error *err)
{
    struct jupyter_session *s = k->session;
    bool gone = err->kind == ERROR_NOT_FOUND && k->ready;

    if (is_main(k) && gone) {
        main_is_gone(s);
        return;
    }
    if (is_main(k)) {
        s->lost = err->kind == ERROR_LOST || err->kind == ERROR_TIMEOUT;
        session_end(s, EXIT_LOST, 0, false, err);
        return;
    }
    session_kernel_close(k);
    if (s->kernel) {
        kernel_language_failed(s->kernel, k, err);
    }
}

static void on_open(void *data, bool again);

static void died(struct session_kernel *k)
{
    struct jupyter_session *s = k->session;
    struct error err = {0};

    if (k->closing) {
        return;
    }
    if (!k->ready) {
        if (++k->starts >= STARTS_MAX) {
            (void)error_set(&err, ERROR_LOST,
                            "the kernel died %d times while it was starting; the Jupyter server's "
                            "log says why",
                            STARTS_MAX);
            session_kernel_failed(k, &err);
            error_clear(&err);
        } else if (k->hello_sent) {
            on_open(k, false); /* what was sent went to the one that died */
        }
        return;
    }
    if (is_main(k)) {
        main_is_gone(s);
        return;
    }
    session_kernel_close(k);
    if (s->kernel) {
        kernel_language_died(s->kernel, k);
    }
}

/* ---- starting ---- */

static int send_execute(struct session_kernel *k, const char *code, char id[JUPYTER_ID_SIZE])
{
    json_t *content =
        json_pack("{s:s, s:b, s:b, s:{}, s:b, s:b}", "code", code, "silent", 1, "store_history", 0,
                  "user_expressions", "allow_stdin", 0, "stop_on_error", 0);
    int r = content ? remote_send(k->remote, JUPYTER_SHELL, "execute_request", content, NULL, 0, id)
                    : -1;

    json_decref(content);
    return r;
}

static void write_quoted(FILE *out, const char *text)
{
    (void)fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'') {
            (void)fputs("'\\''", out);
        } else {
            (void)fputc(*text, out);
        }
    }
    (void)fputc('\'', out);
}

/* What a shell is told first: variables, home and working directory as the session has them. */
static char *shell_prologue(const struct jupyter_session *s)
{
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);
    const char *name;
    json_t *value;

    if (!out) {
        return NULL;
    }
    json_object_foreach(s->env, name, value)
    {
        if (json_string_value(value)) {
            (void)fprintf(out, "export %s=", name);
            write_quoted(out, json_string_value(value));
            (void)fputc('\n', out);
        }
    }
    (void)fputs("export HOME=", out);
    write_quoted(out, s->workspace ? s->workspace : s->folder);
    (void)fputs(s->workspace ? "\ncd\n" : "/workspace\ncd\n", out);
    return fclose(out) == 0 ? text : NULL;
}

static json_t *hello_request(const struct session_kernel *k)
{
    const struct jupyter_session *s = k->session;
    json_t *request = json_pack("{s:s, s:b, s:s?, s:s?, s:i}", "op", "hello", "own",
                                !(is_main(k) && s->kernel_id), "folder", s->folder, "workspace",
                                s->workspace, "before", is_main(k) ? s->before : 0);
    char name[JUPYTER_ID_SIZE + 80];

    (void)snprintf(name, sizeof(name), "%s-%.64s", s->name, k->language);
    if (request && s->env) {
        json_object_set(request, "env", s->env);
    }
    if (request && is_main(k) && s->tag) {
        /* One that was left is to say the tag itself. */
        json_object_set_new(request, s->found ? "attach" : "tag",
                            s->found ? json_true() : json_string(s->tag));
    }
    if (request) {
        json_object_set_new(request, "session", json_string(name));
    }
    return request;
}

/* Is it the one that was left, and has not answered? */
static bool is_found(const struct session_kernel *k)
{
    return is_main(k) && k->session->found;
}

static void send_setup(struct session_kernel *k)
{
    const struct embedded_file *setup = embedded_find(embedded_jupyter, "setup");
    json_t *request = hello_request(k);
    char *text = request ? json_dumps(request, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    char *code = NULL;

    json_decref(request);
    if (!text || asprintf(&code, "# cellblock %s", text) < 0) {
        abort();
    }
    k->hello_sent = true;
    if (!is_found(k)) { /* that one has its helper */
        (void)send_execute(k, (const char *)setup->data, k->setup_id);
    }
    (void)send_execute(k, code, k->hello_id);
    free(code);
    free(text);
}

/* Another language: that it answers at all is enough. Where its shell is a POSIX one it begins in
 * the session's folder. */
static void send_info(struct session_kernel *k)
{
    json_t *content = json_object();

    k->hello_sent = true;
    (void)remote_send(k->remote, JUPYTER_SHELL, "kernel_info_request", content, NULL, 0,
                      k->hello_id);
    json_decref(content);
}

static void fail_with(struct session_kernel *k, const char *format, const char *name,
                      const char *value)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_UNSUPPORTED, format, name, value);
    session_kernel_failed(k, &err);
    error_clear(&err);
}

/* Where the others' processes are, and with their variables. */
static void send_cd(struct session_kernel *k)
{
    char id[JUPYTER_ID_SIZE];
    char *text = shell_prologue(k->session);

    if (text) {
        (void)send_execute(k, text, id);
    }
    free(text);
}

static void is_ready(struct session_kernel *k, const char *begun)
{
    struct jupyter_session *s = k->session;

    k->ready = true;
    if (!is_main(k)) {
        if (k->is_shell) {
            send_cd(k);
        }
        if (s->kernel) {
            kernel_language_ready(s->kernel, k);
        }
        return;
    }
    session_is_live(s, begun);
}

static void take_hello(struct session_kernel *k, json_t *content)
{
    struct jupyter_session *s = k->session;
    json_t *answer = json_object_get(content, "cellblock");
    const char *failed = json_string_value(json_object_get(answer, "failed"));
    const char *folder = json_string_value(json_object_get(answer, "folder"));

    if (is_found(k)) {
        struct error err = {0};

        if (session_check_tag(s, answer, &err) < 0) {
            session_kernel_failed(k, &err);
            error_clear(&err);
            return;
        }
    }
    if (!json_is_object(answer) || failed) {
        fail_with(k, "the kernel could not be made ready for a session%s%s", failed ? ": " : "",
                  failed ? failed : "");
        return;
    }
    if (folder && (folder[0] != '/' || strlen(folder) > FOLDER_CAP)) {
        fail_with(k, "the kernel named a folder that cannot be%s%s", "", "");
        return;
    }
    k->threads = json_is_true(json_object_get(answer, "threads"));
    if (folder && !s->folder) {
        s->folder = strdup(folder);
    }
    k->pid = (int)json_integer_value(json_object_get(answer, "pid"));
    is_ready(k, json_string_value(json_object_get(answer, "begun")));
}

static void take_setup(struct session_kernel *k, json_t *content)
{
    const char *status = json_string_value(json_object_get(content, "status"));
    const char *name = json_string_value(json_object_get(content, "ename"));
    const char *value = json_string_value(json_object_get(content, "evalue"));

    if (status && strcmp(status, "ok") != 0) {
        fail_with(k, "the kernel cannot be used as Python: %.60s: %.300s", name ? name : status,
                  value ? value : "it did not take our code");
    }
}

/* ---- messages ---- */

static void take_status(struct session_kernel *k, struct jupyter_message *m)
{
    const char *state =
        json_string_value(json_object_get(jupyter_message_content(m), "execution_state"));

    if (!state) {
        return;
    }
    /* "starting" of one that was there: somebody has restarted it. */
    if (strcmp(state, "restarting") == 0 || strcmp(state, "dead") == 0 ||
        (strcmp(state, "starting") == 0 && k->settled)) {
        died(k);
    } else if (k->ready && strcmp(m->parent, k->hello_id) == 0) {
        k->settled = true;
    }
}

static bool is_of_start(const struct session_kernel *k, const struct jupyter_message *m)
{
    return m->channel == JUPYTER_SHELL && !k->ready && *m->parent &&
           (strcmp(m->parent, k->setup_id) == 0 || strcmp(m->parent, k->hello_id) == 0);
}

static void take_start(struct session_kernel *k, struct jupyter_message *m)
{
    if (!k->is_python) {
        is_ready(k, NULL);
    } else if (strcmp(m->parent, k->setup_id) == 0) {
        take_setup(k, jupyter_message_content(m));
    } else {
        take_hello(k, jupyter_message_content(m));
    }
}

static void on_message(void *data, struct jupyter_message *m)
{
    struct session_kernel *k = data;
    struct jupyter_session *s = k->session;

    if (k->closing) {
        return;
    }
    if (m->channel == JUPYTER_CONTROL) {
        (void)session_take_answer(s, m);
    } else if (is_of_start(k, m)) {
        take_start(k, m);
    } else {
        if (m->channel == JUPYTER_IOPUB && strcmp(m->type, "status") == 0) {
            take_status(k, m);
        }
        if (!k->closing && k->ready && s->kernel) {
            kernel_take_message(s->kernel, k, m);
        }
    }
}

static void on_open(void *data, bool again)
{
    struct session_kernel *k = data;
    struct jupyter_session *s = k->session;

    if (!k->ready) {
        if (k->is_python) {
            send_setup(k);
        } else {
            send_info(k);
        }
        return;
    }
    if (!again) {
        return;
    }
    if (is_main(k)) {
        session_fail_asks(s, "the connection to the kernel was cut");
        session_put_again(s);
    }
    if (s->kernel) {
        kernel_connected_again(s->kernel, k);
    }
}

static void on_end(void *data, const struct error *err)
{
    session_kernel_failed(data, err);
}

/* ---- its server ---- */

static int find_spec(struct session_kernel *k, const char **ret_spec, struct error *err)
{
    struct jupyter_session *s = k->session;
    const char *language = "";
    const char *wanted = is_main(k) ? s->kernelspec : k->language;

    *ret_spec = jupyter_server_spec(s->server, wanted, &language, err);
    if (!*ret_spec) {
        return -1;
    }
    k->is_python = strcmp(language, "python") == 0;
    k->is_shell = strcmp(language, "bash") == 0 || strcmp(language, "sh") == 0;
    if (is_main(k) && !k->is_python) {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "the Jupyter server's kernel \"%.60s\" runs %.40s, not Python: name one of "
            "its Python kernels",
            *ret_spec, language);
    }
    return 0;
}

static void on_specs(void *data, long status, json_t *body, const struct error *failure)
{
    static const struct remote_events events = {on_open, on_message, on_end};
    struct session_kernel *k = data;
    struct jupyter_session *s = k->session;
    const char *kernel_id = !is_main(k) ? NULL : s->found ? s->found : s->kernel_id;
    struct error err = {0};
    const char *spec = NULL;

    (void)status;
    (void)body;
    k->asking = false;
    if (k->closing) {
        kernel_free(k);
        return;
    }
    if (failure) {
        error_copy(&err, failure);
    }
    if (err.kind != ERROR_NONE || (!kernel_id && find_spec(k, &spec, &err) < 0)) {
        session_kernel_failed(k, &err);
    } else {
        k->is_python = k->is_python || kernel_id;
        k->remote = remote_new(s->server, s->websockets, &events, k);
        if (!k->remote) {
            abort();
        }
        remote_start(k->remote, spec, kernel_id);
    }
    error_clear(&err);
}

void session_kernel_start(struct session_kernel *k)
{
    struct jupyter_session *s = k->session;

    k->asking = true;
    k->start_deadline =
        uv_now(s->server->loop) + (is_found(k) && s->to_end > 0 ? s->to_end * 1000ULL : START_MS);
    k->check_at = uv_now(s->server->loop) + 2000;
    jupyter_server_specs(s->server, on_specs, k);
    session_watch(s);
}
