#ifndef CELLBLOCK_MCP_SESSION_H
#define CELLBLOCK_MCP_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/executor.h"
#include "mcp/call.h"
#include "mcp/config.h"
#include "mcp/policy.h"

/*
 * Sessions: handles such as "s-7k2m9q4d", each with one executor, its environment and its shares.
 * Places are opened at the first session that needs them and shared by all sessions of an
 * environment.
 *
 * In the legacy era the connection has one default session for each environment that is asked for.
 * An environment whose mode is ephemeral has one in both eras: it keeps nothing but the shares.
 *
 * An unused session ends after its environment's idle_timeout_seconds, any after
 * max_lifetime_seconds (never in the middle of a run that a call waits for); a later call with its
 * id is told so.
 */
struct sessions;
struct session;
struct artifacts;

struct sessions *sessions_new(uv_loop_t *loop, const struct config *config, struct log *log);
/* Cancels everything, closes executors and places; `closed` when nothing is left. Frees itself. */
void sessions_close(struct sessions *sessions, void (*closed)(void *data), void *data);
/* What their runs have left to be read (mcp/artifacts.h), also after a session's end. */
struct artifacts *sessions_artifacts(struct sessions *sessions);
struct artifacts *session_artifacts(struct session *s);
/* Starts what makes the first run quick, in the default environment (--warm). */
void sessions_warm(struct sessions *sessions);

/*
 * Which session a call means (design section 3, "Which session"). `name` NULL: in the legacy era
 * the connection's default session, made on first use; in the modern era a new one, and *ret_made
 * is true. `environment` names one for a session that is made now; for an existing session it must
 * be that session's own (or NULL). NULL with an error for people: an unknown or ended id, an
 * unknown environment.
 */
struct session *sessions_resolve(struct sessions *sessions, enum era era, const char *name,
                                 const char *environment, bool *ret_made, struct error *err);
/* When sessions_resolve gave none: the environment that the call meant, NULL when that is not known
 * (the session's or the environment's name is wrong, or they do not go together). Then what failed
 * is not the call but what it asked for: a place that does not open, say. */
const struct environment *sessions_meant(const struct sessions *sessions, const char *name,
                                         const char *environment);
/* By id, or by the name that it was given; NULL with an error (unknown; ended, why and when,
 * ERROR_LOST; about to end). */
struct session *sessions_find(struct sessions *sessions, const char *name, struct error *err);
/* The same, and one that is about to end is found, too. */
struct session *sessions_look_up(struct sessions *sessions, const char *name, struct error *err);

/* The place of a configured environment, opened if need be; there as long as the sessions are. NULL
 * with an error. */
struct place *sessions_place(struct sessions *sessions, const struct environment *env,
                             struct error *err);

/* --- sessions that are asked for --- */

struct session_options {
    const struct environment *base; /* one of the config's */
    struct derived *derived;        /* over it; what it holds is taken. NULL: nothing */
    const char *name;               /* checked (mcp/session_tags.h); NULL: none */
    json_t *tags;                   /* checked; NULL: none. Borrowed, as is: */
    json_t *variables;              /* of each run, as run_request.env; NULL: none */
    json_t *wishes;                 /* what `derived` came of, for one that is kept; NULL: none */
    bool consented;                 /* a person has agreed to what of it is beyond the policy */
    /* One that was left: its id, its record, and the hold on it, which is taken (mcp/kept.h). */
    const char *id;
    const json_t *record;
    struct kept_hold **hold;
    unsigned to_end; /* it is found only for that; as of struct executor_kept */
};

/* Never the default one. NULL with an error: the name is another session's, there are too many, the
 * place does not open. */
struct session *sessions_create(struct sessions *sessions, const struct session_options *options,
                                struct error *err);

/*
 * Sessions that outlive the server (environment.keep): recorded by mcp/kept.h, left running at the
 * server's end, and found again by their id. `variables` are as in session_options, since values
 * are not recorded. It is refused where the configuration allows it less than it has
 * (mcp/session_again.h). Its secrets are read by the caller before it is reached
 * (mcp/session_secrets.h), since it may print them at once. The session is not yet reached:
 * session_start does that, and until it has (session_is_sought) its end leaves all as it was.
 */
struct session *sessions_attach(struct sessions *sessions, const char *id, json_t *variables,
                                struct error *err);
bool session_is_sought(const struct session *s);
/* It was attached, and not reset since: what had been brought into it before is not known here. */
bool session_shares_unknown(const struct session *s);
/* Starts its sandbox, or reaches it, by a run of nothing, which may be cancelled until `done`; that
 * is called before the session is not in use any more. NULL with an error. */
struct session_start {
    void (*on_waiting)(void *data, const char *what); /* may be NULL */
    void (*done)(void *data, const struct outcome *outcome);
};
struct run *session_start(struct session *s, const struct session_start *how, void *data,
                          struct error *err);
/* Ends one that was left, which is reached first: what is still going on in it may go on for 30 s,
 * or 3 s with `kill`. What does not answer by then is ended from outside. `done` may be NULL. */
int sessions_end_left(struct sessions *sessions, const char *id, bool kill, executor_done done,
                      void *data, struct error *err);
/* What is known of one that was left, NULL when there is none. */
json_t *sessions_left_facts(const char *id);
/* Those past their lifetime are ended, once in a server's life. */
void sessions_sweep(struct sessions *sessions);

/* What may be changed of a session. All of it is done, or nothing. */
struct session_changes {
    double timeout_seconds; /* it ends so long from now, if it lives no longer than policy allows;
                             * 0: as before */
    const char *name;       /* NULL: as before */
    const json_t *tags;     /* a text sets one, null removes it; NULL: as before */
    bool consented;         /* a person has agreed to the time, if policy lets it be asked for */
};
int session_change(struct session *s, const struct session_changes *changes, struct error *err);
/* Only whether it would be refused; ERROR_REFUSED is the time. */
int session_change_check(const struct session *s, const struct session_changes *changes,
                         struct error *err);
/* Seconds that it may still live by that policy. */
double session_may_live(const struct session *s, const struct policy *policy);

/*
 * Ends it: from now on no call finds it. With `kill` runs that are going are cancelled; without,
 * what uses it may go on for 30 s. `done` is called when nothing of it is left, never before this
 * returns. It may be called again, to kill it after all. -1 when out of memory: nothing was done.
 */
int session_finish(struct session *s, bool kill, executor_done done, void *data, struct error *err);
/* `done` with this `data` is not called any more; the session ends all the same. */
void session_finish_forget(struct session *s, const void *data);
/* "session "s-…" was ended by end_session at …": what became of the one of that id or name; to be
 * freed. NULL when none is remembered. */
char *sessions_tell_end(const struct sessions *sessions, const char *name);
/* Its id; borrowed until the loop turns. NULL likewise. */
const char *sessions_ended_id(const struct sessions *sessions, const char *name);

/* All that there is to know of one, for get_session; NULL when out of memory. `log_lines` of what
 * it printed between runs. */
json_t *session_facts(struct session *s, size_t log_lines);
/* One object for each that has these tags (NULL: all), newest first, and after them those that have
 * ended and are remembered if they are asked for. NULL when out of memory. */
json_t *sessions_list(const struct sessions *sessions, const json_t *tags, bool ended_too);

/* The variables of a run in it: those of the session, its secrets (which session_need_secrets has
 * read), and `env` (may be NULL) over them. A new object, or NULL when there are none (or no
 * memory). */
json_t *session_run_env(const struct session *s, json_t *env);
/* One of its runs is done. */
void session_note_run(struct session *s, const struct outcome *outcome);

/* A sentence for people about how this session began, told once: the default session before it was
 * ended for want of use, say. NULL when there is nothing to tell; to be freed. */
char *session_take_notice(struct session *s);

/* A sentence on where its sandbox's ports are reached, told once of each sandbox, when that is
 * known; what is wrong with them goes to the log. NULL when there is nothing to tell; to be freed.
 */
char *session_take_ports(struct session *s);

/* `output` gets what sandboxes print while no run is going (a thread, a daemon): at most 8 KB
 * between two uses of a session. */
void sessions_on_idle_output(struct sessions *sessions,
                             void (*output)(void *data, const char *session_id, enum stream stream,
                                            const char *bytes, size_t size),
                             void *data);

const char *session_id(const struct session *s);
/* Its own where it was made with wishes. Lives as long as the session. */
const struct environment *session_environment(const struct session *s);
/* The configured one that it comes from. */
const struct environment *session_base(const struct session *s);
/* Milliseconds since 1970, by the clock on the wall; and "2026-11-22T13:05:10Z". */
uint64_t session_wall_ms(void);
json_t *session_moment_json(uint64_t ms);
/* NULL once it has ended, which it may while it is in use: end_session kills. Whoever comes back to
 * a session (a second step, an answer that was waited for) looks first. */
struct executor *session_executor(struct session *s);

/* Where it runs; for what the backend can do, place_needs. NULL likewise. */
const struct place *session_place(const struct session *s);

/* A fresh executor for one run, with clones of the session's shares already added. NULL with an
 * error. It ends with session_ephemeral_close (in the background) or with sessions_close. */
struct executor *session_ephemeral_executor(struct session *s, struct error *err);
void session_ephemeral_close(struct session *s, struct executor *e);

/* In ephemeral mode shares are kept here and enter each run (copies are checked at once); in
 * stateful mode this is executor_add_share. Takes the share. */
void session_add_share(struct session *s, struct share *share_owned, executor_progress progress,
                       executor_done done, void *data);
/* executor_cancel_share for the one that was added with this `data`. */
void session_cancel_share(struct session *s, const void *data);

/*
 * Back to not started, with the same id: a run that is going ends as cancelled. With `keep_shares`
 * the sources are opened anew first, under the same check as when they were added (`roots`: the
 * client's, as for host_path_open); the environment's own shares always come back. 0, and `done` is
 * called when the old sandbox is gone; or -1 with an error that says which source is missing: then
 * nothing was reset and `done` is not called.
 */
int session_reset(struct session *s, const json_t *roots, bool keep_shares, executor_done done,
                  void *data, struct error *err);

/* Between begin and end the session is in use and no idle time-out ends it. */
void session_begin(struct session *s);
void session_end(struct session *s);

/* Makes one such use a background one, which nobody waits for: the end of the session's lifetime
 * does not wait for it either. It ends with session_end_background. */
void session_to_background(struct session *s);
void session_end_background(struct session *s);

/* A new run id, "r-" and 8 characters, that cannot be guessed: it is a handle (mcp/run_record.h).
 */
void run_id_new(char id[RUN_ID_SIZE]);

#endif
