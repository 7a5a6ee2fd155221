#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "backends/base/log.h"
#include "mcp/cmd.h"
#include "mcp/kept.h"
#include "mcp/own_sessions.h"
#include "mcp/session.h"

/* `cellblock sessions`, `cellblock logs` and `cellblock stop`: people and the sessions that were
 * left. Such a session is reached as a server does it, with the environment of the configuration.
 */
struct job {
    struct own_sessions own;
    const char *id;
    int status;
};

static void on_closed(void *data)
{
    (void)data; /* the loop has nothing left and ends */
}

/* --- sessions --- */

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    return text ? text : "";
}

static void print_row(const json_t *row)
{
    json_int_t pid = json_integer_value(json_object_get(row, "pid"));
    char state[64];

    (void)snprintf(state, sizeof(state), pid ? "in use by %" JSON_INTEGER_FORMAT : "left", pid);
    printf("%-11s  %-16s  %-20s  %-20s  %s%s%s\n", text_of(row, "session"), state,
           text_of(row, "created_at"), text_of(row, "ends_at"), text_of(row, "environment"),
           *text_of(row, "name") ? "  " : "", text_of(row, "name"));
}

static void print_rows(const json_t *rows)
{
    size_t index;
    json_t *row;

    if (json_array_size(rows) == 0) {
        puts("No session has outlived its server (\"keep\": true in its environment).");
        return;
    }
    printf("%-11s  %-16s  %-20s  %-20s  %s\n", "SESSION", "STATE", "MADE", "ENDS", "ENVIRONMENT");
    json_array_foreach(rows, index, row)
    {
        print_row(row);
    }
}

int cmd_sessions(const struct options *options, const struct config *config)
{
    struct job job = {0};
    struct error err = {0};
    json_t *rows, *root;

    if (own_sessions_open(&job.own, config, &err) < 0) {
        complain(&err);
        error_clear(&err);
        return STATUS_FAILED;
    }
    sessions_sweep(job.own.sessions);
    uv_run(&job.own.loop, UV_RUN_DEFAULT);
    rows = sessions_list(job.own.sessions, NULL, false);
    if (options->json) {
        root = json_pack("{so}", "sessions", json_incref(rows));
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    } else {
        print_rows(rows);
    }
    json_decref(rows);
    sessions_close(job.own.sessions, on_closed, NULL);
    own_sessions_finish(&job.own);
    return STATUS_OK;
}

/* --- logs --- */

static int fail(struct error *err)
{
    int status = error_status(err);

    complain(err);
    error_clear(err);
    return status;
}

int cmd_logs(const struct options *options)
{
    struct error err = {0};
    struct kept_store *store = kept_store_open(false, &err);
    json_t *record = store ? kept_read(store, options->file, &err) : NULL;
    const char *log = json_string_value(json_object_get(record, "log"));

    kept_store_free(store);
    if (!record) {
        return fail(&err);
    }
    if (log) {
        fputs(log, stdout);
    }
    if (log && *log && log[strlen(log) - 1] != '\n') {
        putchar('\n');
    }
    json_decref(record);
    return STATUS_OK;
}

/* --- stop --- */

static void on_stopped(void *data, const struct error *err)
{
    struct job *job = data;

    if (err) {
        complain(err);
        job->status = error_status(err);
    } else {
        printf("Session %s is ended.\n", job->id);
    }
    sessions_close(job->own.sessions, on_closed, NULL);
}

int cmd_stop(const struct options *options, const struct config *config)
{
    struct job job = {.id = options->file};
    struct error err = {0};

    if (own_sessions_open(&job.own, config, &err) < 0) {
        return fail(&err);
    }
    if (sessions_end_left(job.own.sessions, job.id, options->kill, on_stopped, &job, &err) < 0) {
        job.status = fail(&err);
        sessions_close(job.own.sessions, on_closed, NULL);
    }
    own_sessions_finish(&job.own);
    return job.status;
}
