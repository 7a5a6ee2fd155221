#include <stdlib.h>

#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/result.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_MOVE;
    fc->request.replace = argument_bool(fc->call, "replace", false);
    if (file_argument_path(fc, "source", &fc->request.path, err) < 0) {
        return -1;
    }
    return file_argument_path(fc, "dest", &fc->request.dest, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    char *source = file_shown(fc->request.path);
    char *dest = file_shown(fc->request.dest);

    (void)reply;
    file_call_say(fc, "Moved %s to %s.", source, dest);
    free(source);
    free(dest);
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool move_file_tool = {
    .name = "move_file",
    .title = "Move a file",
    .description = "Moves a sandbox file or directory; dest is its new name.",
    .schema = "tools/move_file",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
