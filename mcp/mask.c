#include "mcp/mask.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROOT = 0,
    NONE = 0, /* no node is a child or a sibling of the root: 0 says that there is none */
    FORM_ROOM = 6 * MASK_VALUE_CAP + 1, /* \u00e9 for each byte is the most */
    MARK_ROOM = 160,
    BYTES = 256,
};

/* A node is a prefix of some pattern. Children are a list: but near the root there is hardly ever
 * more than one. */
struct node {
    uint32_t child, sibling;
    uint32_t fail;  /* the longest proper suffix that is a node as well */
    uint32_t depth; /* bytes of the prefix */
    uint32_t found; /* the longest pattern that is a suffix, counted from 1; 0: none */
    unsigned char byte;
};

struct pattern {
    char *name;
    uint32_t size;
};

struct mask {
    unsigned references;
    struct node *nodes;
    uint32_t count, room;
    uint32_t first[BYTES]; /* the root's children by their byte */
    struct pattern *patterns;
    uint32_t pattern_count, pattern_room;
};

static void wipe_free(void *memory, size_t size)
{
    if (memory) {
        explicit_bzero(memory, size);
        free(memory);
    }
}

/* --- building --- */

static uint32_t step(const struct mask *m, uint32_t node, unsigned char byte)
{
    uint32_t child;

    if (node == ROOT) {
        return m->first[byte];
    }
    for (child = m->nodes[node].child; child != NONE; child = m->nodes[child].sibling) {
        if (m->nodes[child].byte == byte) {
            break;
        }
    }
    return child;
}

/* Memory that is given back held a value: it is wiped first. */
static int grow_nodes(struct mask *m)
{
    uint32_t room = m->room ? 2 * m->room : 64;
    struct node *grown;

    if (m->count < m->room) {
        return 0;
    }
    grown = calloc(room, sizeof(*grown));
    if (!grown) {
        return -1;
    }
    if (m->nodes) {
        memcpy(grown, m->nodes, m->count * sizeof(*grown));
    }
    wipe_free(m->nodes, m->room * sizeof(*m->nodes));
    m->nodes = grown;
    m->room = room;
    return 0;
}

static int add_node(struct mask *m, uint32_t parent, unsigned char byte, uint32_t *ret)
{
    uint32_t node = m->count;

    if (grow_nodes(m) < 0) {
        return -1;
    }
    m->count++;
    m->nodes[node] = (struct node){
        .sibling = m->nodes[parent].child, .depth = m->nodes[parent].depth + 1, .byte = byte};
    m->nodes[parent].child = node;
    if (parent == ROOT) {
        m->first[byte] = node;
    }
    *ret = node;
    return 0;
}

static int add_name(struct mask *m, const char *name, size_t size)
{
    if (m->pattern_count == m->pattern_room) {
        uint32_t room = m->pattern_room ? 2 * m->pattern_room : 16;
        struct pattern *grown = reallocarray(m->patterns, room, sizeof(*grown));

        if (!grown) {
            return -1;
        }
        m->patterns = grown;
        m->pattern_room = room;
    }
    m->patterns[m->pattern_count] = (struct pattern){strdup(name), (uint32_t)size};
    return m->patterns[m->pattern_count++].name ? 0 : -1;
}

/* A form that two values share has the name of the first. */
static int add_pattern(struct mask *m, const char *name, const char *form, size_t size)
{
    uint32_t node = ROOT, next;

    for (size_t i = 0; i < size; i++, node = next) {
        next = step(m, node, (unsigned char)form[i]);
        if (next == NONE && add_node(m, node, (unsigned char)form[i], &next) < 0) {
            return -1;
        }
    }
    if (m->nodes[node].found) {
        return 0;
    }
    if (add_name(m, name, size) < 0) {
        return -1;
    }
    m->nodes[node].found = m->pattern_count;
    return 0;
}

/* Jansson writes \u00E9 where Python and browsers write \u00e9. */
static void lower_escapes(char *form, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++) {
        if (form[i] != '\\') {
            continue;
        }
        for (size_t digit = i + 2; form[i + 1] == 'u' && digit < i + 6 && digit < size; digit++) {
            form[digit] = (char)tolower((unsigned char)form[digit]);
        }
        i++;
    }
}

/* As json.dumps has it, without the quotes. */
static size_t json_form(const char *value, size_t flags, char form[FORM_ROOM])
{
    json_t *string = json_string(value);
    size_t size = json_dumpb(string, form, FORM_ROOM, flags | JSON_ENCODE_ANY);

    json_decref(string);
    if (size < 2 || size > FORM_ROOM) {
        return 0;
    }
    memmove(form, form + 1, size - 2);
    lower_escapes(form, size - 2);
    return size - 2;
}

/* As Python's repr has it, without the quotes. */
static size_t repr_form(const char *value, char form[FORM_ROOM])
{
    static const char plain[] = "\\\n\r\t", letters[] = "\\nrt";
    size_t size = 0;

    for (const char *c = value; *c; c++) {
        const char *special = strchr(plain, *c);

        if (special) {
            form[size++] = '\\';
            form[size++] = letters[special - plain];
        } else if ((unsigned char)*c < ' ' || *c == 0x7f) {
            size += (size_t)snprintf(form + size, 5, "\\x%02x", (unsigned char)*c);
        } else {
            form[size++] = *c;
        }
    }
    return size;
}

static int add_value(struct mask *m, const struct mask_value *value, char form[FORM_ROOM])
{
    size_t size = strlen(value->value);

    if (add_pattern(m, value->name, value->value, size) < 0) {
        return -1;
    }
    size = repr_form(value->value, form);
    if (add_pattern(m, value->name, form, size) < 0) {
        return -1;
    }
    for (int ascii = 0; ascii < 2; ascii++) {
        size = json_form(value->value, ascii ? JSON_ENSURE_ASCII : 0, form);
        if (size > 0 && add_pattern(m, value->name, form, size) < 0) {
            return -1;
        }
    }
    return 0;
}

static void link_child(struct mask *m, uint32_t parent, uint32_t child)
{
    struct node *node = &m->nodes[child];
    uint32_t fail = m->nodes[parent].fail, next = NONE;

    if (parent != ROOT) {
        while ((next = step(m, fail, node->byte)) == NONE && fail != ROOT) {
            fail = m->nodes[fail].fail;
        }
    }
    node->fail = next;
    if (!node->found) {
        node->found = m->nodes[next].found;
    }
}

/* Level by level: a suffix is shorter than what it is of. */
static int link_nodes(struct mask *m)
{
    uint32_t *queue = calloc(m->count, sizeof(*queue));
    uint32_t first = 0, last = 0, child;

    if (!queue) {
        return -1;
    }
    queue[last++] = ROOT;
    while (first < last) {
        uint32_t node = queue[first++];

        for (child = m->nodes[node].child; child != NONE; child = m->nodes[child].sibling) {
            link_child(m, node, child);
            queue[last++] = child;
        }
    }
    free(queue);
    return 0;
}

struct mask *mask_new(const struct mask_value *values, size_t count)
{
    struct mask *m = calloc(1, sizeof(*m));
    char *form = malloc(FORM_ROOM);
    bool complete = m && form && grow_nodes(m) == 0;

    if (complete) {
        m->references = 1;
        m->count = 1;
    }
    for (size_t i = 0; complete && i < count; i++) {
        complete = add_value(m, &values[i], form) == 0;
    }
    complete = complete && link_nodes(m) == 0;
    wipe_free(form, FORM_ROOM);
    if (!complete) {
        mask_unref(m);
        return NULL;
    }
    return m;
}

struct mask *mask_ref(struct mask *mask)
{
    if (mask) {
        mask->references++;
    }
    return mask;
}

void mask_unref(struct mask *mask)
{
    if (!mask || (mask->references > 1 && mask->references-- > 0)) {
        return;
    }
    for (uint32_t i = 0; i < mask->pattern_count; i++) {
        free(mask->patterns[i].name);
    }
    free(mask->patterns);
    wipe_free(mask->nodes, mask->room * sizeof(*mask->nodes));
    wipe_free(mask, sizeof(*mask));
}

/* --- looking --- */

/* One byte on. A node without children is as good as its suffix, which holds back less. */
static uint32_t advance(const struct mask *m, uint32_t state, unsigned char byte,
                        uint32_t *ret_found)
{
    uint32_t next;

    while ((next = step(m, state, byte)) == NONE && state != ROOT) {
        state = m->nodes[state].fail;
    }
    *ret_found = m->nodes[next].found;
    if (next != ROOT && m->nodes[next].child == NONE) {
        next = m->nodes[next].fail;
    }
    return next;
}

void mask_stream_init(struct mask_stream *s, struct mask *mask)
{
    *s = (struct mask_stream){.mask = mask_ref(mask)};
}

void mask_stream_deinit(struct mask_stream *s)
{
    wipe_free(s->held, s->held_room);
    free(s->spans);
    mask_unref(s->mask);
    *s = (struct mask_stream){0};
}

static int push_span(struct mask_stream *s, struct mask_span span)
{
    if (s->span_count == s->span_room) {
        size_t room = s->span_room ? 2 * s->span_room : 8;
        struct mask_span *grown = reallocarray(s->spans, room, sizeof(*grown));

        if (!grown) {
            return -1;
        }
        s->spans = grown;
        s->span_room = room;
    }
    s->spans[s->span_count++] = span;
    return 0;
}

/* A value ends here: it swallows what it overlaps, each once. */
static void note_found(struct mask_stream *s, const struct pattern *pattern)
{
    struct mask_span span = {s->at - pattern->size, s->at, pattern->name, pattern->size};

    while (s->span_count > 0 && s->spans[s->span_count - 1].end > span.begin) {
        const struct mask_span *last = &s->spans[--s->span_count];

        span.begin = last->begin < span.begin ? last->begin : span.begin;
        if (last->longest > span.longest) {
            span.longest = last->longest;
            span.name = last->name;
        }
    }
    /* It goes on what has its mark already; or there is no memory for one, and not the value
     * either.
     */
    if (span.begin < s->until || push_span(s, span) < 0) {
        s->until = span.end;
    }
}

static void emit_mark(const char *name, mask_emit emit, void *data)
{
    char mark[MARK_ROOM];
    int n = snprintf(mark, sizeof(mark), "[secret %.100s]", name);

    emit(data, mark, (size_t)n);
}

/* A piece of the stream that is told: what is held, then `bytes`, which begins at `from`. */
struct piece {
    const char *bytes;
    uint64_t from, to;
};

/* Emits the stream's bytes up to `to`, but for those of a value. */
static void emit_plain(struct mask_stream *s, const struct piece *piece, uint64_t to,
                       mask_emit emit, void *data)
{
    uint64_t begin = s->told > s->until ? s->told : s->until;

    if (begin < to && begin < piece->from) {
        uint64_t end = to < piece->from ? to : piece->from;

        emit(data, s->held + s->held_size - (piece->from - begin), (size_t)(end - begin));
        begin = end;
    }
    if (begin < to) {
        emit(data, piece->bytes + (begin - piece->from), (size_t)(to - begin));
    }
    s->told = s->told < to ? to : s->told;
}

/* Nothing that comes will begin before `safe`. */
static void settle(struct mask_stream *s, const struct piece *piece, uint64_t safe, mask_emit emit,
                   void *data)
{
    size_t done = 0;

    while (done < s->span_count && s->spans[done].begin < safe) {
        const struct mask_span *span = &s->spans[done++];

        emit_plain(s, piece, span->begin, emit, data);
        emit_mark(span->name, emit, data);
        s->until = span->end;
    }
    if (done > 0) {
        s->span_count -= done;
        memmove(s->spans, s->spans + done, s->span_count * sizeof(*s->spans));
    }
    emit_plain(s, piece, safe < piece->to ? safe : piece->to, emit, data);
}

/* Keeps the bytes that are not told yet. */
static void hold(struct mask_stream *s, const struct piece *piece)
{
    size_t size = (size_t)(piece->to - s->told), old;
    char *room;

    if (s->held_room < size) {
        room = malloc(size);
        if (!room) {
            s->until = s->at; /* never unmasked */
            s->told = s->at;
            s->held_size = 0;
            return;
        }
    } else {
        room = s->held;
    }
    old = s->told < piece->from ? (size_t)(piece->from - s->told) : 0;
    if (old > 0) {
        memmove(room, s->held + s->held_size - old, old);
    }
    if (size > old) {
        memcpy(room + old, piece->bytes + (s->told + old - piece->from), size - old);
    }
    if (room != s->held) {
        wipe_free(s->held, s->held_room);
        s->held = room;
        s->held_room = size;
    }
    s->held_size = size;
}

void mask_stream_write(struct mask_stream *s, const char *bytes, size_t size, mask_emit emit,
                       void *data)
{
    const struct mask *m = s->mask;
    struct piece piece = {bytes, s->at, s->at + size};
    uint32_t found;

    if (!m) {
        emit(data, bytes, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (s->state == ROOT && m->first[(unsigned char)bytes[i]] == NONE) {
            s->at++; /* most bytes */
            continue;
        }
        s->state = advance(m, s->state, (unsigned char)bytes[i], &found);
        s->at++;
        if (found) {
            note_found(s, &m->patterns[found - 1]);
        }
        if (s->span_count > 0) {
            settle(s, &piece, s->at - m->nodes[s->state].depth, emit, data);
        }
    }
    settle(s, &piece, s->at - m->nodes[s->state].depth, emit, data);
    hold(s, &piece);
}

void mask_stream_flush(struct mask_stream *s, mask_emit emit, void *data)
{
    struct piece piece = {"", s->at, s->at};

    if (s->mask) {
        settle(s, &piece, UINT64_MAX, emit, data);
        s->state = ROOT;
        s->held_size = 0;
        s->until = s->told = s->at;
    }
}

/* --- what is whole --- */

static bool is_in(const struct mask *m, const char *text, size_t size)
{
    uint32_t state = ROOT, found = 0;

    for (size_t i = 0; i < size && !found; i++) {
        state = advance(m, state, (unsigned char)text[i], &found);
    }
    return found != 0;
}

struct collected {
    char *text;
    size_t size, room;
};

/* Memory for what takes the place of a text with secrets. Without any, no answer is better than one
 * that shows them. */
static char *must_grow(char *text, size_t room)
{
    char *grown = realloc(text, room);

    if (!grown) {
        abort();
    }
    return grown;
}

static void collect(void *data, const char *bytes, size_t size)
{
    struct collected *c = data;

    if (c->size + size + 1 > c->room) {
        c->room = 2 * (c->size + size) + 1;
        c->text = must_grow(c->text, c->room);
    }
    memcpy(c->text + c->size, bytes, size);
    c->size += size;
    c->text[c->size] = '\0';
}

char *mask_text(struct mask *mask, const char *text, size_t size, size_t *ret_size)
{
    struct collected c = {.room = size + 64};
    struct mask_stream s;

    if (!mask || !is_in(mask, text, size)) {
        return NULL;
    }
    c.text = must_grow(NULL, c.room);
    c.text[0] = '\0';
    mask_stream_init(&s, mask);
    mask_stream_write(&s, text, size, collect, &c);
    mask_stream_flush(&s, collect, &c);
    mask_stream_deinit(&s);
    *ret_size = c.size;
    return c.text;
}

size_t mask_open_end(const struct mask *mask, const char *text, size_t size)
{
    uint32_t state = ROOT, found;

    for (size_t i = 0; mask && i < size; i++) {
        state = advance(mask, state, (unsigned char)text[i], &found);
    }
    return mask ? mask->nodes[state].depth : 0;
}
