#ifndef CELLBLOCK_COMMAND_CARRIER_H
#define CELLBLOCK_COMMAND_CARRIER_H

#include "backends/command/internal.h"

/* A carrier, for the files carrier*.c only: its life is in carrier.c, what goes through its pipes
 * in carrier_stream.c. */
enum {
    CARRIER_READ_SIZE = 64 * 1024,
    CARRIER_LINE_SIZE = 256,
};

enum carrier_state {
    STATE_STARTING, /* to its first worker */
    STATE_READY,    /* nobody has attached to the worker */
    STATE_USED,
    STATE_BETWEEN, /* the worker ended, or the next one is on its way */
    STATE_ENDED,   /* told */
    STATE_CLOSING,
};

struct carrier {
    struct command_place *place;
    struct byte_stream stream;
    struct supervised *supervised;
    struct carrier_events events;
    void *data;
    enum carrier_state state;
    struct link *link;
    uv_process_t process;
    uv_pipe_t in, out, err;
    uv_timer_t timer; /* ticks of the start; then the limits of the end */
    unsigned open_handles;
    bool made;      /* the process handle was given to uv_spawn */
    bool running;   /* the process has not ended */
    bool out_ended; /* its stdout has */
    bool err_ended;
    bool ending; /* the timer waits for the rest of the end */
    int64_t exit_status;
    int exit_signal;
    int terminations; /* signals sent to its group while closing */
    struct machine_exit lost;
    char *message; /* of `lost` */
    struct buffer errors;
    uint64_t talked;   /* bytes of stderr before it was ready */
    uint64_t heard_at; /* uv_now of the last byte on either stream before that, or of the start */
    bool queues;       /* its last line says that it waits for its turn */
    char line[CARRIER_LINE_SIZE];
    size_t line_size;
    char space[CARRIER_READ_SIZE];
    void (*closed)(void *data);
    void *closed_data;
};

/* Nobody has been told its end, and nobody has closed it. */
static inline bool carrier_alive(const struct carrier *c)
{
    return c->state != STATE_ENDED && c->state != STATE_CLOSING;
}

/* carrier.c: a piece of its end has come. */
void carrier_take_end(struct carrier *c);

/* The start is given up: tells that as its end. `why` goes on from "`ssh` ". */
void carrier_give_up(struct carrier *c, const char *why);

/* carrier_stream.c */
void carrier_stream_init(struct carrier *c);
void carrier_read(struct carrier *c);

#endif
