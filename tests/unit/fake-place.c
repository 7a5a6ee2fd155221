#include "fake-place.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "backends/kernel.h"
#include "backends/kernels/runner/frame.h"

enum {
    SAYS_MAX = 64,
    SLOW_MS = 20,
    SLOW_STEPS = 25,
    FILES_MAX = 80,
};

enum say {
    SAY_STARTED,
    SAY_FRAMES,
    SAY_END,
    SAY_EXIT,
    SAY_RUN,
    SAY_PUT,
    SAY_FILE,
    SAY_SNAPSHOT,
};

struct saying {
    enum say what;
    char *bytes;
    size_t size;
    struct machine_exit exit;
    executor_done done;
    file_done file_done;
    snapshot_done snapshot_done;
    void *data;
};

struct fake_machine {
    struct machine base;
    struct link link;
    struct fake_place *place;
    uv_idle_t idle;
    struct saying says[SAYS_MAX];
    unsigned head, tail;
    struct saying stuck;  /* a put that is never done */
    struct saying unmade; /* a snapshot likewise */
    struct saying slow;   /* one that takes its time */
    executor_progress slow_progress;
    int slow_steps;
    uv_timer_t timer;
    struct buffer text[2];
    char run[RUN_ID_SIZE];
    bool started, ended, dying;
    struct saying files[FILES_MAX]; /* that are not answered before the end */
    unsigned file_count;
    int open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

static struct fake_machine *machine_of(struct machine *m)
{
    return (struct fake_machine *)m;
}

/* ---- the link ---- */

static void link_drain(struct link *link)
{
    struct fake_machine *m =
        (struct fake_machine *)((char *)link - offsetof(struct fake_machine, link));

    for (int i = 0; i < 2; i++) {
        struct buffer text = m->text[i];
        buffer_init(&m->text[i], 1u << 30);
        if (buffer_size(&text) > 0) {
            link->events.on_output(link->data, (enum stream)i, buffer_data(&text),
                                   buffer_size(&text));
        }
        buffer_deinit(&text);
    }
}

static void say_soon(struct fake_machine *m, struct saying saying);

static void note_command(struct fake_place *p, const unsigned char *frame)
{
    const char *payload = (const char *)frame + FRAME_HEADER;
    int size = frame[0] | frame[1] << 8, id = frame[4] == FRAME_STDIN ? payload[1] : 0;
    size_t used = strlen(p->commands);

    if (frame[4] == FRAME_STDIN) {
        (void)snprintf(p->commands + used, sizeof(p->commands) - used, "%.*s%c%.*s ", id,
                       payload + 2, payload[0] ? '.' : ':', size - 2 - id, payload + 2 + id);
    } else {
        (void)snprintf(p->commands + used, sizeof(p->commands) - used, "%.*s ", size, payload);
    }
}

static int link_send(struct link *link, const void *bytes, size_t size)
{
    struct fake_machine *m =
        (struct fake_machine *)((char *)link - offsetof(struct fake_machine, link));
    const unsigned char *frame = bytes;

    if (m->place->send_fails || m->ended) {
        return -EPIPE;
    }
    assert_true(size >= FRAME_HEADER);
    if (frame[4] == FRAME_ACK) {
        m->place->acks++;
        return 0;
    }
    if (frame[4] == FRAME_STDIN || frame[4] == FRAME_SIGNAL) {
        note_command(m->place, frame);
        return 0;
    }
    assert_int_equal(frame[4], FRAME_RUN);
    json_t *run =
        json_loadb((const char *)frame + FRAME_HEADER, size - FRAME_HEADER, JSON_ALLOW_NUL, NULL);
    assert_non_null(run);
    (void)snprintf(m->run, sizeof(m->run), "%s", json_string_value(json_object_get(run, "run")));
    json_decref(run);
    m->place->runs++;
    say_soon(m, (struct saying){.what = SAY_RUN});
    return 0;
}

static struct fake_place *place_of(const struct link *link)
{
    return ((const struct fake_machine *)((const char *)link - offsetof(struct fake_machine, link)))
        ->place;
}

static bool link_keeps(const struct link *link)
{
    return place_of(link)->keeps;
}

static int link_plan(struct link *link, const struct output_plan *plan)
{
    place_of(link)->plan = *plan;
    return 0;
}

static const struct link_ops link_ops = {
    .send = link_send, .drain = link_drain, .keeps = link_keeps, .plan = link_plan};

struct link *fake_link(struct fake_machine *m)
{
    return &m->link;
}

/* ---- saying things from the loop ---- */

static void say_run(struct fake_machine *m)
{
    char run[RUN_ID_SIZE];

    memcpy(run, m->run, sizeof(run));
    if (m->place->on_run) {
        m->place->on_run(m, run);
    }
}

static void say_file(const struct fake_machine *m, struct saying *s)
{
    struct file_reply reply = {.bytes = s->bytes, .size = s->size};
    struct error err = {0};

    if (m->ended) {
        (void)error_set(&err, ERROR_LOST, "the fake sandbox has ended");
    }
    s->file_done(s->data, err.kind ? NULL : &reply, err.kind ? &err : NULL);
    error_clear(&err);
}

static void say_snapshot(const struct fake_machine *m, const struct saying *s)
{
    struct error err = {0};

    if (m->ended) {
        (void)error_set(&err, ERROR_LOST, "the fake sandbox has ended");
    } else if (m->place->snapshot == FAKE_SNAPSHOT_FAILS) {
        (void)error_set(&err, ERROR_REFUSED, "no film");
    }
    s->snapshot_done(s->data, err.kind ? NULL : s->bytes, err.kind ? &err : NULL);
    error_clear(&err);
}

static void say(struct fake_machine *m, struct saying *s)
{
    if (m->ended && s->what != SAY_PUT && s->what != SAY_FILE && s->what != SAY_SNAPSHOT) {
        return;
    }
    switch (s->what) {
    case SAY_STARTED:
        m->started = true;
        m->base.events.on_started(m->base.data, &m->link);
        break;
    case SAY_FRAMES:
        m->link.events.on_frames(m->link.data, s->bytes, s->size);
        break;
    case SAY_END:
        m->link.events.on_end(m->link.data);
        break;
    case SAY_EXIT:
        m->ended = true;
        m->base.events.on_exit(m->base.data, &s->exit);
        break;
    case SAY_RUN:
        say_run(m);
        break;
    case SAY_FILE:
        say_file(m, s);
        break;
    case SAY_SNAPSHOT:
        say_snapshot(m, s);
        break;
    case SAY_PUT: {
        struct error err = {0};
        if (m->closed || m->place->put == FAKE_PUT_FAILS || m->place->put == FAKE_PUT_STALLS) {
            (void)error_set(&err, ERROR_REFUSED, "no leave to read it");
        }
        s->done(s->data, err.kind ? &err : NULL);
        error_clear(&err);
        break;
    }
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct fake_machine *m = idle->data;

    if (m->head == m->tail) {
        uv_idle_stop(idle);
        return;
    }
    struct saying s = m->says[m->head++ % SAYS_MAX];
    say(m, &s);
    free(s.bytes);
}

static void say_soon(struct fake_machine *m, struct saying saying)
{
    assert_true(m->tail - m->head < SAYS_MAX);
    m->says[m->tail++ % SAYS_MAX] = saying;
    uv_idle_start(&m->idle, on_idle);
}

void fake_print(struct fake_machine *m, enum stream stream, const char *text)
{
    assert_int_equal(buffer_append(&m->text[stream], text, strlen(text)), 0);
}

void fake_bytes(struct fake_machine *m, const void *bytes, size_t size)
{
    char *copy = malloc(size + 1);

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    say_soon(m, (struct saying){.what = SAY_FRAMES, .bytes = copy, .size = size});
}

void fake_frame(struct fake_machine *m, int type, const char *payload)
{
    unsigned char header[FRAME_HEADER];
    struct buffer frame;

    buffer_init(&frame, 1u << 20);
    frame_header(header, (enum frame_type)type, strlen(payload));
    assert_int_equal(buffer_append(&frame, header, sizeof(header)), 0);
    assert_int_equal(buffer_append(&frame, payload, strlen(payload)), 0);
    fake_bytes(m, buffer_data(&frame), buffer_size(&frame));
    buffer_deinit(&frame);
}

void fake_done(struct fake_machine *m, const char *run, const char *rest)
{
    char payload[1024];

    (void)snprintf(payload, sizeof(payload), "{\"run\":\"%s\",%s}", run, rest);
    fake_frame(m, FRAME_DONE, payload);
}

void fake_end_stream(struct fake_machine *m)
{
    say_soon(m, (struct saying){.what = SAY_END});
}

void fake_exit(struct fake_machine *m, struct machine_exit how)
{
    if (!m->dying) {
        m->dying = true;
        say_soon(m, (struct saying){.what = SAY_EXIT, .exit = how});
    }
}

/* ---- place_ops ---- */

static struct machine *machine_new(struct place *place, const struct machine_events *events,
                                   void *data)
{
    struct fake_place *p = (struct fake_place *)place;
    struct fake_machine *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->base = (struct machine){place, *events, data};
    m->place = p;
    m->link.ops = &link_ops;
    buffer_init(&m->text[0], 1u << 30);
    buffer_init(&m->text[1], 1u << 30);
    uv_idle_init(&p->loop, &m->idle);
    uv_timer_init(&p->loop, &m->timer);
    m->idle.data = m->timer.data = m;
    p->newest = m;
    p->live++;
    return &m->base;
}

static void machine_start(struct machine *machine, const struct start_request *request)
{
    struct fake_machine *m = machine_of(machine);

    m->ended = m->dying = false; /* a machine that was kept is started again */
    m->place->starts++;
    m->place->mount_count = request->mount_count;
    machine->events.on_waiting(machine->data, "making a fake sandbox");
    if (m->place->start == FAKE_START_FAILS) {
        fake_exit(m, (struct machine_exit){
                         .how = EXIT_LOST, .kind = ERROR_REFUSED, .message = "no bars here"});
    } else if (m->place->start == FAKE_START_OK) {
        say_soon(m, (struct saying){.what = SAY_STARTED});
        if (!m->place->no_greeting) {
            fake_frame(m, FRAME_GREETING,
                       "{\"cellblock\":1,\"python\":\"3.11.2\",\"implementation\":\"CPython\","
                       "\"ipython\":null}");
        }
    }
}

static void on_slow(uv_timer_t *timer)
{
    struct fake_machine *m = timer->data;

    if (--m->slow_steps > 0) {
        m->slow_progress(m->slow.data, "moving");
    } else {
        uv_timer_stop(timer);
        say(m, &m->slow);
    }
}

static void machine_put(struct machine *machine, const struct share *share,
                        executor_progress progress, executor_done done, void *data)
{
    struct fake_machine *m = machine_of(machine);

    struct stat st;

    assert_int_equal(fstat(share->fd, &st), 0);
    m->place->put_size = (long)st.st_size;
    (void)snprintf(m->place->put_dest, sizeof(m->place->put_dest), "%s", share->dest);
    m->place->puts++;
    progress(data, "copying");
    struct saying answer = {.what = SAY_PUT, .done = done, .data = data};
    if (m->place->put == FAKE_PUT_SLOW) {
        m->slow = answer;
        m->slow_progress = progress;
        m->slow_steps = SLOW_STEPS;
        uv_timer_start(&m->timer, on_slow, SLOW_MS, SLOW_MS);
    } else if (m->place->put == FAKE_PUT_NEVER || m->place->put == FAKE_PUT_STALLS) {
        /* Answered when it is over: by machine_close. */
        assert_null(m->stuck.done);
        m->stuck = answer;
    } else {
        say_soon(m, answer);
    }
}

static void machine_put_cancel(struct machine *machine)
{
    struct fake_machine *m = machine_of(machine);

    m->place->cancels++;
    if (m->place->put == FAKE_PUT_STALLS && m->stuck.done) {
        say_soon(m, m->stuck);
        m->stuck = (struct saying){0};
    }
}

static void machine_file(struct machine *machine, const struct file_request *request,
                         file_done done, void *data)
{
    struct fake_machine *m = machine_of(machine);
    struct saying answer = {.what = SAY_FILE, .file_done = done, .data = data};

    assert_true(m->started);
    m->place->files++;
    answer.bytes = strdup(request->path);
    assert_non_null(answer.bytes);
    answer.size = strlen(answer.bytes);
    if (m->place->file == FAKE_FILE_NEVER) {
        assert_true(m->file_count < FILES_MAX);
        m->files[m->file_count++] = answer;
    } else {
        say_soon(m, answer);
    }
}

static void machine_snapshot(struct machine *machine, const struct snapshot_request *request,
                             snapshot_done done, void *data)
{
    struct fake_machine *m = machine_of(machine);
    struct saying answer = {.what = SAY_SNAPSHOT, .snapshot_done = done, .data = data};
    char id[16];

    assert_true(m->started);
    (void)snprintf(id, sizeof(id), "im-%d", ++m->place->snapshots);
    m->place->ttl_seconds = request->ttl_seconds;
    answer.bytes = strdup(id);
    if (m->place->snapshot == FAKE_SNAPSHOT_NEVER) {
        m->unmade = answer;
    } else {
        say_soon(m, answer);
    }
}

static void machine_snapshot_drop(struct machine *machine, const void *data)
{
    struct fake_machine *m = machine_of(machine);

    m->place->snapshot_drops++;
    assert_ptr_equal(m->unmade.data, data);
    free(m->unmade.bytes);
    m->unmade = (struct saying){0};
}

static void say_files(struct fake_machine *m)
{
    while (m->file_count > 0) {
        struct saying s = m->files[--m->file_count];
        say(m, &s);
        free(s.bytes);
    }
}

static int machine_signal(struct machine *machine, int number)
{
    struct fake_machine *m = machine_of(machine);

    m->place->signal = number;
    return m->place->signal_answer;
}

static void machine_interrupt(struct machine *machine)
{
    struct fake_machine *m = machine_of(machine);

    m->place->interrupts++;
    if (m->place->interrupt == FAKE_INTERRUPT_OBEYED) {
        fake_done(m, m->run, "\"status\":\"interrupted\"");
    } else if (m->place->interrupt == FAKE_INTERRUPT_SWALLOWED) {
        fake_done(m, m->run, "\"status\":\"ok\"");
    }
}

static void machine_kill(struct machine *machine)
{
    struct fake_machine *m = machine_of(machine);

    m->place->kills++;
    if (!m->place->kill_never) {
        fake_exit(m, (struct machine_exit){.how = EXIT_SIGNAL, .signal = 9});
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct fake_machine *m = handle->data;

    if (--m->open_handles > 0) {
        return;
    }
    m->place->live--;
    buffer_deinit(&m->text[0]);
    buffer_deinit(&m->text[1]);
    if (m->place->newest == m) {
        m->place->newest = NULL;
    }
    m->closed(m->closed_data);
    free(m);
}

static void machine_close(struct machine *machine, void (*closed)(void *data), void *data)
{
    struct fake_machine *m = machine_of(machine);

    m->ended = true;
    m->closed = closed;
    m->closed_data = data;
    if (m->stuck.done) {
        say(m, &m->stuck);
    }
    if (m->slow_steps > 0) {
        say(m, &m->slow);
    }
    say_files(m);
    if (m->unmade.snapshot_done) {
        say(m, &m->unmade);
        free(m->unmade.bytes);
    }
    while (m->head != m->tail) {
        struct saying s = m->says[m->head++ % SAYS_MAX];
        say(m, &s);
        free(s.bytes);
    }
    m->open_handles = 2;
    uv_close((uv_handle_t *)&m->idle, on_handle_closed);
    uv_close((uv_handle_t *)&m->timer, on_handle_closed);
}

static int machine_spool_open(struct machine *machine, const char *path, int *ret_fd)
{
    struct fake_machine *m = machine_of(machine);
    char real[256];
    int fd;

    if (!m->place->spool_dir[0]) {
        return -ENOSPC;
    }
    (void)snprintf(real, sizeof(real), "%s/%s", m->place->spool_dir, strrchr(path, '/') + 1);
    fd = open(real, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

static void machine_busy(struct machine *machine, bool busy)
{
    machine_of(machine)->place->busy += busy ? 1 : -1;
}

static const char *const languages[] = {"python", "shell", NULL};

static const struct place_ops fake_ops = {
    .name = "fake",
    .capabilities = CAP_STATEFUL | CAP_SHELL | CAP_COPY | CAP_MOUNT | CAP_STDIN | CAP_INTERRUPT |
                    CAP_FILES | CAP_COMMANDS | CAP_SIGNAL | CAP_STDIN_STREAM | CAP_STDIN_CODE |
                    CAP_SNAPSHOT,
    .languages = languages,
    .machine_new = machine_new,
    .machine_start = machine_start,
    .machine_put = machine_put,
    .machine_put_cancel = machine_put_cancel,
    .machine_interrupt = machine_interrupt,
    .machine_signal = machine_signal,
    .machine_kill = machine_kill,
    .machine_close = machine_close,
    .machine_spool_open = machine_spool_open,
    .machine_file = machine_file,
    .machine_snapshot = machine_snapshot,
    .machine_snapshot_drop = machine_snapshot_drop,
    .machine_busy = machine_busy,
};

void fake_place_init(struct fake_place *p)
{
    *p = (struct fake_place){0};
    assert_int_equal(uv_loop_init(&p->loop), 0);
    p->base = (struct place){&fake_ops, &p->loop, &p->env, 0, &runner_kernel};
}

void fake_place_without_spools(struct fake_place *p)
{
    p->ops = fake_ops;
    p->ops.machine_spool_open = NULL;
    p->base.ops = &p->ops;
}

void fake_place_deinit(struct fake_place *p)
{
    assert_int_equal(p->live, 0);
    assert_int_equal(uv_loop_close(&p->loop), 0);
}
