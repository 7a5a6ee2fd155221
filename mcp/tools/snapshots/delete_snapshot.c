#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/place.h"
#include "mcp/server.h"
#include "mcp/session.h"
#include "mcp/snapshots.h"
#include "mcp/tools/result.h"
#include "mcp/tools/sessions/session_tools.h"
#include "mcp/tools/snapshots/snapshots_tools.h"

struct delete_call {
    struct call *call; /* NULL: it was answered */
    struct snapshots *snapshots;
    struct log *log;
    char *id;
};

static void say(struct delete_call *dc, const char *how)
{
    char *text = string_format("Snapshot %s %s.", dc->id, how);

    session_tool_say(dc->call, NULL, text ? text : how);
    free(text);
}

/* It may have been deleted twice at once: it is looked for again. */
static void forget(struct delete_call *dc)
{
    struct snapshot *s = snapshots_find(dc->snapshots, dc->id, NULL);

    if (s) {
        snapshots_drop(dc->snapshots, s);
    }
    log_write(dc->log, LOG_LEVEL_INFO, "snapshot %s deleted", dc->id);
}

static void on_deleted(void *data, const struct error *err)
{
    struct delete_call *dc = data;
    bool gone = !err || err->kind == ERROR_NOT_FOUND;

    if (gone && dc->call) {
        forget(dc);
        say(dc, err ? "was gone already" : "is deleted");
    } else if (dc->call) {
        call_fail(dc->call, err);
    }
    free(dc->id);
    free(dc);
}

static void on_cancelled(void *data)
{
    struct delete_call *dc = data;

    say(dc, "is being deleted");
    dc->call = NULL;
}

static int take_away(struct call *call, struct error *err)
{
    struct server *server = call_server(call);
    struct snapshot *s;
    struct place *place;
    struct delete_call *dc;
    const char *name;

    if (argument_name(call, "snapshot", &name, err) < 0) {
        return -1;
    }
    s = snapshots_find(server_snapshots(server), name, err);
    place = s ? sessions_place(server_sessions(server), snapshot_base(s), err) : NULL;
    dc = place ? calloc(1, sizeof(*dc)) : NULL;
    if (!dc) {
        return place ? error_set_code(err, ERROR_INTERNAL, ENOMEM, "delete_snapshot") : -1;
    }
    *dc = (struct delete_call){.call = call,
                               .snapshots = server_snapshots(server),
                               .log = server_log(server),
                               .id = strdup(snapshot_id(s))};
    if (!dc->id || place_delete_snapshot(place, dc->id, on_deleted, dc, err) < 0) {
        free(dc->id);
        free(dc);
        return -1;
    }
    call_on_cancel(call, on_cancelled, dc);
    return 0;
}

static void start(struct call *call)
{
    struct error err = {0};

    if (take_away(call, &err) < 0) {
        call_fail(call, &err);
    }
    error_clear(&err);
}

const struct tool delete_snapshot_tool = {
    .name = "delete_snapshot",
    .title = "Delete a snapshot",
    .description = "One of list_snapshots.",
    .schema = "tools/delete_snapshot",
    .read_only = false,
    .destructive = true,
    .idempotent = true,
    .open_world = true,
    .start = start,
};
