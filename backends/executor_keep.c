#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/executor_internal.h"

/*
 * Long output of a run, where the server cannot write the sandbox's files itself: it was kept here
 * (spool.h), and is copied in when the run has ended, before that is told. One stream after the
 * other, and never beside a share's copy: a machine is given one thing at a time.
 */
struct keep {
    struct executor *executor; /* NULL: given up, nobody waits for the answer */
    struct share *share;
    enum stream stream;
};

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

static void keep_free(struct keep *keep)
{
    share_free(keep->share);
    free(keep);
}

static void on_progress(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static void on_kept(void *data, const struct error *err)
{
    struct keep *keep = data;
    struct executor *e = keep->executor;

    if (e) {
        struct run *run = e->current;

        e->keep = NULL;
        run->kept_here[keep->stream] = true;
        if (err) {
            spool_was_lost(&run->spools[keep->stream]);
        }
        executor_soon(e);
    }
    keep_free(keep);
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
    struct keep *keep = calloc(1, sizeof(*keep));

    if (!keep) {
        return false;
    }
    keep->executor = e;
    keep->stream = (enum stream)stream;
    keep->share = share_of(&e->current->spools[stream]);
    if (!keep->share) {
        free(keep);
        return false;
    }
    e->keep = keep;
    executor_arm(e, e->limits.copies);
    e->place->ops->machine_put(e->box->machine, keep->share, on_progress, on_kept, keep);
    return true;
}

void executor_keep(struct executor *e)
{
    struct run *run = e->current;
    int stream;

    if (!run || !run->ending || e->keep || executor_puts_share(e)) {
        return;
    }
    while ((stream = next_stream(run)) >= 0) {
        if (e->box && !run->outcome.files_lost && start(e, stream)) {
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

    if (e->keep) {
        e->keep->executor = NULL;
        e->keep = NULL;
    }
    for (int i = STREAM_STDOUT; run && i <= STREAM_STDERR; i++) {
        if (spool_is_here(&run->spools[i]) && !run->kept_here[i]) {
            run->kept_here[i] = true;
            spool_was_lost(&run->spools[i]);
        }
    }
}
