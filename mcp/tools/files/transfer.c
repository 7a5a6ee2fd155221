#include "mcp/tools/files/transfer.h"

#include <stdio.h>
#include <stdlib.h>

#include "mcp/text.h"
#include "mcp/tools/result.h"

int transfer_init(struct transfer *t, struct call *call, bool uploads, struct error *err)
{
    const char **far = uploads ? &t->dest : &t->source, **here = uploads ? &t->source : &t->dest;

    t->fc.call = call;
    t->replace = argument_bool(call, "replace", false);
    if (file_argument_path(&t->fc, uploads ? "dest" : "source", far, err) < 0 ||
        argument_name(call, uploads ? "source" : "dest", here, err) < 0) {
        return -1;
    }
    if (!*t->source || !*t->dest) {
        return error_set(err, ERROR_INVALID, "%s is empty: give the path of a file or folder",
                         *t->source ? "dest" : "source");
    }
    return 0;
}

static void on_cancelled(void *data)
{
    struct transfer *t = data;

    t->cancelled = true; /* seen when the operation that is going has ended */
}

int transfer_enter(struct transfer *t, bool makes, struct error *err)
{
    if (file_call_enter(&t->fc, makes, err) < 0) {
        return -1;
    }
    call_on_cancel(t->fc.call, on_cancelled, t);
    return 0;
}

int transfer_check(const struct transfer *t, struct error *err)
{
    return t->cancelled ? error_set(err, ERROR_REFUSED,
                                    "the transfer was cancelled; nothing of it is "
                                    "left at dest")
                        : 0;
}

int transfer_count_entry(struct transfer *t, struct error *err)
{
    if (++t->entries <= TRANSFER_ENTRIES_CAP) {
        return 0;
    }
    return error_set(err, ERROR_LIMIT,
                     "source has more than %d files and folders, the most that go in one call; "
                     "nothing is left at dest. Pack it into an archive, or go folder by folder",
                     TRANSFER_ENTRIES_CAP);
}

int transfer_check_size(uint64_t size, struct error *err)
{
    if (size <= TRANSFER_BYTES_CAP) {
        return 0;
    }
    return error_set(err, ERROR_LIMIT,
                     "source has more than %d MiB, the most that goes in one call; nothing is left "
                     "at dest. Split it, or bring it in with add_share",
                     TRANSFER_BYTES_CAP / 1024 / 1024);
}

int transfer_count_bytes(struct transfer *t, size_t size, struct error *err)
{
    t->bytes += size;
    return transfer_check_size(t->bytes, err);
}

void transfer_progress(struct transfer *t, const char *verb)
{
    char line[128], bytes[28];

    snprintf(line, sizeof(line), "%s %u files, %s bytes", verb, t->files,
             text_number(t->bytes, bytes));
    call_progress(t->fc.call, line);
}

void transfer_answer(struct transfer *t, const char *verb)
{
    char *source = file_shown(t->source), *dest = file_shown(t->dest);
    char bytes[28], left_out[128] = "";

    text_number(t->bytes, bytes);
    if (t->left_out > 0) {
        snprintf(left_out, sizeof(left_out),
                 " Left out: %u links or special files, which are never followed or made.",
                 t->left_out);
    }
    file_call_say(&t->fc, "%s %u file%s (%s bytes) from %s to %s.%s", verb, t->files,
                  t->files == 1 ? "" : "s", bytes, source, dest, left_out);
    free(source);
    free(dest);
}
