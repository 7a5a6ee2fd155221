#ifndef CELLBLOCK_MCP_SESSION_PRIVATE_H
#define CELLBLOCK_MCP_SESSION_PRIVATE_H

#include "backends/place.h"
#include "mcp/artifacts.h"
#include "mcp/kept.h"
#include "mcp/mask.h"
#include "mcp/session.h"
#include "mcp/session_log.h"

/*
 * Between sessions.c (the table: ids, places, which session a call means), sessions_end.c (how
 * sessions end, and what is remembered of them), session.c (one session: its executor, shares,
 * reset), session_ephemeral.c (executors for one run), session_handle.c (ids), session_secrets.c,
 * session_kept.c (sessions that outlive us), session_ports.c (where their ports are reached) and
 * session_facts.c (what is told and changed of one).
 * Nobody else includes this.
 *
 * Who waits for whom at the end: executors are counted in their place's `users`, a place is closed
 * when it has none, and the table is freed when it has neither sessions nor places.
 */
enum {
    SESSION_NONCE_SIZE = 33,       /* 32 hexadecimal digits and NUL */
    SESSION_ID_SIZE = 16,          /* "s-" and 8 characters and NUL fit */
    SESSIONS_CAP = 256,            /* live at once */
    SESSIONS_REMEMBERED = 256,     /* ended ones whose end can be explained */
    IDLE_OUTPUT_CAP = 8 * 1024,    /* bytes told between two uses of a session */
    SESSION_FINISH_MS = 30 * 1000, /* a graceful end waits so long for what is going on */
};

/* A place of one environment; opened at its first use, NULL before and after. One that belongs to a
 * session (`own`) is opened for it, and freed when its last executor has ended. */
struct place_slot {
    struct place_slot *next; /* of the sessions' own ones */
    struct sessions *owner;  /* of these only, as is: */
    struct environment *own; /* what `env` points to */
    const struct environment *env;
    struct place *place;
    unsigned users; /* executors, the ones that are closing included */
};

/* Somebody waits for the end of a session. */
struct finish_op {
    struct finish_op *next;
    executor_done done; /* NULL: not any more */
    void *data;
};

/* How the last run of a session ended. */
struct last_run {
    enum cause cause;
    uint64_t duration_ms;
    uint64_t cpu_ms;
    uint64_t peak_rss_kib;
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
    const struct session *session; /* NULL once it is closing */
    struct executor *executor;
    struct place_slot *slot;
    bool closing;
};

struct session {
    struct sessions *owner;
    struct session *next;
    char id[SESSION_ID_SIZE];
    char *name; /* NULL: none */
    json_t *tags;
    json_t *variables;                 /* of each of its runs; NULL: none */
    json_t *secrets;                   /* {name: value} once they are read (session_secrets.h) */
    struct secret_fetch *secret_fetch; /* while they are read */
    struct secret_wait *secret_waits;
    struct mask_stream idle_masks[2]; /* by enum stream */
    const struct environment *env;    /* `own`, or the configured one it comes from: */
    struct environment *own;
    const struct environment *base;
    struct place_slot *slot;   /* NULL once all is closed of a session with a place of its own */
    struct executor *executor; /* NULL once the session is ended */
    struct share_op *ops;
    unsigned own_shares; /* the first so many shares are the environment's */
    unsigned uses;       /* between session_begin and session_end */
    unsigned background; /* of these: nobody waits for them */
    unsigned closing;    /* executors of it that are being closed */
    bool is_default;
    bool finishing; /* it ends when it is not used any more, or at give_up_at */
    bool ended;
    uint64_t made_at; /* uv_now */
    uint64_t used_at;
    uint64_t end_at; /* of its lifetime */
    uint64_t give_up_at;
    uint64_t made_ms; /* of the clock on the wall */
    uint64_t runs;    /* that are done */
    struct last_run last_run;
    struct finish_op *finish_ops;
    size_t idle_room; /* bytes of idle output that may still be told */
    struct session_log log;
    char *notice;
    struct closing *last_closing; /* had in store, so that closing cannot fail */
    struct kept_hold *kept;       /* of one that may outlive us; NULL: it ends with us */
    char nonce[SESSION_NONCE_SIZE];
    char tag[MAC_SIZE];  /* what its sandbox shows */
    json_t *wishes;      /* what its environment was derived from, or NULL */
    bool consented;      /* … beyond the policy, by a person */
    json_t *ports_told;  /* where its ports are reached, as it was said last; NULL: it was not */
    json_t *where;       /* its sandbox; NULL: there is none */
    bool seeking;        /* … which was left, and has not been reached */
    unsigned to_end;     /* … and is only to be ended; seconds that this may take */
    bool left;           /* its sandbox goes on without us */
    bool shares_unknown; /* it was attached: what another server had brought in */
};

enum session_end {
    SESSION_END_IDLE,     /* for want of use */
    SESSION_END_LIFETIME, /* it had lived as long as it may */
    SESSION_END_ASKED,    /* end_session; nothing was going on any more */
    SESSION_END_KILLED,   /* end_session; what was going on was cancelled */
    SESSION_END_LATE,     /* the same, since it did not finish in time */
};

struct ended_session {
    char id[SESSION_ID_SIZE];
    char *name; /* NULL: it had none */
    json_t *tags;
    const struct environment *env; /* the configured one */
    enum session_end how;
    double seconds;   /* the limit, or the age, that ended it */
    uint64_t made_ms; /* by the clock on the wall, as is: */
    uint64_t ended_ms;
    bool was_default; /* and no default session of its environment came after it */
};

struct sessions {
    uv_loop_t *loop;
    const struct config *config;
    struct log *log;
    struct place_slot *slots; /* one for each environment, in the config's order */
    struct place_slot *own_slots;
    struct artifacts *artifacts;
    uint64_t finish_ms;   /* SESSION_FINISH_MS; tests make it shorter */
    struct session *list; /* all, the ended ones too until nobody uses them */
    unsigned live;
    bool swept;        /* of those past their lifetime that were left */
    struct mask *mask; /* of the secrets of all of them; NULL: there are none */
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
                            const struct session_options *options, struct error *err);
/* "s-" and 8 characters for the kind 's', out of the lower 40 bits. */
void session_handle(char id[SESSION_ID_SIZE], char kind, uint64_t bits);
/* Stops the executor; the session goes when nobody uses it any more. */
void session_close(struct session *s);
void session_free(struct session *s);
void ephemeral_close(struct ephemeral *e);
/* All that runs of it are in: those runs end as cancelled. */
void session_ephemerals_close(struct session *s);

/* sessions.c: something has ended; goes on with whatever waited for it. */
void place_slot_release(struct sessions *owner, struct place_slot *slot);
void sessions_drop(struct session *s);
/* A live one by id, or by name; NULL when there is none. */
struct session *sessions_live(const struct sessions *sessions, const char *name);

/* session.c: for a share that has been checked; what can only be wrong at the start, the start says
 */
void session_share_noted(void *data, const struct error *err);

/* session_ports.c: "ports" and what is to be said of them, in the facts. */
void session_add_ports(const struct session *s, json_t *facts);

/* session_kept.c; all of it is nothing for a session that is not kept */
int session_take_kept(struct session *s, const struct session_options *options, struct error *err);
void session_keep_executor(struct session *s, struct executor *e);
/* Its sandbox is about to be stopped, and the session goes on. */
void session_forget_where(struct session *s);
/* executor_close, or executor_leave at the server's end. */
void session_stop_executor(struct session *s, struct executor *e, executor_done done, void *data);
void session_record(struct session *s); /* something has changed that is in its record */
void session_free_kept(struct session *s);
/* Rows of those that were left. -1 when out of memory. */
int sessions_add_left(const struct sessions *sessions, const json_t *tags, json_t *list);
json_t *session_left_row(const json_t *record);

/* sessions_end.c */
void sessions_schedule(struct sessions *sessions);
/* It is not used any more: ends it if that was waited for. */
void session_unused(struct session *s);
/* The latest one of that id or name, NULL when none is remembered. */
const struct ended_session *sessions_ended(const struct sessions *sessions, const char *name);
/* "session "s-…" ended after 30 min without use, at 2026-11-22 13:05:10 UTC"; to be freed, NULL
 * when out of memory. */
char *ended_session_text(const struct ended_session *ended);
void ended_session_deinit(struct ended_session *ended);

#endif
