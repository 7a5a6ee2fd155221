#ifndef CELLBLOCK_MCP_TOOLS_FILES_FILE_CALL_H
#define CELLBLOCK_MCP_TOOLS_FILES_FILE_CALL_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/files.h"
#include "mcp/call.h"
#include "mcp/session.h"

/*
 * What the tools of the toolset `files` share: which session, one operation, the answer.
 *
 * A tool of one operation is a `struct file_tool` and calls file_call_start. One of several
 * (upload, download) has a file_call of its own inside: file_call_enter, file_call_do as often as
 * it needs, then one of the answers, and file_call_deinit.
 */
enum {
    FILE_TEXT_LIMIT = 38 * 1000,    /* bytes of file or list in a result, notes beside */
    FILE_BASE64_BYTES = 512 * 1024, /* bytes of a file that go into a result as base64: 700 KB */
    FILE_ASKED_BYTES = 1024 * 1024, /* bytes of either when `length` asks for that many */
};

struct file_call {
    struct call *call;
    struct session *session; /* NULL until file_call_enter */
    char *hint;
    const struct file_tool *tool;
    struct file_request request; /* of the operation that is going; texts are borrowed */
    void *owned;                 /* freed at the end */
    char *names[2];              /* paths that came with escapes; freed likewise */
    int state;                   /* the tool's own */
};

struct file_tool {
    bool makes; /* where no session is named, a modern one may be made for it */
    /* The arguments into fc->request. */
    int (*prepare)(struct file_call *fc, struct error *err);
    /* Answers and returns true; or sets fc->request anew and returns false: that one comes next. */
    bool (*answer)(struct file_call *fc, const struct file_reply *reply);
};

void file_call_start(struct call *call, const struct file_tool *tool);

/* Takes the session that is meant. -1 when there is none, its environment keeps no files between
 * calls, or its backend lacks them. */
int file_call_enter(struct file_call *fc, bool makes, struct error *err);
/* executor_file in the session as it is now. A session that was ended meanwhile is ERROR_LOST: then
 * `done` is called before this returns. */
void file_call_do(struct file_call *fc, const struct file_request *request, file_done done,
                  void *data);
void file_call_deinit(struct file_call *fc);

/* The answers; fc->call is gone afterwards. `content` is an array of blocks, which is taken. */
void file_call_finish(struct file_call *fc, json_t *content_owned);
/* One sentence, as printf. */
void file_call_say(struct file_call *fc, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void file_call_fail(struct file_call *fc, const struct error *err);

/* A path in the sandbox, given as list_files shows it (file_name_text); *ret lives as long as the
 * call, NULL when it was left out. NUL in it is refused. */
int file_argument_path(struct file_call *fc, const char *key, const char **ret, struct error *err);
/* For an operation from one path to another: source, dest and replace into fc->request; and the
 * answer "Copied SOURCE to DEST." */
int file_call_take_pair(struct file_call *fc, struct error *err);
void file_call_say_pair(struct file_call *fc, const char *did);
/* A whole number that is not negative, or `otherwise`. */
uint64_t file_argument_number(const struct file_call *fc, const char *key, uint64_t otherwise);

/* A text block of a part; takes the text, which may be NULL (out of memory). */
json_t *file_block(const char *part, json_t *text_owned);

/* file_name_text, and "?" without memory; to be freed with free. */
char *file_shown(const char *name);

/* A line without its end for an entry: type, mode, size, time, name and "-> target", with tabs
 * between. To be freed; NULL when out of memory. */
char *file_row(const struct file_entry *entry, const char *name);

#endif
