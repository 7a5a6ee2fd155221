#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "mcp/base64.h"
#include "mcp/mask.h"
#include "mcp/mime.h"
#include "mcp/session_secrets.h"
#include "mcp/text.h"
#include "mcp/tools/files/file_call.h"
#include "mcp/tools/files/files_tools.h"

enum {
    IMAGE_CAP = 500 * 1000, /* bytes of an image that is shown */
    STATE_IMAGE = 1,        /* all of it is being read, because it began like one */
};

static bool wants_base64(const struct file_call *fc)
{
    const json_t *encoding = json_object_get(call_arguments(fc->call), "encoding");

    return encoding && strcmp(json_string_value(encoding), "base64") == 0;
}

static int prepare(struct file_call *fc, struct error *err)
{
    uint64_t usual = wants_base64(fc) ? FILE_BASE64_BYTES : FILE_TEXT_LIMIT;
    uint64_t length = file_argument_number(fc, "length", usual);

    fc->request.op = FILE_READ;
    fc->request.offset = file_argument_number(fc, "offset", 0);
    fc->request.length = length < FILE_ASKED_BYTES ? length : FILE_ASKED_BYTES;
    return file_argument_path(fc, "path", &fc->request.path, err);
}

/* ---- what is said beside the file ---- */

static bool is_more(const struct file_call *fc, const struct file_reply *reply, size_t used)
{
    uint64_t end = fc->request.offset + used;

    /* Files of the kernel's have no size and yet an end. */
    return end < reply->entry.size || used < reply->size ||
           (reply->entry.size == 0 && used > 0 && used == fc->request.length);
}

static char *note(const struct file_call *fc, const struct file_reply *reply, size_t used)
{
    unsigned long long from = fc->request.offset, size = reply->entry.size, end = from + used;

    if (is_more(fc, reply, used)) {
        return string_format("Bytes %llu to %llu of %llu. To go on, pass \"offset\": %llu.", from,
                             end, size > end ? size : end, end);
    }
    if (used == 0) {
        return size == 0 ? strdup("The file is empty.")
                         : string_format("Nothing: offset %llu is at the end of the file or past "
                                         "it, which has %llu bytes.",
                                         from, size);
    }
    return from > 0 ? string_format("Bytes %llu to %llu, the end of the file.", from, end) : NULL;
}

static void finish(struct file_call *fc, const struct file_reply *reply, json_t *text_owned,
                   size_t used)
{
    json_t *content = json_array();
    char *said = note(fc, reply, used);

    if (used > 0) {
        json_array_append_new(content, file_block("file", text_owned));
    } else {
        json_decref(text_owned);
    }
    if (said) {
        json_array_append_new(content, file_block("note", json_string(said)));
    }
    free(said);
    file_call_finish(fc, content);
}

/* ---- text ---- */

static size_t begun_before(const struct file_reply *reply)
{
    size_t n = 0;

    while (n < reply->size && n < 4 && ((unsigned char)reply->bytes[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

static void fail_as_text(struct file_call *fc, const struct file_reply *reply, size_t at)
{
    unsigned long long offset = fc->request.offset, size = reply->entry.size;
    size_t before = begun_before(reply);
    struct error err = {0};

    if (offset > 0 && at == 0 && before > 0 && before < 4) {
        error_set(&err, ERROR_INVALID,
                  "offset %llu is within a character; the next one begins at %llu (or read bytes "
                  "with \"encoding\": \"base64\")",
                  offset, offset + before);
    } else {
        error_set(&err, ERROR_INVALID,
                  "the file is no UTF-8 text: byte %llu of %llu belongs to no character. Pass "
                  "\"encoding\": \"base64\" to read its bytes",
                  offset + at, size);
    }
    file_call_fail(fc, &err);
    error_clear(&err);
}

/* A secret that begins here and goes on past the end is left to the next call, which can mask it.
 */
static size_t before_secret(const struct file_call *fc, const char *bytes, size_t size)
{
    size_t begun = mask_open_end(session_mask(fc->session), bytes, size);

    return begun < size ? size - begun : size;
}

static void answer_text(struct file_call *fc, const struct file_reply *reply)
{
    const char *bytes = reply->size > 0 ? reply->bytes : "";
    bool asked = json_object_get(call_arguments(fc->call), "length") != NULL;
    struct text_prefix prefix = text_prefix(bytes, reply->size, asked ? SIZE_MAX : FILE_TEXT_LIMIT);
    bool at_end = fc->request.offset + reply->size >= reply->entry.size;

    /* A character that is cut is a matter of length, unless the file ends there or it is all. */
    if (prefix.invalid || (prefix.cut && (at_end || prefix.size == 0))) {
        fail_as_text(fc, reply, prefix.size);
        return;
    }
    if (!at_end || prefix.cut) {
        prefix.size = before_secret(fc, bytes, prefix.size);
    }
    finish(fc, reply, json_stringn_nocheck(bytes, prefix.size), prefix.size); /* it was checked */
}

static void answer_base64(struct file_call *fc, const struct file_reply *reply)
{
    char *text = base64_encode(reply->bytes, reply->size);

    finish(fc, reply, text ? json_string_nocheck(text) : NULL, reply->size);
    free(text);
}

/* ---- images ---- */

static void answer_image(struct file_call *fc, const struct file_reply *reply, const char *mime)
{
    json_t *content = json_array();
    char *text = base64_encode(reply->bytes, reply->size);

    json_array_append_new(content, json_pack("{ss ss* ss s{ss}}", "type", "image", "data", text,
                                             "mimeType", mime, "_meta", "cellblock/part", "file"));
    free(text);
    file_call_finish(fc, content);
}

/* Is it the beginning of an image that would be shown whole, had it been asked for so? */
static const char *image_type(const struct file_call *fc, const struct file_reply *reply)
{
    const json_t *arguments = call_arguments(fc->call);
    bool plain = !json_object_get(arguments, "encoding") && !json_object_get(arguments, "length") &&
                 fc->request.offset == 0;

    return plain && reply->entry.size <= IMAGE_CAP ? mime_of_image(reply->bytes, reply->size)
                                                   : NULL;
}

static bool answer(struct file_call *fc, const struct file_reply *reply)
{
    const char *mime = image_type(fc, reply);

    if (mime && reply->size < reply->entry.size && fc->state != STATE_IMAGE) {
        fc->state = STATE_IMAGE;
        fc->request.length = IMAGE_CAP;
        return false;
    }
    if (mime) {
        answer_image(fc, reply, mime);
    } else if (wants_base64(fc)) {
        answer_base64(fc, reply);
    } else {
        answer_text(fc, reply);
    }
    return true;
}

static const struct file_tool file_tool = {.prepare = prepare, .answer = answer};

static void start(struct call *call)
{
    file_call_start(call, &file_tool);
}

const struct tool read_file_tool = {
    .name = "read_file",
    .title = "Read a file",
    .description =
        "Reads a sandbox file: text (38 KB, or length up to 1 MiB), an image, or base64.",
    .schema = "tools/read_file",
    .read_only = true,
    .destructive = false,
    .idempotent = true,
    .open_world = false,
    .start = start,
};
