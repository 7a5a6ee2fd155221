#include "backends/files_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MODE_MAX = 07777,
    TEXT_CAP = 600, /* bytes of a reason that are quoted */
    FIRST_ENTRIES = 64,
};

static const char *const op_names[] = {
    [FILE_STAT] = "stat",   [FILE_LIST] = "list",     [FILE_READ] = "read", [FILE_WRITE] = "write",
    [FILE_MKDIR] = "mkdir", [FILE_REMOVE] = "remove", [FILE_COPY] = "copy", [FILE_MOVE] = "move",
};

/* ---- requests ---- */

void file_asked_deinit(struct file_asked *asked)
{
    free(asked->path);
    free(asked->dest);
    *asked = (struct file_asked){0};
}

int file_asked_init(struct file_asked *asked, const struct file_request *request)
{
    *asked = (struct file_asked){
        .op = request->op,
        .path = strdup(request->path),
        .dest = request->dest ? strdup(request->dest) : NULL,
        .recursive = request->recursive,
        .limit = request->limit < FILE_LIST_CAP ? request->limit : FILE_LIST_CAP,
        .length = request->length < FILE_READ_CAP ? (size_t)request->length : FILE_READ_CAP,
    };
    if (!asked->path || (request->dest && !asked->dest)) {
        file_asked_deinit(asked);
        return -ENOMEM;
    }
    return 0;
}

/* Each byte as a character. */
static json_t *bytes_json(const char *bytes)
{
    char *text = malloc(2 * strlen(bytes) + 1);
    char *out = text;
    json_t *json;

    if (!text) {
        return NULL;
    }
    for (const unsigned char *at = (const unsigned char *)bytes; *at; at++) {
        if (*at < 0x80) {
            *out++ = (char)*at;
        } else {
            *out++ = (char)(0xC0 | *at >> 6);
            *out++ = (char)(0x80 | (*at & 0x3F));
        }
    }
    json = json_stringn(text, (size_t)(out - text));
    free(text);
    return json;
}

static json_int_t whole(uint64_t number)
{
    return number > INT64_MAX ? INT64_MAX : (json_int_t)number;
}

int file_wire_content(const struct file_request *request, char **ret_bytes, size_t *ret_size)
{
    size_t size = request->op == FILE_WRITE ? request->size : 0;
    char *bytes = size > 0 ? malloc(size) : NULL;

    if (size > 0 && !bytes) {
        return -ENOMEM;
    }
    if (bytes) {
        memcpy(bytes, request->bytes, size);
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

json_t *file_wire_request(const struct file_request *r)
{
    return json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:b, s:b, s:b, s:i, s:I}", "op",
                     op_names[r->op], "path", bytes_json(r->path), "dest",
                     r->dest ? bytes_json(r->dest) : json_null(), "offset", whole(r->offset),
                     "length", whole(r->length), "size", whole(r->size), "append", r->append,
                     "recursive", r->recursive, "replace", r->replace, "mode", r->mode, "limit",
                     whole(r->limit));
}

size_t file_wire_cap(const struct file_asked *asked)
{
    switch (asked->op) {
    case FILE_REMOVE:
        return 0;
    case FILE_LIST:
        return asked->limit * FILE_WIRE_ENTRY + FILE_NAMES_CAP;
    case FILE_READ:
        return FILE_WIRE_ENTRY + asked->length;
    default:
        return FILE_WIRE_ENTRY + FILE_PATH_CAP;
    }
}

/* ---- entries ---- */

struct reader {
    const unsigned char *at;
    size_t left;
};

static uint64_t take_number(struct reader *in, unsigned size)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < size; i++) {
        number |= (uint64_t)in->at[i] << (8 * i);
    }
    in->at += size;
    in->left -= size;
    return number;
}

/* A name or a target: *ret is NULL when it is empty. */
static int take_text(struct reader *in, size_t size, char **ret)
{
    if (size > in->left || size > FILE_PATH_CAP || memchr(in->at, '\0', size)) {
        return -EPROTO;
    }
    if (size > 0 && !(*ret = strndup((const char *)in->at, size))) {
        return -ENOMEM;
    }
    in->at += size;
    in->left -= size;
    return 0;
}

static bool plausible(const struct file_entry *entry, bool has_target)
{
    return entry->type <= FILE_OTHER && entry->mode <= MODE_MAX && entry->size <= INT64_MAX &&
           (entry->size == 0 || entry->type == FILE_REGULAR || entry->type == FILE_SYMLINK) &&
           (!has_target || entry->type == FILE_SYMLINK);
}

static int take_entry(struct reader *in, struct file_entry *ret)
{
    size_t name_size, target_size;
    int r;

    if (in->left < FILE_WIRE_ENTRY) {
        return -EPROTO;
    }
    ret->type = (enum file_type)take_number(in, 1);
    ret->mode = (unsigned)take_number(in, 2);
    ret->size = take_number(in, 8);
    ret->mtime_ns = (int64_t)take_number(in, 8);
    name_size = take_number(in, 2);
    target_size = take_number(in, 2);
    if (!plausible(ret, target_size > 0)) {
        return -EPROTO;
    }
    r = take_text(in, name_size, &ret->name);
    return r < 0 ? r : take_text(in, target_size, &ret->target);
}

/* ---- lists ---- */

/* A name of a list: relative, of whole components, none of which leads elsewhere. */
static bool is_below(const char *name, bool recursive)
{
    while (name) {
        size_t size = strcspn(name, "/");
        if (size == 0 || (size == 1 && name[0] == '.') || (size == 2 && !strncmp(name, "..", 2))) {
            return false;
        }
        name = name[size] ? name + size + 1 : NULL;
        if (name && !recursive) {
            return false;
        }
    }
    return true;
}

static int grow(struct file_reply *reply, size_t *room)
{
    size_t more = *room ? *room * 2 : FIRST_ENTRIES;
    struct file_entry *entries;

    if (reply->count < *room) {
        return 0;
    }
    entries = realloc(reply->entries, more * sizeof(*entries));
    if (!entries) {
        return -ENOMEM;
    }
    reply->entries = entries;
    *room = more;
    return 0;
}

static int take_list(const struct file_asked *asked, struct reader *in, struct file_reply *ret)
{
    size_t room = 0;

    while (in->left > 0) {
        struct file_entry *entry;
        const char *before = ret->count > 0 ? ret->entries[ret->count - 1].name : "";
        int r = ret->count < asked->limit ? grow(ret, &room) : -EPROTO;
        if (r < 0) {
            return r;
        }
        entry = &ret->entries[ret->count++];
        *entry = (struct file_entry){0};
        r = take_entry(in, entry);
        if (r < 0) {
            return r;
        }
        /* In order, so none comes twice. */
        if (!entry->name || !is_below(entry->name, asked->recursive) ||
            strcmp(before, entry->name) >= 0) {
            return -EPROTO;
        }
    }
    return 0;
}

/* ---- answers ---- */

static int take_read(const struct file_asked *asked, struct reader *in, struct file_reply *ret)
{
    if (ret->entry.type != FILE_REGULAR || in->left > asked->length) {
        return -EPROTO;
    }
    ret->bytes = malloc(in->left + 1);
    if (!ret->bytes) {
        return -ENOMEM;
    }
    memcpy(ret->bytes, in->at, in->left);
    ret->bytes[in->left] = '\0';
    ret->size = in->left;
    in->left = 0;
    return 0;
}

static int take_answer(const struct file_asked *asked, struct reader *in, struct file_reply *ret)
{
    int r;

    if (asked->op == FILE_REMOVE) {
        return 0;
    }
    if (asked->op == FILE_LIST) {
        return take_list(asked, in, ret);
    }
    r = take_entry(in, &ret->entry);
    if (r == 0 && ret->entry.name) {
        r = -EPROTO;
    }
    return r == 0 && asked->op == FILE_READ ? take_read(asked, in, ret) : r;
}

int file_wire_reply(const struct file_asked *asked, const char *bytes, size_t size, bool more,
                    struct file_reply *ret)
{
    struct reader in = {(const unsigned char *)(bytes ? bytes : ""), size};
    struct file_reply reply = {.more = more};
    int r = more && asked->op != FILE_LIST ? -EPROTO : take_answer(asked, &in, &reply);

    if (r == 0 && in.left > 0) {
        r = -EPROTO;
    }
    if (r < 0) {
        file_reply_deinit(&reply);
        return r;
    }
    *ret = reply;
    return 0;
}

/* ---- errors ---- */

static enum error_kind kind_of(const char *word)
{
    static const struct {
        const char *word;
        enum error_kind kind;
    } kinds[] = {
        {"invalid", ERROR_INVALID}, {"limit", ERROR_LIMIT}, {"missing", ERROR_NOT_FOUND},
        {"refused", ERROR_REFUSED}, {"space", ERROR_LIMIT},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].word, word) == 0) {
            return kinds[i].kind;
        }
    }
    return ERROR_INTERNAL;
}

int file_wire_error(const struct file_asked *asked, const json_t *json, struct error *ret)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const char *text = json_string_value(json_object_get(json, "text"));
    bool of_dest = json_is_true(json_object_get(json, "dest")) && asked->dest;
    char *where, *why;

    if (!kind || !text) {
        return -EPROTO;
    }
    where = file_name_text(of_dest ? asked->dest : asked->path);
    why = strndup(text, TEXT_CAP);
    for (char *p = why; p && *p; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f) {
            *p = ' '; /* what filing.py says is plain */
        }
    }
    (void)error_set(ret, kind_of(kind), "%s: %s", where ? where : "",
                    why && *why ? why : "it failed, and the sandbox did not say why");
    free(where);
    free(why);
    return 0;
}

/* ---- waiting ---- */

void file_wait(struct file_waiting **list, file_done done, void *data)
{
    struct file_waiting *waiting = calloc(1, sizeof(*waiting));

    if (!waiting) {
        abort(); /* there is nothing left to say it with */
    }
    while (*list) {
        list = &(*list)->next;
    }
    *waiting = (struct file_waiting){.done = done, .data = data};
    *list = waiting;
}

void file_waiting_lost(struct file_waiting **list)
{
    struct error err = {0};

    (void)error_set(&err, ERROR_LOST, "the sandbox has ended");
    while (*list) {
        struct file_waiting *first = *list;
        *list = first->next;
        first->done(first->data, NULL, &err);
        free(first);
    }
    error_clear(&err);
}
