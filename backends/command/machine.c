#include <signal.h>
#include <stdlib.h>

#include "backends/command/internal.h"
#include "backends/files_wire.h"

struct command_machine {
    struct machine base;
    struct carrier *carrier;
    uv_idle_t soon;               /* answers that must not come inside of a call */
    struct file_waiting *unasked; /* requests about files that nobody was there for */
    bool taken;                   /* on_started is due, of one from the pool */
    bool has_exit;                /* on_exit is */
    struct machine_exit exit;
    unsigned open; /* the idle handle and the carrier */
    void (*closed)(void *data);
    void *closed_data;
};

static struct command_machine *of(struct machine *m)
{
    return (struct command_machine *)m;
}

/* ---- what the carrier says ---- */

static void on_waiting(void *data, const char *line)
{
    const struct command_machine *m = data;
    m->base.events.on_waiting(m->base.data, line);
}

static void on_ready(void *data, struct link *link)
{
    const struct command_machine *m = data;
    m->base.events.on_started(m->base.data, link);
}

static void on_exit_event(void *data, const struct machine_exit *exit)
{
    struct command_machine *m = data;

    m->taken = false;
    m->base.events.on_exit(m->base.data, exit);
}

static const struct carrier_events events = {on_waiting, on_ready, on_exit_event};

/* ---- the start ---- */

static void on_soon(uv_idle_t *idle)
{
    struct command_machine *m = idle->data;

    uv_idle_stop(idle);
    file_waiting_lost(&m->unasked);
    if (m->has_exit) {
        m->has_exit = false;
        m->base.events.on_exit(m->base.data, &m->exit);
    } else if (m->taken) {
        m->taken = false;
        m->base.events.on_started(m->base.data, carrier_link(m->carrier));
        supervised_attached(carrier_supervised(m->carrier));
    }
}

static void exit_soon(struct command_machine *m, const struct machine_exit *exit)
{
    m->exit = *exit;
    m->has_exit = true;
    uv_idle_start(&m->soon, on_soon);
}

static void start_carrier(struct command_machine *m)
{
    static const struct machine_exit none = {
        .how = EXIT_LOST, .kind = ERROR_INTERNAL, .message = "out of memory"};
    struct command_place *place = (struct command_place *)m->base.place;

    m->carrier = command_place_take(place);
    if (m->carrier) {
        m->taken = true;
        carrier_own(m->carrier, &events, m);
        uv_idle_start(&m->soon, on_soon);
        return;
    }
    m->carrier = carrier_new(place);
    if (m->carrier) {
        carrier_own(m->carrier, &events, m);
    } else {
        exit_soon(m, &none);
    }
}

void command_machine_start(struct machine *base, const struct start_request *request)
{
    static const struct machine_exit gone = {
        .how = EXIT_LOST, .kind = ERROR_LOST, .message = "its command has ended"};
    struct command_machine *m = of(base);

    (void)request; /* no mounts: the executor refuses them */
    if (!m->carrier) {
        start_carrier(m);
    } else if (carrier_has_ended(m->carrier)) {
        exit_soon(m, &gone);
    } else {
        carrier_start_worker(m->carrier);
    }
}

/* ---- the rest ---- */

void command_machine_put(struct machine *base, const struct share *share,
                         executor_progress progress, executor_done done, void *data)
{
    supervised_put(carrier_supervised(of(base)->carrier), share, progress, done, data);
}

void command_machine_put_cancel(struct machine *base)
{
    const struct command_machine *m = of(base);

    if (m->carrier) {
        supervised_put_cancel(carrier_supervised(m->carrier));
    }
}

void command_machine_file(struct machine *base, const struct file_request *request, file_done done,
                          void *data)
{
    struct command_machine *m = of(base);

    if (m->carrier && carrier_supervised(m->carrier)) {
        supervised_file(carrier_supervised(m->carrier), request, done, data);
        return;
    }
    file_wait(&m->unasked, done, data);
    uv_idle_start(&m->soon, on_soon);
}

void command_machine_interrupt(struct machine *base)
{
    const struct command_machine *m = of(base);

    if (m->carrier && !carrier_has_ended(m->carrier)) {
        supervised_interrupt(carrier_supervised(m->carrier));
    }
}

int command_machine_signal(struct machine *base, int number)
{
    const struct command_machine *m = of(base);

    return m->carrier && !carrier_has_ended(m->carrier)
               ? supervised_signal(carrier_supervised(m->carrier), number)
               : -ESRCH;
}

static void carrier_closed(void *data);

void command_machine_kill(struct machine *base)
{
    static const struct machine_exit killed = {.how = EXIT_SIGNAL, .signal = SIGKILL};
    struct command_machine *m = of(base);

    if (!m->carrier || carrier_has_ended(m->carrier) || m->has_exit) {
        return; /* its end has been told, or is about to be */
    }
    if (carrier_is_starting(m->carrier) || m->taken) {
        m->taken = false;
        m->open++;
        carrier_close(m->carrier, carrier_closed, m); /* nothing of it runs any code yet */
        m->carrier = NULL;
        exit_soon(m, &killed);
        return;
    }
    supervised_kill(carrier_supervised(m->carrier));
}

const char *command_machine_folder(const struct machine *base)
{
    const struct command_machine *m = (const struct command_machine *)base;

    return m->carrier && carrier_supervised(m->carrier)
               ? supervised_folder(carrier_supervised(m->carrier))
               : NULL;
}

struct machine *command_machine_new(struct place *base, const struct machine_events *e, void *data)
{
    struct command_machine *m = calloc(1, sizeof(*m));

    if (!m) {
        return NULL;
    }
    m->base = (struct machine){.place = base, .events = *e, .data = data};
    (void)uv_idle_init(base->loop, &m->soon);
    m->soon.data = m;
    m->open = 1;
    command_place_enter((struct command_place *)base);
    return &m->base;
}

static void part_closed(struct command_machine *m)
{
    struct command_place *place = (struct command_place *)m->base.place;
    void (*closed)(void *data) = m->closed;
    void *data = m->closed_data;

    if (--m->open > 0) {
        return;
    }
    free(m);
    if (closed) {
        closed(data);
    }
    command_place_leave(place);
}

static void carrier_closed(void *data)
{
    part_closed(data);
}

static void soon_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

void command_machine_close(struct machine *base, void (*closed)(void *data), void *data)
{
    struct command_machine *m = of(base);

    m->closed = closed;
    m->closed_data = data;
    file_waiting_lost(&m->unasked);
    if (m->carrier) {
        m->open++;
        carrier_close(m->carrier, carrier_closed, m);
        m->carrier = NULL;
    }
    uv_close((uv_handle_t *)&m->soon, soon_closed);
}
