#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/base64.h"
#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/result.h"

static int decode(struct file_call *fc, const json_t *content, struct error *err)
{
    size_t where = 0, size = json_string_length(content);
    char *bytes;
    int r = base64_decode(json_string_value(content), size, &bytes, &fc->request.size, &where);

    if (r == -EINVAL) {
        return error_set(err, ERROR_INVALID,
                         where == size ? "content is no base64: it breaks off after %zu characters "
                                         "(padding with = is needed)"
                                       : "content is no base64: character %zu, counted from 0, is "
                                         "wrong there (A-Z a-z 0-9 + / and = at the end)",
                         where);
    }
    if (r < 0) {
        return error_set_code(err, ERROR_INTERNAL, r, "content");
    }
    fc->owned = bytes;
    fc->request.bytes = bytes;
    return 0;
}

static int take_content(struct file_call *fc, struct error *err)
{
    const json_t *arguments = call_arguments(fc->call);
    const json_t *content = json_object_get(arguments, "content");
    const json_t *encoding = json_object_get(arguments, "encoding");

    if (encoding && strcmp(json_string_value(encoding), "base64") == 0) {
        return decode(fc, content, err);
    }
    fc->request.bytes = json_string_value(content);
    fc->request.size = json_string_length(content);
    return 0;
}

static int prepare(struct file_call *fc, struct error *err)
{
    const json_t *mode = json_object_get(call_arguments(fc->call), "mode");

    fc->request.op = FILE_WRITE;
    fc->request.append = argument_bool(fc->call, "append", false);
    if (mode) {
        fc->request.mode = (int)strtol(json_string_value(mode), NULL, 8);
    }
    return file_argument_path(fc, "path", &fc->request.path, err) < 0 ? -1 : take_content(fc, err);
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    char *path = file_shown(fc->request.path);

    if (fc->request.append) {
        file_call_say(fc, "Appended %zu bytes to %s, which has %llu now.", fc->request.size, path,
                      (unsigned long long)reply->entry.size);
    } else {
        file_call_say(fc, "Wrote %zu bytes to %s (mode %o).", fc->request.size, path,
                      reply->entry.mode);
    }
    free(path);
    return true;
}

static const struct file_tool file_tool = {.makes = true, .prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool write_file_tool = {
    .name = "write_file",
    .title = "Write a file",
    .description = "Writes a sandbox file, or appends; parents are made.",
    .schema = "tools/write_file",
    .read_only = false,
    .destructive = true,
    .idempotent = false,
    .open_world = false,
    .start = start,
};
