#ifndef CELLBLOCK_MCP_SESSION_PRIVATE_H
#define CELLBLOCK_MCP_SESSION_PRIVATE_H

#include "backends/place.h"
#include "mcp/session.h"

/*
 * Between sessions.c (the table: ids, places, time limits) and session.c (one session: its
 * executor, shares, reset). Nobody else includes this.
 *
 * Who waits for whom at the end: executors are counted in their place's `users`, a place is closed
 * when it has none, and the table is freed when it has neither sessions nor places.
 */
enum {
    SESSION_ID_SIZE = 16,       /* "s-" and 8 characters and NUL fit */
    SESSIONS_CAP = 256,         /* live at once */
    SESSIONS_REMEMBERED = 256,  /* ended ones whose end can be explained */
    IDLE_OUTPUT_CAP = 8 * 1024, /* bytes told between two uses of a session */
};

/* A place of one environment; opened at its first use, NULL before and after. */
struct place_slot {
    const struct environment *env;
    struct place *place;
    unsigned users; /* executors, the ones that are closing included */
};

/* An executor_add_share that has not completed. */
struct share_op {
    struct share_op *next;
    struct session *session; /* NULL: its executor is being closed and it was answered */
    executor_progress progress;
    executor_done done;
    void *data;
};

/* An executor for one run. */
struct ephemeral {
    struct ephemeral *next;
    struct sessions *owner;
    struct executor *executor;
    struct place_slot *slot;
    bool closing;
};

struct session {
    struct sessions *owner;
    struct session *next;
    char id[SESSION_ID_SIZE];
    struct place_slot *slot;
    struct executor *executor; /* NULL once the session is ended */
    struct share_op *ops;
    unsigned own_shares; /* the first so many shares are the environment's */
    unsigned uses;       /* between session_begin and session_end */
    unsigned background; /* of these: nobody waits for them */
    unsigned closing;    /* executors of it that are being closed */
    bool is_default;
    bool ended;
    uint64_t made_at; /* uv_now */
    uint64_t used_at;
    size_t idle_room; /* bytes of idle output that may still be told */
    char *notice;
    struct closing *last_closing; /* had in store, so that closing cannot fail */
};

struct ended_session {
    char id[SESSION_ID_SIZE];
    const struct environment *env;
    bool idle;        /* for want of use; else its lifetime was over */
    bool was_default; /* and no default session of its environment came after it */
};

struct sessions {
    uv_loop_t *loop;
    const struct config *config;
    struct log *log;
    struct place_slot *slots; /* one for each environment, in the config's order */
    struct session *list;     /* all, the ended ones too until nobody uses them */
    unsigned live;
    struct ephemeral *ephemerals;
    struct ended_session ended[SESSIONS_REMEMBERED]; /* a ring */
    size_t ended_next;
    uv_timer_t timer; /* the next session's end */
    bool closing;
    bool finishing;
    unsigned places_closing;
    void (*closed)(void *data);
    void *closed_data;
    void (*idle_output)(void *data, const char *session_id, enum stream stream, const char *bytes,
                        size_t size);
    void *idle_data;
};

/* session.c */
struct session *session_new(struct sessions *owner, struct place_slot *slot, const char *id,
                            struct error *err);
/* Stops the executor; the session goes when nobody uses it any more. */
void session_close(struct session *s);
void session_free(struct session *s);
void ephemeral_close(struct ephemeral *e);

/* sessions.c: something has ended; goes on with whatever waited for it. */
void place_slot_release(struct sessions *owner, struct place_slot *slot);
void sessions_drop(struct session *s);
void sessions_schedule(struct sessions *sessions);

#endif
