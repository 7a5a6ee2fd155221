#ifndef CELLBLOCK_TEST_FAKE_PLACE_H
#define CELLBLOCK_TEST_FAKE_PLACE_H

#include <jansson.h>
#include <uv.h>

#include "backends/base/buffer.h"
#include "backends/place.h"

/*
 * A place whose machines are played by the test: what it does on each request is a field, what a
 * run does is a function. Everything that a machine says is said from the loop, never from inside
 * the request.
 */
struct fake_machine;

enum fake_start { FAKE_START_OK, FAKE_START_NEVER, FAKE_START_FAILS };
enum fake_put {
    FAKE_PUT_OK,
    FAKE_PUT_FAILS,
    FAKE_PUT_NEVER,  /* not even when it is given up */
    FAKE_PUT_STALLS, /* until it is given up */
    FAKE_PUT_SLOW,   /* says every 20 ms that something has moved, for half a second */
};
enum fake_file {
    FAKE_FILE_OK,    /* soon: a reply whose bytes are the path */
    FAKE_FILE_NEVER, /* not before the machine ends or is closed */
};
enum fake_snapshot {
    FAKE_SNAPSHOT_OK, /* soon: "im-" and the count of them */
    FAKE_SNAPSHOT_FAILS,
    FAKE_SNAPSHOT_NEVER, /* not before the machine is closed */
};
enum fake_interrupt { FAKE_INTERRUPT_IGNORED, FAKE_INTERRUPT_OBEYED, FAKE_INTERRUPT_SWALLOWED };

struct fake_place {
    struct place base;
    struct place_ops ops; /* when they are not the usual ones */
    struct environment env;
    uv_loop_t loop;
    enum fake_start start;
    bool no_greeting;
    enum fake_put put;
    enum fake_file file;
    enum fake_snapshot snapshot;
    int snapshots, snapshot_drops;
    uint64_t ttl_seconds; /* of the last one */
    enum fake_interrupt interrupt;
    int signal;        /* the last for the worker itself */
    int signal_answer; /* what it comes to */
    bool kill_never;
    bool send_fails;
    bool keeps;              /* the far side keeps the output of runs */
    struct output_plan plan; /* the last one; its path is only NULL or not */
    void (*on_run)(struct fake_machine *m, const char *run); /* from the loop, after a RUN frame */
    struct fake_machine *newest;
    int starts, kills, interrupts, puts, cancels, live, runs, acks, busy, files;
    unsigned mount_count;
    char spool_dir[64]; /* "" : machine_spool_open fails */
    char put_dest[128]; /* of the last put, and the size of its source */
    long put_size;
    char commands[512]; /* STDIN frames as "r-1:text ", the last as "r-1.text ", SIGNALs as JSON */
};

void fake_place_init(struct fake_place *p);
/* From now on a place whose files the server cannot write: machine_spool_open is NULL. */
void fake_place_without_spools(struct fake_place *p);
/* Closes the place's loop, which must be empty, and checks that no machine is left. */
void fake_place_deinit(struct fake_place *p);

/* What a machine can say; each takes effect in a later turn of the loop, in the order of the calls.
 * Text waits to be drained in the meantime, as it does in a pipe. */
void fake_print(struct fake_machine *m, enum stream stream, const char *text);
void fake_frame(struct fake_machine *m, int type, const char *payload);
void fake_done(struct fake_machine *m, const char *run, const char *rest);
void fake_bytes(struct fake_machine *m, const void *bytes, size_t size);
/* At once, from the loop only: what a far side that keeps output says of it. */
struct link *fake_link(struct fake_machine *m);
void fake_end_stream(struct fake_machine *m);
void fake_exit(struct fake_machine *m, struct machine_exit how);

#endif
