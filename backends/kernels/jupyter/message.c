#include "backends/kernels/jupyter/message.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "backends/base/hex.h"

static const char *const channel_names[] = {"shell", "iopub", "stdin", "control"};

enum {
    V1_PARTS = 5, /* channel, header, parent_header, metadata, content; buffers may follow */
    LOAD_FLAGS = JSON_ALLOW_NUL,
};

void jupyter_make_id(char id[JUPYTER_ID_SIZE])
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        abort(); /* cannot be for so few bytes */
    }
    hex_write(bytes, sizeof(bytes), id);
}

/* ---- parsing ---- */

static int bad(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -EPROTO;
}

static int find_channel(const char *name, size_t size, enum jupyter_channel *ret)
{
    for (int i = JUPYTER_SHELL; i <= JUPYTER_CONTROL; i++) {
        if (strlen(channel_names[i]) == size && memcmp(channel_names[i], name, size) == 0) {
            *ret = (enum jupyter_channel)i;
            return 0;
        }
    }
    return -EPROTO;
}

/* What the rest of the program reads of the two headers, which the message owns already. */
static int take_headers(struct jupyter_message *m, const char **ret_why)
{
    const char *type = json_string_value(json_object_get(m->header, "msg_type"));
    const char *parent = json_string_value(json_object_get(m->parent_header, "msg_id"));

    if (!type) {
        return bad(ret_why, "has no message type");
    }
    m->type = type;
    m->parent = parent ? parent : "";
    return 0;
}

static json_t *load_object(const char *text, size_t size)
{
    json_t *found = json_loadb(text, size, LOAD_FLAGS, NULL);

    if (!json_is_object(found)) {
        json_decref(found);
        return NULL;
    }
    return found;
}

static uint64_t read_u64(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

static uint32_t read_u32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

/* The bounds of the first parts; each lies within the message, and none before the last one. */
static int v1_bounds(const char *bytes, size_t size, uint64_t bounds[V1_PARTS + 1],
                     const char **ret_why)
{
    uint64_t count = size >= sizeof(uint64_t) ? read_u64(bytes) : 0;
    uint64_t least;

    if (count < V1_PARTS + 1 || count > JUPYTER_PARTS_CAP) {
        return bad(ret_why, "has no sound number of parts");
    }
    least = (count + 1) * sizeof(uint64_t);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset;
        if ((i + 2) * sizeof(uint64_t) > size) {
            return bad(ret_why, "ends within its offsets");
        }
        offset = read_u64(bytes + (i + 1) * sizeof(uint64_t));
        if (offset < least || offset > size) {
            return bad(ret_why, "has an offset out of its bounds");
        }
        least = offset;
        if (i <= V1_PARTS) {
            bounds[i] = offset;
        }
    }
    return 0;
}

static int parse_v1(const char *bytes, size_t size, struct jupyter_message *m, const char **ret_why)
{
    uint64_t bounds[V1_PARTS + 1] = {0};

    if (v1_bounds(bytes, size, bounds, ret_why) < 0) {
        return -EPROTO;
    }
    if (find_channel(bytes + bounds[0], bounds[1] - bounds[0], &m->channel) < 0) {
        return bad(ret_why, "names no channel");
    }
    m->header = load_object(bytes + bounds[1], bounds[2] - bounds[1]);
    m->parent_header = load_object(bytes + bounds[2], bounds[3] - bounds[2]);
    m->content_text = bytes + bounds[4];
    m->content_size = bounds[5] - bounds[4];
    return take_headers(m, ret_why);
}

static int parse_legacy_json(const char *text, size_t size, struct jupyter_message *m,
                             const char **ret_why)
{
    json_t *root = load_object(text, size);
    const json_t *channel = json_object_get(root, "channel");
    const char *name = json_string_value(channel);
    int r;

    if (!root) {
        return bad(ret_why, "is no JSON object");
    }
    /* Older servers leave the channel of replies on the shell out. */
    r = name ? find_channel(name, json_string_length(channel), &m->channel) : 0;
    m->header = json_incref(json_object_get(root, "header"));
    m->parent_header = json_incref(json_object_get(root, "parent_header"));
    m->content = json_incref(json_object_get(root, "content"));
    json_decref(root);
    return r < 0 ? bad(ret_why, "names no channel") : take_headers(m, ret_why);
}

static int parse_legacy_binary(const char *bytes, size_t size, struct jupyter_message *m,
                               const char **ret_why)
{
    uint32_t count = size >= sizeof(uint32_t) ? read_u32(bytes) : 0;
    size_t table = ((size_t)count + 1) * sizeof(uint32_t);
    uint32_t start, end;

    if (count < 1 || count > JUPYTER_PARTS_CAP || table > size) {
        return bad(ret_why, "has no sound number of parts");
    }
    start = read_u32(bytes + sizeof(uint32_t));
    end = count > 1 ? read_u32(bytes + 2 * sizeof(uint32_t)) : (uint32_t)size;
    if (start < table || end < start || end > size) {
        return bad(ret_why, "has an offset out of its bounds");
    }
    return parse_legacy_json(bytes + start, end - start, m, ret_why);
}

int jupyter_message_parse(bool v1, bool binary, const char *bytes, size_t size,
                          struct jupyter_message *ret, const char **ret_why)
{
    struct jupyter_message m = {.type = "", .parent = ""};
    int r;

    if (v1 && binary) {
        r = parse_v1(bytes, size, &m, ret_why);
    } else if (binary) {
        r = parse_legacy_binary(bytes, size, &m, ret_why);
    } else {
        r = parse_legacy_json(bytes, size, &m, ret_why);
    }
    if (r < 0) {
        jupyter_message_deinit(&m);
        return r;
    }
    *ret = m;
    return 0;
}

json_t *jupyter_message_content(struct jupyter_message *m)
{
    if (!m->content && m->content_text) {
        m->content = load_object(m->content_text, m->content_size);
    }
    return json_is_object(m->content) ? m->content : NULL;
}

void jupyter_message_deinit(struct jupyter_message *m)
{
    json_decref(m->header);
    json_decref(m->parent_header);
    json_decref(m->content);
    *m = (struct jupyter_message){.type = "", .parent = ""};
}

/* ---- building ---- */

static json_t *make_header(const struct jupyter_outgoing *m)
{
    char date[40];
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "msg_id", m->id, "msg_type", m->type,
                     "session", m->session, "username", "cellblock", "version", "5.3", "date",
                     date);
}

static int append_offsets(struct buffer *to, const size_t *sizes, size_t count)
{
    uint64_t offset = (count + 2) * sizeof(uint64_t);
    uint64_t value = htole64(count + 1);
    int r = buffer_append(to, &value, sizeof(value));

    for (size_t i = 0; r == 0 && i <= count; i++) {
        value = htole64(offset);
        r = buffer_append(to, &value, sizeof(value));
        offset += i < count ? sizes[i] : 0;
    }
    return r;
}

static int build_v1(const struct jupyter_outgoing *m, const char *header, const char *content,
                    struct buffer *to)
{
    const void *parts[] = {channel_names[m->channel], header, "{}", "{}", content, m->buffer};
    size_t sizes[] = {strlen(parts[0]), strlen(header), 2, 2, strlen(content), m->buffer_size};
    size_t count = m->buffer ? 6 : 5;
    int r = append_offsets(to, sizes, count);

    for (size_t i = 0; r == 0 && i < count; i++) {
        r = buffer_append(to, parts[i], sizes[i]);
    }
    return r;
}

static int append_legacy_table(struct buffer *to, size_t json_size)
{
    enum { TABLE = 3 * sizeof(uint32_t) };
    uint32_t table[] = {htobe32(2), htobe32(TABLE), htobe32((uint32_t)(TABLE + json_size))};

    return buffer_append(to, table, sizeof(table));
}

static int build_legacy(const struct jupyter_outgoing *m, const char *header, const char *content,
                        struct buffer *to)
{
    char *text = NULL;
    int n = asprintf(&text,
                     "{\"channel\":\"%s\",\"header\":%s,\"parent_header\":{},\"metadata\":{},"
                     "\"content\":%s,\"buffers\":[]}",
                     channel_names[m->channel], header, content);
    int r = n < 0 ? -ENOMEM : 0;

    if (r == 0 && m->buffer) {
        r = append_legacy_table(to, (size_t)n);
    }
    if (r == 0) {
        r = buffer_append(to, text, (size_t)n);
    }
    if (r == 0 && m->buffer) {
        r = buffer_append(to, m->buffer, m->buffer_size);
    }
    free(text);
    return r;
}

int jupyter_message_build(bool v1, const struct jupyter_outgoing *m, struct buffer *to,
                          bool *ret_binary)
{
    json_t *object = make_header(m);
    char *header = object ? json_dumps(object, JSON_COMPACT) : NULL;
    char *content = json_dumps(m->content, JSON_COMPACT);
    int r = -ENOMEM;

    json_decref(object);
    if (header && content) {
        r = v1 ? build_v1(m, header, content, to) : build_legacy(m, header, content, to);
        *ret_binary = v1 || m->buffer;
    }
    free(header);
    free(content);
    return r;
}
