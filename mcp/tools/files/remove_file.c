#include <stdlib.h>

#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/result.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_REMOVE;
    fc->request.recursive = argument_bool(fc->call, "recursive", false);
    return file_argument_path(fc, "path", &fc->request.path, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    char *path = file_shown(fc->request.path);

    (void)reply;
    file_call_say(fc, "Removed %s.", path);
    free(path);
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool remove_file_tool = {
    .name = "remove_file",
    .title = "Remove a file",
    .description = "Removes a sandbox file or directory.",
    .schema = "tools/remove_file",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
