#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_MOVE;
    return file_call_take_pair(fc, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    (void)reply;
    file_call_say_pair(fc, "Moved");
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
