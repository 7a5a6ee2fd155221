#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_COPY;
    fc->request.recursive = true;
    return file_call_take_pair(fc, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    (void)reply;
    file_call_say_pair(fc, "Copied");
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool copy_file_tool = {
    .name = "copy_file",
    .title = "Copy a file",
    .description = "Copies a sandbox file or directory; dest is its new name.",
    .schema = "tools/copy_file",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
