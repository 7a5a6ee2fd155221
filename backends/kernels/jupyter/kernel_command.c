#include "backends/kernels/jupyter/kernel_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

enum {
    TELL_MS = 3000,      /* nobody waits for the answer */
    PIECE = 1024 * 1024, /* of stdin, in one message: most servers end the connection at 10 MiB */
};

/* ---- before it ---- */

bool kernel_is_ours(const struct run_request *request)
{
    return request->argv || strcmp(request->language, "python") == 0 ||
           strcmp(request->language, "shell") == 0;
}

size_t kernel_request_size(const struct run_request *request)
{
    size_t size = request->code_size + request->stdin_size;

    for (const char *const *word = request->argv; word && *word; word++) {
        size += strlen(*word);
    }
    return size;
}

/* As the runner's worker takes it (frame.h). */
static void add_command(json_t *object, const struct run_request *request)
{
    json_t *argv = json_array();

    for (const char *const *word = request->argv; word && *word; word++) {
        json_array_append_new(argv, json_string(*word));
    }
    if (request->argv) {
        json_object_set(object, "argv", argv);
        json_object_set_new(object, "python", json_boolean(request->python));
    }
    if (request->folder) {
        json_object_set_new(object, "folder", json_string(request->folder));
    }
    if (request->workdir) {
        json_object_set_new(object, "workdir", json_string(request->workdir));
    }
    if (request->stdin_open) {
        json_object_set_new(object, "stdin_open", json_true());
    }
    json_decref(argv);
}

int kernel_check_command(const struct session_kernel *k, const struct run_request *request,
                         struct error *err)
{
    if (!request->stdin_open || k->threads) {
        return 0;
    }
    return error_set(err, ERROR_UNSUPPORTED,
                     "stdin_open: the server's IPython kernel takes nothing while a command goes "
                     "on; ipykernel 6 or newer does");
}

static json_t *execute_content(const char *code, bool ours, bool input)
{
    return json_pack("{s:s, s:b, s:b, s:{}, s:b, s:b}", "code", code, "silent", ours,
                     "store_history", !ours, "user_expressions", "allow_stdin", input,
                     "stop_on_error", 0);
}

json_t *kernel_helper_content(const struct run_request *request)
{
    json_t *object = json_pack("{s:s, s:s, s:s}", "op", "run", "run", request->id, "language",
                               request->language);
    char *text = NULL, *code = NULL;
    json_t *content = NULL;

    if (object) {
        json_object_set_new(object, "code", json_stringn(request->code, request->code_size));
        add_command(object, request);
        if (request->stdin_text) {
            json_object_set_new(object, "stdin",
                                json_stringn(request->stdin_text, request->stdin_size));
        }
        if (request->env) {
            json_object_set(object, "env", request->env);
        }
        text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    }
    if (text && asprintf(&code, "# cellblock %s", text) >= 0) {
        content = execute_content(code, true, false);
    }
    free(code);
    free(text);
    json_decref(object);
    return content;
}

json_t *kernel_stranger_content(const struct run_request *request)
{
    json_t *content = execute_content("", false, request->stdin_text != NULL);

    if (content) {
        json_object_set_new(content, "code", json_stringn(request->code, request->code_size));
    }
    return content;
}

int kernel_check_stranger(const struct run_request *request, struct error *err)
{
    if (request->env && json_object_size(request->env) > 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "env: variables of one run can be set for python and shell, not in a "
                         "kernel of \"%.60s\"",
                         request->language);
    }
    if (request->folder) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "workdir: python and shell begin in %.200s, a kernel of \"%.60s\" cannot",
                         request->folder, request->language);
    }
    return 0;
}

/* ---- while it is going ---- */

/* Its run may be over, which is told by that. */
static void on_told(void *data, json_t *content, const struct error *err)
{
    (void)data;
    (void)content;
    (void)err;
}

static int tell(struct session_kernel *k, json_t *object_owned, const char *bytes, size_t size)
{
    if (!object_owned) {
        return -ENOMEM;
    }
    if (!k->is_python || !k->threads) {
        json_decref(object_owned);
        return -ENOTSUP;
    }
    session_ask(k, object_owned, bytes, size, TELL_MS, on_told, NULL);
    return 0;
}

int kernel_send_signal(struct session_kernel *k, const char *run, int number)
{
    return tell(k, json_pack("{s:s, s:s, s:i}", "op", "signal", "run", run, "signal", number), NULL,
                0);
}

int kernel_send_stdin(struct session_kernel *k, const char *run, const char *bytes, size_t size,
                      bool eof)
{
    int r;

    do {
        size_t piece = size < PIECE ? size : PIECE;
        bool last = piece == size;

        r = tell(k, json_pack("{s:s, s:s, s:b}", "op", "write", "run", run, "eof", eof && last),
                 piece > 0 ? bytes : NULL, piece);
        bytes = piece > 0 ? bytes + piece : bytes;
        size -= piece;
    } while (r == 0 && size > 0);
    return r;
}
