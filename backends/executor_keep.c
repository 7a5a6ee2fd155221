#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/executor_internal.h"

/*
 * Long output of a run, where neither the server can write the sandbox's files nor the far side
 * keeps it (a Jupyter kernel, a supervisor of an older cellblock): it was kept here
 * (spool.h), and is copied in when the run has ended, before that is told. One stream after the
 * other, and never beside a share's copy: a machine is given one thing at a time.
 */
/* What of the run is still to be copied; -1 when there is nothing. */
static int next_stream(const struct run *run)
{
    for (int i = STREAM_STDOUT; i <= STREAM_STDERR; i++) {
        if (spool_is_here(&run->spools[i]) && !run->kept_here[i]) {
            return i;
        }
    }
    return -1;
}

bool executor_keep_due(const struct run *run)
{
    return next_stream(run) >= 0;
}

static void on_kept(void *data, const struct error *err)
{
    struct executor *e = data;
    struct run *run = e->current;

    e->keeping = false;
    run->kept_here[e->kept] = true;
    if (err) {
        spool_was_lost(&run->spools[e->kept]);
    }
    executor_soon(e);
}

static struct share *share_of(const struct spool *spool)
{
    int fd = spool_source(spool);
    struct share *share;

    if (fd < 0) {
        return NULL;
    }
    share = share_new(SHARE_COPY, fd, "the run's output", spool->path, true);
    return share;
}

static bool start(struct executor *e, int stream)
{
    struct share *share = share_of(&e->current->spools[stream]);

    if (!share) {
        return false;
    }
    e->keeping = true;
    e->kept = (enum stream)stream;
    executor_put(e, share, NULL, on_kept, e);
    return true;
}

void executor_keep(struct executor *e)
{
    struct run *run = e->current;
    int stream;

    if (!run || !run->ending || e->keeping) {
        return;
    }
    if (e->box && !executor_can_put(e) && !executor_put_is_stuck(e, NULL)) {
        return; /* a share's copy is on its way */
    }
    while ((stream = next_stream(run)) >= 0) {
        if (executor_can_put(e) && !run->outcome.files_lost && start(e, stream)) {
            return;
        }
        run->kept_here[stream] = true;
        spool_was_lost(&run->spools[stream]);
    }
    executor_run_end(e);
}

void executor_keep_give_up(struct executor *e)
{
    struct run *run = e->current;

    if (e->keeping) {
        executor_put_abandon(e);
    }
    for (int i = STREAM_STDOUT; run && i <= STREAM_STDERR; i++) {
        if (spool_is_here(&run->spools[i]) && !run->kept_here[i]) {
            run->kept_here[i] = true;
            spool_was_lost(&run->spools[i]);
        }
    }
}
