#include "mcp/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/buffer.h"

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* The range of the second byte of a sequence that begins with `lead`, and the sequence's length; 0
 * for a byte that begins none (RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF).
 */
static size_t sequence(unsigned char lead, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = 0x80;
    *ret_high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        return 2;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        *ret_low = lead == 0xe0 ? 0xa0 : 0x80;
        *ret_high = lead == 0xed ? 0x9f : 0xbf;
        return 3;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        *ret_low = lead == 0xf0 ? 0x90 : 0x80;
        *ret_high = lead == 0xf4 ? 0x8f : 0xbf;
        return 4;
    }
    return 0;
}

/* The next character of p[0 … n), n > 0: returns how many bytes it is, or how many make up one
 * U+FFFD (*ret_valid false). */
static size_t next_character(const char *p, size_t n, bool *ret_valid)
{
    const unsigned char *u = (const unsigned char *)p;
    unsigned char low, high;
    size_t length, i;

    *ret_valid = true;
    if (u[0] < 0x80) {
        return 1;
    }
    length = sequence(u[0], &low, &high);
    for (i = 1; i < length && i < n && u[i] >= low && u[i] <= high; i++) {
        low = 0x80;
        high = 0xbf;
    }
    *ret_valid = length > 0 && i == length;
    return i;
}

size_t text_character(const char *p, size_t n)
{
    bool valid;
    size_t length = next_character(p, n, &valid);

    return valid ? length : 0;
}

static size_t character_cost(const char *p, size_t length, bool valid)
{
    unsigned char c = (unsigned char)*p;

    if (!valid) {
        return sizeof(replacement) - 1;
    }
    return c < 0x20 && c != '\n' && c != '\t' && c != '\r' ? strlen("\\u0000") : length;
}

static size_t region_cost(const char *p, size_t n, bool *ret_clean)
{
    size_t cost = 0, length;
    bool valid;

    for (size_t i = 0; i < n; i += length) {
        length = next_character(p + i, n - i, &valid);
        cost += character_cost(p + i, length, valid);
        *ret_clean = *ret_clean && valid;
    }
    return cost;
}

struct text text_of(const char *bytes, size_t size)
{
    return (struct text){.head = bytes, .head_size = size};
}

size_t text_cost(const struct text *t)
{
    bool clean = true;

    return t->gap_bytes > 0 ? SIZE_MAX : region_cost(t->head, t->head_size, &clean);
}

/* Could the bytes that are no character become one, if more came? */
static bool begins_character(const char *p, size_t length)
{
    unsigned char low, high;

    return sequence((unsigned char)*p, &low, &high) > length;
}

struct text_prefix text_prefix(const char *bytes, size_t size, size_t limit)
{
    struct text_prefix prefix = {0};
    size_t cost = 0;

    while (prefix.size < size) {
        const char *at = bytes + prefix.size;
        size_t left = size - prefix.size;
        bool valid;
        size_t length;

        if ((unsigned char)*at - 0x20u < 0x60 && cost < limit) { /* a call for each is slow */
            cost++;
            prefix.size++;
            continue;
        }
        length = next_character(at, left, &valid);
        if (!valid) {
            prefix.cut = length == left && begins_character(at, length);
            prefix.invalid = !prefix.cut;
            break;
        }
        cost += character_cost(at, length, true);
        if (cost > limit) {
            break;
        }
        prefix.size += length;
    }
    return prefix;
}

static int append_clean(struct buffer *b, const char *p, size_t n)
{
    size_t start = 0, length;
    bool valid;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i += length) {
        length = next_character(p + i, n - i, &valid);
        if (!valid) {
            r = buffer_append(b, p + start, i - start);
            r = r < 0 ? r : buffer_append(b, replacement, sizeof(replacement) - 1);
            start = i + length;
        }
    }
    return r < 0 ? r : buffer_append(b, p + start, n - start);
}

static size_t count_lines(const char *p, size_t n)
{
    size_t lines = 0;

    for (size_t i = 0; i < n; i++) {
        lines += p[i] == '\n';
    }
    return lines;
}

/* The most of p[0 … n) that costs at most `limit`, ended after a line where one ends in its second
 * half. */
static size_t prefix_size(const char *p, size_t n, size_t limit)
{
    size_t size = 0, cost = 0, length;
    const char *newline;
    bool valid;

    while (size < n) {
        length = next_character(p + size, n - size, &valid);
        cost += character_cost(p + size, length, valid);
        if (cost > limit) {
            break;
        }
        size += length;
    }
    newline = size > 0 ? memrchr(p, '\n', size) : NULL;
    return newline && (size_t)(newline + 1 - p) >= size / 2 ? (size_t)(newline + 1 - p) : size;
}

/* Where the part of p[0 … n) begins that costs at most `limit` and reaches to the end; after a
 * line's end where one is in its first half. */
static size_t suffix_start(const char *p, size_t n, size_t limit)
{
    bool clean = true, valid;
    size_t cost = 0, start = 0, length;
    const char *newline;

    /* The tail of a stream may begin within a character. */
    while (start < n && start < 3 && ((unsigned char)p[start] & 0xc0) == 0x80) {
        start++;
    }
    cost = region_cost(p + start, n - start, &clean);
    while (start < n && cost > limit) {
        length = next_character(p + start, n - start, &valid);
        cost -= character_cost(p + start, length, valid);
        start += length;
    }
    newline = start < n ? memchr(p + start, '\n', n - start) : NULL;
    if (newline && newline + 1 < p + n && (size_t)(newline - p) - start <= (n - start) / 2) {
        return (size_t)(newline + 1 - p);
    }
    return start;
}

const char *text_number(uint64_t n, char space[28])
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, n), out = 0;

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            space[out++] = ',';
        }
        space[out++] = digits[i];
    }
    space[out] = '\0';
    return space;
}

static int append_mark(struct buffer *b, uint64_t bytes, uint64_t lines)
{
    char mark[TEXT_MARK_ROOM], a[28], c[28];
    bool fresh_line = buffer_size(b) == 0 || buffer_data(b)[buffer_size(b) - 1] == '\n';
    int n;

    if (lines > 0) {
        n = snprintf(mark, sizeof(mark), "%s[… %s bytes, %s line%s left out …]\n",
                     fresh_line ? "" : "\n", text_number(bytes, a), text_number(lines, c),
                     lines == 1 ? "" : "s");
    } else {
        n = snprintf(mark, sizeof(mark), "%s[… %s bytes left out …]\n", fresh_line ? "" : "\n",
                     text_number(bytes, a));
    }
    return buffer_append(b, mark, (size_t)n);
}

static json_t *buffer_to_json(struct buffer *b, int r)
{
    json_t *string = NULL;

    if (r == 0) {
        string = json_stringn_nocheck(buffer_size(b) > 0 ? buffer_data(b) : "", buffer_size(b));
    }
    buffer_deinit(b);
    return string;
}

static json_t *render_whole(const struct text *t, size_t cost, bool clean)
{
    struct buffer b;

    if (clean) {
        return json_stringn_nocheck(t->head_size > 0 ? t->head : "", t->head_size);
    }
    buffer_init(&b, cost + 1);
    return buffer_to_json(&b, append_clean(&b, t->head, t->head_size));
}

json_t *text_render(const struct text *t, size_t limit, unsigned tail_percent, bool *ret_cut)
{
    bool clean = true, gap = t->gap_bytes > 0;
    size_t cost = gap ? SIZE_MAX : region_cost(t->head, t->head_size, &clean);
    size_t tail_limit = limit / 100 * tail_percent + limit % 100 * tail_percent / 100;
    size_t first, start, rest_size;
    const char *rest;
    struct buffer b;
    uint64_t bytes, lines;
    int r;

    if (cost <= limit) {
        return render_whole(t, cost, clean);
    }
    *ret_cut = true;
    first = prefix_size(t->head, t->head_size, limit - tail_limit);
    rest = gap ? t->tail : t->head + first;
    rest_size = gap ? t->tail_size : t->head_size - first;
    start = suffix_start(rest, rest_size, tail_limit);
    bytes = start + t->gap_bytes;
    lines = count_lines(rest, start) + t->gap_lines;
    if (gap) {
        bytes += t->head_size - first;
        lines += count_lines(t->head + first, t->head_size - first);
    }
    buffer_init(&b, limit + TEXT_MARK_ROOM);
    r = append_clean(&b, t->head, first);
    r = r < 0 ? r : append_mark(&b, bytes, lines);
    r = r < 0 ? r : append_clean(&b, rest + start, rest_size - start);
    return buffer_to_json(&b, r);
}

json_t *text_json(const char *string, size_t limit)
{
    struct text t = text_of(string, strlen(string));
    bool cut = false;

    return text_render(&t, limit, TEXT_TAIL_HALF, &cut);
}

void capture_init(struct capture *c, size_t half)
{
    *c = (struct capture){.half = half};
}

void capture_deinit(struct capture *c)
{
    free(c->head);
    free(c->tail);
    capture_init(c, c->half);
}

void capture_clear(struct capture *c)
{
    capture_deinit(c);
}

/* Makes *base hold at least `want` bytes, at most `most`. */
static bool grow(char **base, size_t *room, size_t want, size_t most)
{
    size_t size = *room ? *room : 256;
    char *fresh;

    if (want <= *room) {
        return true;
    }
    while (size < want) {
        size *= 2;
    }
    size = size > most ? most : size;
    fresh = realloc(*base, size);
    if (!fresh) {
        return false;
    }
    *base = fresh;
    *room = size;
    return true;
}

/* Drops the first `n` bytes of the tail into the gap. */
static void drop_front(struct capture *c, size_t n)
{
    if (n == 0) {
        return;
    }
    c->gap_lines += count_lines(c->tail, n);
    memmove(c->tail, c->tail + n, c->tail_size - n);
    c->tail_size -= n;
}

static void append_tail(struct capture *c, const char *bytes, size_t size)
{
    size_t most = 2 * c->half, keep;

    if (c->tail_size + size > most) {
        keep = c->half > size ? c->half - size : 0;
        if (c->tail_size > keep) {
            drop_front(c, c->tail_size - keep);
        }
    }
    if (size > most) {
        c->gap_lines += count_lines(bytes, size - c->half);
        bytes += size - c->half;
        size = c->half;
    }
    if (!grow(&c->tail, &c->tail_room, c->tail_size + size, most)) {
        c->gap_lines += count_lines(c->tail, c->tail_size) + count_lines(bytes, size);
        c->tail_size = 0;
        return;
    }
    memcpy(c->tail + c->tail_size, bytes, size);
    c->tail_size += size;
}

void capture_append(struct capture *c, const char *bytes, size_t size)
{
    size_t room = c->head_size < c->half ? c->half - c->head_size : 0;
    size_t first = room < size ? room : size;

    if (c->total > c->head_size) {
        first = 0; /* the head is closed once something follows it */
    }
    c->total += size;
    if (first > 0 && grow(&c->head, &c->head_room, c->head_size + first, c->half)) {
        memcpy(c->head + c->head_size, bytes, first);
        c->head_size += first;
        bytes += first;
        size -= first;
    }
    if (size > 0) {
        append_tail(c, bytes, size);
    }
}

void capture_skip(struct capture *c, uint64_t bytes, uint64_t lines)
{
    drop_front(c, c->tail_size);
    c->total += bytes;
    c->gap_lines += lines;
}

/* Puts the tail behind the head when nothing is missing between, so that no character is split. */
static bool join(struct capture *c)
{
    size_t size = c->head_size + c->tail_size;

    if (!grow(&c->head, &c->head_room, size, size)) {
        return false;
    }
    memcpy(c->head + c->head_size, c->tail, c->tail_size);
    c->head_size = size;
    c->tail_size = 0;
    return true;
}

struct text capture_text(struct capture *c)
{
    uint64_t gap = c->total - c->head_size - c->tail_size;

    if (gap == 0 && c->tail_size > 0 && !join(c)) {
        gap = c->tail_size;
        c->gap_lines = count_lines(c->tail, c->tail_size);
        c->tail_size = 0;
    }
    return (struct text){.head = c->head,
                         .head_size = c->head_size,
                         .tail = c->tail,
                         .tail_size = c->tail_size,
                         .gap_bytes = gap,
                         .gap_lines = c->gap_lines};
}
