#include "backends/kernels/runner/supervised.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/runner/supervised_internal.h"

#define NOTHING_SAID "it printed nothing"

enum {
    MARKER_SIZE = sizeof(FRAME_MARKER) - 1,
    VERSION_CAP = 32, /* bytes between the marker and its end */
    OLDEST_MINOR = 8, /* python 3.8 */
    PROGRESS_MS = 500,
};

/* ---- sending ---- */

int supervised_send(struct supervised *s, enum supervisor_frame type, const void *payload,
                    size_t size)
{
    unsigned char header[FRAME_HEADER];
    int r;

    frame_header(header, (enum frame_type)type, size);
    r = s->stream->write(s->stream, header, sizeof(header));
    if (r == 0 && size > 0) {
        r = s->stream->write(s->stream, payload, size);
    }
    return r;
}

int supervised_send_json(struct supervised *s, enum supervisor_frame type, json_t *json_owned)
{
    char *text = json_owned ? json_dumps(json_owned, JSON_COMPACT) : NULL;
    int r = text ? supervised_send(s, type, text, strlen(text)) : -ENOMEM;

    json_decref(json_owned);
    free(text);
    return r;
}

/* ---- the end ---- */

static void forget_worker(struct supervised *s)
{
    s->worker = WORKER_NONE;
    s->kill_sent = false;
    s->runs_due = 0;
    s->held = 0;
    buffer_reset(&s->early);
    buffer_reset(&s->plan);
}

static void tell_lost(struct supervised *s, const char *message)
{
    const struct machine_exit exit = {.how = EXIT_LOST, .kind = ERROR_LOST, .message = message};

    if (s->worker != WORKER_NONE) {
        forget_worker(s);
        s->events.on_worker_exit(s->data, &exit);
    }
}

/* All that is waited for is answered; from now on nothing is sent or taken. */
static void become_over(struct supervised *s, const char *message)
{
    s->phase = PHASE_OVER;
    if (!s->closing) {
        uv_timer_stop(&s->greeting);
    }
    supervised_puts_lost(s);
    supervised_files_lost(s);
    tell_lost(s, message);
}

void supervised_break(struct supervised *s, const char *format, ...)
{
    char message[2048];
    va_list args;

    if (s->phase == PHASE_OVER || s->closing) {
        return;
    }
    va_start(args, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized)
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    become_over(s, message);
    if (!s->closing) {
        s->events.on_broken(s->data, message);
    }
}

static void end_banner(struct supervised *s)
{
    if (!s->banner_end) {
        s->banner_end = supervised_last_lines(buffer_data(&s->banner), buffer_size(&s->banner));
    }
}

const char *supervised_banner(const struct supervised *s)
{
    return s->banner_end ? s->banner_end : "";
}

void supervised_ended(struct supervised *s, const char *reason)
{
    bool greeted = s->phase == PHASE_UP;

    if (s->phase == PHASE_OVER || s->closing) {
        return;
    }
    if (greeted) {
        become_over(s, reason);
        return;
    }
    end_banner(s);
    supervised_break(
        s, "the command ended before our program in it had answered%s%s%s%s%s", reason ? ": " : "",
        reason ? reason : "", s->banner_end && *s->banner_end ? " (it printed: " : "",
        s->banner_end ? s->banner_end : "", s->banner_end && *s->banner_end ? ")" : "");
}

static unsigned greeting_ms(const struct supervised *s)
{
    return s->options.greeting_ms ? s->options.greeting_ms : SUPERVISED_GREETING_MS;
}

static void on_greeting_limit(uv_timer_t *timer)
{
    struct supervised *s = timer->data;

    end_banner(s);
    supervised_break(s, "no answer from a python3 at the other end within %u s; %s%s",
                     greeting_ms(s) / 1000,
                     s->banner_end && *s->banner_end ? "it printed: " : NOTHING_SAID,
                     s->banner_end ? s->banner_end : "");
}

/* ---- the start ---- */

static void take_marker(struct supervised *s, const char *version)
{
    unsigned major = 0, minor = 0, micro = 0;
    char magic[12] = "";
    int r;

    // NOLINTNEXTLINE(cert-err34-c): checked, small
    if (sscanf(version, "%u.%u.%u.%11s", &major, &minor, &micro, magic) < 2) {
        supervised_break(s, "the far side gave a version that is none");
        return;
    }
    if (major != 3 || minor < OLDEST_MINOR) {
        supervised_break(s,
                         "the python3 at the other end is %s, and 3.%d or newer is needed: name "
                         "another one as `python`",
                         version, OLDEST_MINOR);
        return;
    }
    s->phase = PHASE_HELLO;
    r = supervised_send_package(s, magic);
    if (r < 0) {
        supervised_break(s, "sending our program: %s", uv_strerror(r));
    }
}

/* Digits and dots, so that it can be quoted. */
static bool is_version(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((text[i] < '0' || text[i] > '9') && text[i] != '.') {
            return false;
        }
    }
    return size > 0;
}

/* Looks for the marker in what has come. Returns how many bytes up to its end were used, 0 when it
 * is not there yet. */
static size_t find_marker(struct supervised *s, char version[VERSION_CAP + 1])
{
    const char *text = buffer_data(&s->banner);
    size_t size = buffer_size(&s->banner);
    const char *marker = size ? memmem(text, size, FRAME_MARKER, MARKER_SIZE) : NULL;

    while (marker) {
        const char *from = marker + MARKER_SIZE;
        size_t room = size - (size_t)(from - text);
        const char *end = memchr(from, FRAME_MARKER_END, room < VERSION_CAP ? room : VERSION_CAP);
        if (!end && room < VERSION_CAP) {
            return 0;
        }
        if (end && is_version(from, (size_t)(end - from))) {
            memcpy(version, from, (size_t)(end - from));
            version[end - from] = '\0';
            return (size_t)(end - text) + 1;
        }
        marker = memmem(from, room, FRAME_MARKER, MARKER_SIZE);
    }
    return 0;
}

/* Skips a banner. Returns how many of the bytes were used. */
static size_t take_banner(struct supervised *s, const char *bytes, size_t size)
{
    char version[VERSION_CAP + 1];
    size_t before = buffer_size(&s->banner);
    size_t room = SUPERVISED_BANNER_CAP - before;
    size_t used;

    if (buffer_append(&s->banner, bytes, size < room ? size : room) < 0) {
        supervised_break(s, "out of memory");
        return size;
    }
    used = find_marker(s, version);
    if (used > 0) {
        s->banner_end = supervised_last_lines(
            buffer_data(&s->banner),
            (size_t)((char *)memmem(buffer_data(&s->banner), buffer_size(&s->banner), FRAME_MARKER,
                                    MARKER_SIZE) -
                     buffer_data(&s->banner)));
        buffer_deinit(&s->banner);
        take_marker(s, version);
        return used - before;
    }
    if (size >= room) {
        end_banner(s);
        supervised_break(s,
                         "more than %d KiB came and no answer of our program's was in it; its "
                         "last lines: %s",
                         SUPERVISED_BANNER_CAP / 1024, s->banner_end ? s->banner_end : "");
    }
    return size;
}

/* ---- frames ---- */

static enum route route_of(const struct supervised *s, unsigned type)
{
    switch (type) {
    case FRAME_STDOUT:
    case FRAME_STDERR:
        return s->runs_due ? ROUTE_LEFTOVER : ROUTE_LINK;
    case FRAME_DISPLAY:
    case FRAME_CLEAR:
    case FRAME_NOTE:
        return s->runs_due ? ROUTE_NOBODY : ROUTE_LINK;
    case FRAME_GREETING:
    case FRAME_DELAYED:
    case FRAME_BEGIN:
    case FRAME_DONE:
        return ROUTE_LINK;
    default:
        return ROUTE_OWN;
    }
}

static void to_link(struct supervised *s, const char *bytes, size_t size)
{
    if (s->worker != WORKER_LIVE || s->kill_sent) {
        return;
    }
    if (s->link.events.on_frames) {
        s->link.events.on_frames(s->link.data, bytes, size);
    } else if (buffer_append(&s->early, bytes, size) < 0) {
        supervised_break(s, "its worker printed more than %d KiB before it was used",
                         SUPERVISED_EARLY_CAP / 1024);
    }
}

static bool header_ok(struct supervised *s, size_t size)
{
    unsigned type = s->header[4];
    bool of_worker = type >= FRAME_GREETING && type <= FRAME_DONE;
    bool known = of_worker || (type >= FRAME_HELLO && type <= FRAME_KEPT);

    if (!known || (s->phase == PHASE_HELLO && type != FRAME_HELLO) ||
        (of_worker && s->worker != WORKER_LIVE)) {
        supervised_break(s, "the far side sent something that is not a frame (type %u)", type);
        return false;
    }
    if (size > (of_worker ? FRAME_PAYLOAD_CAP : FRAME_SUPERVISOR_CAP)) {
        supervised_break(s, "the far side sent a frame longer than any may be (%zu bytes)", size);
        return false;
    }
    return true;
}

static size_t take_header(struct supervised *s, const char *bytes, size_t size)
{
    size_t want = FRAME_HEADER - s->header_size;
    size_t n = size < want ? size : want;
    const unsigned char *h = s->header;

    memcpy(s->header + s->header_size, bytes, n);
    s->header_size += n;
    if (s->header_size < FRAME_HEADER) {
        return n;
    }
    s->left = (size_t)h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
    if (header_ok(s, s->left)) {
        s->route = route_of(s, h[4]);
        if (s->route == ROUTE_LINK) {
            to_link(s, (const char *)s->header, FRAME_HEADER);
        }
    }
    return n;
}

static void take_payload(struct supervised *s, const char *bytes, size_t size)
{
    s->left -= size;
    switch (s->route) {
    case ROUTE_LINK:
        to_link(s, bytes, size);
        break;
    case ROUTE_OWN:
        if (buffer_append(&s->frame, bytes, size) < 0) {
            supervised_break(s, "out of memory");
        }
        break;
    case ROUTE_LEFTOVER:
        if (s->link.events.on_leftover) {
            s->link.events.on_leftover(s->link.data,
                                       s->header[4] == FRAME_STDOUT ? STREAM_STDOUT : STREAM_STDERR,
                                       bytes, size);
        }
        break;
    case ROUTE_NOBODY:
        break;
    }
}

static void finish_frame(struct supervised *s)
{
    struct frame frame = {s->header[4], buffer_data(&s->frame), buffer_size(&s->frame)};

    s->header_size = 0;
    if (s->route != ROUTE_OWN) {
        return;
    }
    supervised_take_frame(s, &frame);
    buffer_reset(&s->frame);
}

static size_t take_frames(struct supervised *s, const char *bytes, size_t size)
{
    size_t n;

    if (s->header_size < FRAME_HEADER) {
        n = take_header(s, bytes, size);
    } else {
        n = size < s->left ? size : s->left;
        take_payload(s, bytes, n);
    }
    if (s->phase != PHASE_OVER && s->header_size == FRAME_HEADER && s->left == 0) {
        finish_frame(s);
    }
    return n;
}

void supervised_feed(struct supervised *s, const char *bytes, size_t size)
{
    while (size > 0 && !s->closing && s->phase != PHASE_NEW && s->phase != PHASE_OVER) {
        size_t n =
            s->phase == PHASE_BANNER ? take_banner(s, bytes, size) : take_frames(s, bytes, size);
        bytes += n;
        size -= n;
    }
}

/* ---- the link ---- */

struct supervised *supervised_of_link(const struct link *link)
{
    return (struct supervised *)((char *)link - offsetof(struct supervised, link));
}

static int link_send(struct link *link, const void *bytes, size_t size)
{
    struct supervised *s = supervised_of_link(link);
    unsigned type = size >= FRAME_HEADER ? ((const unsigned char *)bytes)[4] : 0;
    int r;

    if (s->phase != PHASE_UP || s->worker != WORKER_LIVE || s->closing) {
        return -EPIPE;
    }
    if (type == FRAME_ACK) {
        return 0; /* answered over there */
    }
    if (type != FRAME_RUN) {
        return s->stream->write(s->stream, bytes, size);
    }
    r = supervised_send_run(s, bytes, size);
    s->runs_due += r == 0;
    return r;
}

static const struct link_ops supervised_link = {
    .send = link_send, .may_delay = true, .keeps = supervised_keeps, .plan = supervised_plan};

void supervised_attached(struct supervised *s)
{
    while (s->link.events.on_frames && buffer_size(&s->early) > 0 && s->worker == WORKER_LIVE) {
        struct buffer early = s->early;
        buffer_init(&s->early, SUPERVISED_EARLY_CAP);
        s->link.events.on_frames(s->link.data, buffer_data(&early), buffer_size(&early));
        buffer_deinit(&early);
    }
}

/* ---- the worker ---- */

static void on_soon(uv_idle_t *idle)
{
    struct supervised *s = idle->data;

    uv_idle_stop(idle);
    if (s->lost && !s->closing) {
        s->lost = false;
        s->worker = WORKER_STARTING;
        tell_lost(s, "the connection to it is over");
    }
    if (s->phase == PHASE_OVER) {
        supervised_puts_lost(s);
        supervised_files_lost(s);
    } else if (s->choked) {
        supervised_break(s, "the far side does not read what it is sent");
    } else {
        supervised_puts_go_on(s);
        supervised_files_go_on(s);
    }
}

void supervised_start_worker(struct supervised *s)
{
    if (s->phase != PHASE_UP) {
        s->lost = true;
        uv_idle_start(&s->soon, on_soon);
        return;
    }
    s->worker = WORKER_STARTING;
    s->kill_sent = false;
    s->link = (struct link){.ops = &supervised_link};
    if (!s->options.start_at_once) {
        (void)supervised_send(s, FRAME_START, NULL, 0);
    }
    s->options.start_at_once = false; /* the next one is asked for by itself */
}

void supervised_interrupt(struct supervised *s)
{
    if (s->phase == PHASE_UP && s->worker == WORKER_LIVE) {
        (void)supervised_send(s, FRAME_INTERRUPT, NULL, 0);
    }
}

int supervised_signal(struct supervised *s, int number)
{
    unsigned char byte = (unsigned char)number;

    if (s->phase != PHASE_UP || s->worker != WORKER_LIVE) {
        return -ESRCH;
    }
    return supervised_send(s, FRAME_INTERRUPT, &byte, 1) < 0 ? -ESRCH : 0;
}

void supervised_kill(struct supervised *s)
{
    if (s->phase == PHASE_UP && s->worker != WORKER_NONE && !s->kill_sent) {
        s->kill_sent = s->worker == WORKER_STARTING;
        (void)supervised_send(s, FRAME_KILL, NULL, 0);
    }
}

int supervised_pid(const struct supervised *s)
{
    return s->options.secret ? s->options.pid : s->pid;
}

bool supervised_is_another(const struct supervised *s)
{
    return s->another;
}

const char *supervised_folder(const struct supervised *s)
{
    return s->folder;
}

/* ---- life ---- */

static void on_progress(uv_timer_t *timer)
{
    supervised_put_progress(timer->data);
}

struct supervised *supervised_new(uv_loop_t *loop, struct byte_stream *stream,
                                  const struct supervised_options *options,
                                  const struct supervised_events *events, void *data)
{
    struct supervised *s = calloc(1, sizeof(*s));

    if (!s || supervised_copy_options(s, options) < 0) {
        if (s) {
            supervised_free_options(s);
        }
        free(s);
        return NULL;
    }
    s->loop = loop;
    s->stream = stream;
    s->events = *events;
    s->data = data;
    buffer_init(&s->banner, SUPERVISED_BANNER_CAP);
    buffer_init(&s->frame, FRAME_SUPERVISOR_CAP);
    buffer_init(&s->early, SUPERVISED_EARLY_CAP);
    buffer_init(&s->plan, FRAME_SUPERVISOR_CAP + FRAME_HEADER + FRAME_PAYLOAD_CAP);
    (void)uv_timer_init(loop, &s->greeting);
    (void)uv_timer_init(loop, &s->progress);
    (void)uv_idle_init(loop, &s->soon);
    s->greeting.data = s->progress.data = s->soon.data = s;
    s->open_handles = 3;
    return s;
}

void supervised_open(struct supervised *s)
{
    s->phase = PHASE_BANNER;
    (void)uv_timer_start(&s->greeting, on_greeting_limit, greeting_ms(s), 0);
}

void supervised_maybe_free(struct supervised *s)
{
    void (*closed)(void *data) = s->closed;
    void *data = s->closed_data;

    if (s->open_handles > 0 || s->open_puts > 0) {
        return;
    }
    buffer_deinit(&s->banner);
    buffer_deinit(&s->frame);
    buffer_deinit(&s->early);
    buffer_deinit(&s->plan);
    supervised_free_options(s);
    free(s->banner_end);
    free(s->folder);
    free(s);
    if (closed) {
        closed(data);
    }
}

static void handle_closed(uv_handle_t *handle)
{
    struct supervised *s = handle->data;

    s->open_handles--;
    supervised_maybe_free(s);
}

void supervised_close(struct supervised *s, void (*closed)(void *data), void *data)
{
    s->closed = closed;
    s->closed_data = data;
    s->closing = true;
    s->phase = PHASE_OVER;
    s->worker = WORKER_NONE;
    supervised_puts_lost(s);
    supervised_files_lost(s);
    uv_close((uv_handle_t *)&s->greeting, handle_closed);
    uv_close((uv_handle_t *)&s->progress, handle_closed);
    uv_close((uv_handle_t *)&s->soon, handle_closed);
}

/* For supervised_put.c. */
void supervised_soon(struct supervised *s)
{
    if (!s->closing) {
        uv_idle_start(&s->soon, on_soon);
    }
}

void supervised_show_progress(struct supervised *s, bool show)
{
    if (s->closing) {
        return;
    }
    if (show) {
        (void)uv_timer_start(&s->progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    } else {
        (void)uv_timer_stop(&s->progress);
    }
}
