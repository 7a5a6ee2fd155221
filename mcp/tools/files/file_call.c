#include "mcp/tools/files/file_call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/base/strings.h"
#include "backends/place.h"
#include "backends/registry.h"
#include "mcp/server.h"
#include "mcp/text.h"
#include "mcp/tools/result.h"

/* ---- arguments ---- */

int file_argument_path(struct file_call *fc, const char *key, const char **ret, struct error *err)
{
    char **name = &fc->names[fc->names[0] != NULL];
    const char *text = NULL;

    if (argument_name(fc->call, key, &text, err) < 0) {
        return -1;
    }
    if (text && strchr(text, '\\')) {
        if (file_name_parse(text, name, err) < 0) {
            return error_wrap(err, "%s", key);
        }
        text = *name;
    }
    *ret = text;
    return 0;
}

uint64_t file_argument_number(const struct file_call *fc, const char *key, uint64_t otherwise)
{
    const json_t *value = json_object_get(call_arguments(fc->call), key);

    return value && json_number_value(value) >= 0 ? (uint64_t)json_number_value(value) : otherwise;
}

/* ---- the session ---- */

static int check_session_is_named(const struct file_call *fc, const char *name, bool makes,
                                  struct error *err)
{
    if (name || makes || call_era(fc->call) == ERA_LEGACY) {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "session is missing: say whose files are meant (\"s-\" and 8 characters, from "
                     "the result of the call that made it)");
}

static int check_keeps_files(const struct file_call *fc, struct error *err)
{
    const struct environment *env = session_environment(fc->session);

    if (env->mode == MODE_EPHEMERAL) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "environment \"%s\" is ephemeral: each run has a fresh sandbox, so no "
                         "files are kept between calls. Write and read files within one run_code, "
                         "bring data in with add_share, or name a session of an environment whose "
                         "mode is stateful",
                         env->name);
    }
    return place_needs(session_place(fc->session), CAP_FILES, "a tool for files", err);
}

int file_call_enter(struct file_call *fc, bool makes, struct error *err)
{
    struct sessions *sessions = server_sessions(call_server(fc->call));
    struct session *s;
    const char *name;
    bool made = false;

    if (argument_name(fc->call, "session", &name, err) < 0 ||
        check_session_is_named(fc, name, makes, err) < 0) {
        return -1;
    }
    s = sessions_resolve(sessions, call_era(fc->call), name, NULL, &made, err);
    if (!s) {
        return -1;
    }
    session_begin(s);
    fc->session = s;
    fc->hint = session_hint(s, made);
    return check_keeps_files(fc, err);
}

void file_call_deinit(struct file_call *fc)
{
    if (fc->session) {
        session_end(fc->session);
    }
    free(fc->hint);
    free(fc->owned);
    free(fc->names[0]);
    free(fc->names[1]);
}

void file_call_do(struct file_call *fc, const struct file_request *request, file_done done,
                  void *data)
{
    struct executor *e = session_executor(fc->session);
    struct error err = {0};

    if (e) {
        executor_file(e, request, done, data);
        return;
    }
    error_set(&err, ERROR_LOST, "session %s was ended meanwhile", session_id(fc->session));
    done(data, NULL, &err);
    error_clear(&err);
}

/* ---- answers ---- */

json_t *file_block(const char *part, json_t *text_owned)
{
    return json_pack("{ss so s{ss}}", "type", "text", "text", text_owned, "_meta", "cellblock/part",
                     part);
}

static void answer_no_memory(struct call *call)
{
    struct error err = {0};

    error_set_code(&err, ERROR_INTERNAL, ENOMEM, "the result");
    call_fail(call, &err);
    error_clear(&err);
}

void file_call_finish(struct file_call *fc, json_t *content_owned)
{
    json_t *result;

    if (fc->hint) {
        json_array_append_new(content_owned, file_block("note", json_string(fc->hint)));
    }
    result = json_pack("{so sb s{ss}}", "content", content_owned, "isError", 0, "_meta",
                       "cellblock/session", session_id(fc->session));
    if (result) {
        call_finish(fc->call, result);
    } else {
        answer_no_memory(fc->call);
    }
}

void file_call_say(struct file_call *fc, const char *format, ...)
{
    va_list arguments;
    char *text;
    int n;

    va_start(arguments, format);
    n = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (n < 0) {
        answer_no_memory(fc->call);
        return;
    }
    call_finish_text(fc->call, fc->session, text, fc->hint);
    free(text);
}

void file_call_fail(struct file_call *fc, const struct error *err)
{
    if (fc->session) {
        call_fail_in(fc->call, fc->session, err, fc->hint);
    } else {
        call_fail(fc->call, err);
    }
}

/* ---- from one path to another ---- */

int file_call_take_pair(struct file_call *fc, struct error *err)
{
    fc->request.replace = argument_bool(fc->call, "replace", false);
    if (file_argument_path(fc, "source", &fc->request.path, err) < 0) {
        return -1;
    }
    return file_argument_path(fc, "dest", &fc->request.dest, err);
}

void file_call_say_pair(struct file_call *fc, const char *did)
{
    char *source = file_shown(fc->request.path);
    char *dest = file_shown(fc->request.dest);

    file_call_say(fc, "%s %s to %s.", did, source, dest);
    free(source);
    free(dest);
}

/* ---- names ---- */

char *file_shown(const char *name)
{
    char *text = file_name_text(name);

    return text ? text : strdup("?");
}

static void write_time(int64_t ns, char text[32])
{
    enum { NS = 1000000000 };
    time_t seconds = (time_t)(ns / NS - (ns % NS < 0));
    struct tm tm;

    if (!gmtime_r(&seconds, &tm) || strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        snprintf(text, 32, "?");
    }
}

char *file_row(const struct file_entry *entry, const char *name)
{
    char *shown = file_shown(name);
    char *target = entry->target ? file_shown(entry->target) : NULL;
    char *row, time[32];

    write_time(entry->mtime_ns, time);
    row = string_format("%s\t%o\t%" PRIu64 "\t%s\t%s%s%s", file_type_name(entry->type),
                        entry->mode & 07777, entry->size, time, shown ? shown : "?",
                        target ? "\t-> " : "", target ? target : "");
    free(shown);
    free(target);
    return row;
}

/* ---- a tool of one operation ---- */

static void file_call_free(struct file_call *fc)
{
    file_call_deinit(fc);
    free(fc);
}

static void on_done(void *data, const struct file_reply *reply, const struct error *err)
{
    struct file_call *fc = data;

    if (err) {
        file_call_fail(fc, err);
    } else if (!fc->tool->answer(fc, reply)) {
        file_call_do(fc, &fc->request, on_done, fc);
        return;
    }
    file_call_free(fc);
}

void file_call_start(struct call *call, const struct file_tool *tool)
{
    struct file_call *fc = calloc(1, sizeof(*fc));
    struct error err = {0};

    if (!fc) {
        answer_no_memory(call);
        return;
    }
    *fc = (struct file_call){.call = call, .tool = tool, .request.mode = -1};
    if (tool->prepare(fc, &err) < 0 || file_request_check(&fc->request, &err) < 0 ||
        file_call_enter(fc, tool->makes, &err) < 0) {
        file_call_fail(fc, &err);
        file_call_free(fc);
    } else {
        file_call_do(fc, &fc->request, on_done, fc);
    }
    error_clear(&err);
}
