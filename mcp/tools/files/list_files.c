#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"
#include "mcp/tools/result.h"

enum { LIST_DEFAULT = 1000 };

static int prepare(struct file_call *fc, struct error *err)
{
    fc->request.op = FILE_LIST;
    fc->request.recursive = argument_bool(fc->call, "recursive", false);
    fc->request.limit = FILE_LIST_CAP; /* so that pages fit together, and all are counted */
    if (file_argument_path(fc, "path", &fc->request.path, err) < 0) {
        return -1;
    }
    fc->request.path = fc->request.path ? fc->request.path : ".";
    return 0;
}

/* Writes the rows from `first` on that there is room for; returns the number of the next one. */
static size_t write_rows(FILE *out, const struct file_reply *reply, size_t first, size_t limit)
{
    size_t i = first, used = 0;

    while (i < reply->count && i - first < limit) {
        char *row = file_row(&reply->entries[i], reply->entries[i].name);

        used += row ? strlen(row) + 1 : 0;
        if (used > FILE_TEXT_LIMIT && i > first) {
            free(row);
            break;
        }
        fprintf(out, "%s\n", row ? row : "?");
        free(row);
        i++;
    }
    return i;
}

static void write_head(FILE *out, const struct file_reply *reply, size_t first)
{
    if (reply->count == 0) {
        fprintf(out, "The directory is empty.\n");
    } else if (first >= reply->count) {
        fprintf(out, "Nothing: there are %zu entries, and offset %zu is past them.\n", reply->count,
                first);
    } else {
        fprintf(out, "type\tmode\tsize\tmodified\tname\n");
    }
}

static void write_foot(FILE *out, const struct file_reply *reply, size_t first, size_t next)
{
    if (next < reply->count) {
        fprintf(out, "Entries %zu to %zu of %s%zu. To go on, pass \"offset\": %zu.\n", first,
                next - 1, reply->more ? "more than " : "", reply->count, next);
    } else if (reply->more) {
        fprintf(out, "There are more than these %d entries; list the folders in it one by one.\n",
                FILE_LIST_CAP);
    }
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    size_t first = (size_t)file_argument_number(fc, "offset", 0);
    size_t limit = (size_t)file_argument_number(fc, "limit", LIST_DEFAULT);
    json_t *content = json_array();
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);

    if (out) {
        write_head(out, reply, first);
        write_foot(out, reply, first, write_rows(out, reply, first, limit));
        fclose(out);
    }
    json_array_append_new(content, file_block("list", text ? json_string(text) : NULL));
    free(text);
    file_call_finish(fc, content);
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool list_files_tool = {
    .name = "list_files",
    .title = "List files",
    .description = "Lists a sandbox directory: type, mode, size, time, name, link target. Paths "
                   "are taken as shown: \\\\ for a backslash, \\xHH for a byte.",
    .schema = "tools/list_files",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
