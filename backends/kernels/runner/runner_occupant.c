#include "backends/kernels/occupant.h"

#include <stdlib.h>

struct runner {
    struct occupant base;
    struct supervised *supervised;
    void (*closed)(void *data);
    void *closed_data;
};

static struct supervised *of(struct occupant *o)
{
    return ((struct runner *)o)->supervised;
}

static void feed(struct occupant *o, const char *bytes, size_t size)
{
    supervised_feed(of(o), bytes, size);
}

static void ended(struct occupant *o, const char *reason)
{
    supervised_ended(of(o), reason);
}

static void start_worker(struct occupant *o)
{
    supervised_start_worker(of(o));
}

static void attached(struct occupant *o)
{
    supervised_attached(of(o));
}

static void interrupt(struct occupant *o)
{
    supervised_interrupt(of(o));
}

static void kill_worker(struct occupant *o)
{
    supervised_kill(of(o));
}

static void put(struct occupant *o, const struct share *share, executor_progress progress,
                executor_done done, void *data)
{
    supervised_put(of(o), share, progress, done, data);
}

static void put_cancel(struct occupant *o)
{
    supervised_put_cancel(of(o));
}

static void file(struct occupant *o, const struct file_request *request, file_done done, void *data)
{
    supervised_file(of(o), request, done, data);
}

static int signal_worker(struct occupant *o, int number)
{
    return supervised_signal(of(o), number);
}

static json_t *where(const struct occupant *o)
{
    (void)o;
    return json_object(); /* its socket is always at the same place */
}

/* What ends it is the stream's end; the supervisor then sees for itself whether a run is going. */
static void leave(struct occupant *o, bool interrupt)
{
    (void)o;
    (void)interrupt;
}

static bool is_another(const struct occupant *o)
{
    return supervised_is_another(((const struct runner *)o)->supervised);
}

int runner_occupant_pid(const struct occupant *o)
{
    return supervised_pid(((const struct runner *)o)->supervised);
}

static void on_closed(void *data)
{
    struct runner *r = data;
    void (*closed)(void *closed_data) = r->closed;
    void *closed_data = r->closed_data;

    free(r);
    closed(closed_data);
}

static void close_it(struct occupant *o, void (*closed)(void *data), void *data)
{
    struct runner *r = (struct runner *)o;

    r->closed = closed;
    r->closed_data = data;
    supervised_close(r->supervised, on_closed, r);
}

struct occupant *runner_occupant_new(uv_loop_t *loop, struct byte_stream *stream,
                                     const struct supervised_options *options,
                                     const struct occupant_events *events, void *data)
{
    static const struct occupant_ops ops = {
        feed,     ended,      start_worker, attached,      interrupt, kill_worker, put,
        close_it, put_cancel, file,         signal_worker, where,     leave,       is_another};
    struct runner *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->base.ops = &ops;
    r->supervised = supervised_new(loop, stream, options, &events->base, data);
    if (!r->supervised) {
        free(r);
        return NULL;
    }
    supervised_open(r->supervised);
    return &r->base;
}
