#ifndef CELLBLOCK_TEST_EXECUTOR_RECORD_H
#define CELLBLOCK_TEST_EXECUTOR_RECORD_H

#include <stdbool.h>

#include "backends/executor_internal.h"
#include "fake-place.h"

/* An executor over a fake place, with the limits made short, and a record of what its runs said. */

/* What one run's callbacks said, in order: "w" waiting, "s" started, text as printed (stderr in
 * capitals' place: "!text"), "[bytes:lines]" held, "(text)" a sample, "d" display, "c" clear, "n"
 * note, "." done. */
struct record {
    struct run *cancel_in_output;
    struct executor *executor; /* closed in on_done when `close_in_done` */
    struct full_output full[2];
    int done;
    enum cause cause;
    int exit_code, signal;
    unsigned changed; /* files that are named */
    bool state_lost, has_exit_code;
    bool inside; /* the start function has not returned */
    bool close_in_done;
    size_t head; /* run_request.output_head and _tail */
    char log[512];
    char note[512], etype[64], evalue[128];
    char path[128];
    char snapshot[32];
};

struct context {
    struct fake_place place;
    struct executor *e;
    char idle[256];
    bool closed;
    int next_id;
};

/* For a run whose data is a struct record. */
extern const struct run_events record_events;

/* cmocka's setup and teardown: *state is a struct context. */
int record_setup(void **state);
int record_teardown(void **state);

/* Runs the loop until *flag, and fails when that takes too long. */
void until(struct context *c, const int *flag);
void turns(struct context *c, int count);
void close_executor(struct context *c);

/* Start a run and check that nothing was called back yet. */
struct run *run_as(struct context *c, struct record *r, const char *language, double seconds);
struct run *run(struct context *c, struct record *r);
/* One run that is ok: the sandbox is started. */
void warm_up(struct context *c);

/* What runs do: for fake_place.on_run. */
void does_ok(struct fake_machine *m, const char *id);
void does_nothing(struct fake_machine *m, const char *id);
void does_print_and_hang(struct fake_machine *m, const char *id);
void does_crash(struct fake_machine *m, const char *id);
void does_os_exit(struct fake_machine *m, const char *id);
void does_flood(struct fake_machine *m, const char *id);

#endif
