#include <stdlib.h>

#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_STAT;
    return file_argument_path(fc, "path", &fc->request.path, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    json_t *content = json_array();
    char *row = file_row(&reply->entry, fc->request.path);

    json_array_append_new(content, file_block("list", row ? json_string(row) : NULL));
    free(row);
    file_call_finish(fc, content);
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool stat_file_tool = {
    .name = "stat_file",
    .title = "Stat a file",
    .description = "One sandbox path as list_files shows it.",
    .schema = "tools/stat_file",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
