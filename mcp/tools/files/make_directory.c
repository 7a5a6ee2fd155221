#include <stdlib.h>

#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_MKDIR;
    return file_argument_path(fc, "path", &fc->request.path, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    char *path = file_shown(fc->request.path);

    (void)reply;
    file_call_say(fc, "The directory %s is there.", path);
    free(path);
    return true;
}

static const struct file_tool file_tool = {.makes = true, .prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool make_directory_tool = {
    .name = "make_directory",
    .title = "Make a directory",
    .description = "Makes a sandbox directory and its parents.",
    .schema = "tools/make_directory",
    .read_only = false,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
