#include <errno.h>
#include <stdlib.h>

#include "backends/executor_internal.h"
#include "backends/registry.h"

/*
 * Snapshots are runs without code: queued with the others, so that nothing runs meanwhile, but done
 * by the machine and not by the kernel. The machine's answer may come after the run has its outcome
 * (a cancel, the machine's end): what is between the two outlives the run.
 */
struct snapping {
    struct run *run; /* NULL: nobody waits any more */
};

static void on_snapshot(void *data, const char *id, const struct error *err)
{
    struct snapping *s = data;
    struct run *run = s->run;

    free(s);
    if (!run) {
        return;
    }
    run->snapping = NULL;
    executor_announce(run->executor);
    outcome_of_snapshot(run, id, err);
    executor_run_decided(run->executor);
}

int executor_snapshot_begin(struct executor *e, struct run *run)
{
    struct snapping *s = calloc(1, sizeof(*s));

    if (!s) {
        return -ENOBUFS; /* the run is given up, and not the machine */
    }
    s->run = run;
    run->snapping = s;
    e->place->ops->machine_snapshot(e->box->machine, &run->snapshot, on_snapshot, s);
    return 0;
}

void executor_snapshot_stop(struct run *run)
{
    struct executor *e = run->executor;

    if (run->stop == STOP_NONE) {
        run->stop = STOP_TIMEOUT;
    }
    executor_announce(e);
    outcome_of_snapshot(run, NULL, NULL);
    executor_run_decided(e);
}

/* A machine that is gone is told nothing: it answers by itself. */
void executor_snapshot_over(struct run *run)
{
    struct executor *e = run->executor;
    struct snapping *s = run->snapping;

    if (!s) {
        return;
    }
    run->snapping = NULL;
    s->run = NULL;
    if (e->box) {
        e->place->ops->machine_snapshot_drop(e->box->machine, s);
        free(s);
    }
}

struct run *executor_snapshot(struct executor *e, const char *id,
                              const struct snapshot_request *request, double timeout_seconds,
                              const struct run_events *events, void *data, struct error *err)
{
    const struct run_request run = {
        .id = id,
        .language = "python",
        .code = "",
        .snapshot = request,
        .timeout_seconds = timeout_seconds,
    };

    if (place_needs(e->place, CAP_SNAPSHOT, "a snapshot of a session", err) < 0 ||
        (request->memory &&
         place_needs(e->place, CAP_SNAPSHOT_MEMORY, "a snapshot with variables", err) < 0)) {
        return NULL;
    }
    return executor_run(e, &run, events, data, err);
}
