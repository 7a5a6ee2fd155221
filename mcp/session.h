#ifndef CELLBLOCK_MCP_SESSION_H
#define CELLBLOCK_MCP_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/executor.h"
#include "mcp/call.h"
#include "mcp/config.h"

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

struct sessions *sessions_new(uv_loop_t *loop, const struct config *config, struct log *log);
/* Cancels everything, closes executors and places; `closed` when nothing is left. Frees itself. */
void sessions_close(struct sessions *sessions, void (*closed)(void *data), void *data);
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
/* By id; NULL with an error (unknown; ended and why, ERROR_LOST). */
struct session *sessions_find(struct sessions *sessions, const char *id, struct error *err);

/* A sentence for people about how this session began, told once: the default session before it was
 * ended for want of use, say. NULL when there is nothing to tell; to be freed. */
char *session_take_notice(struct session *s);

/* `output` gets what sandboxes print while no run is going (a thread, a daemon): at most 8 KB
 * between two uses of a session. */
void sessions_on_idle_output(struct sessions *sessions,
                             void (*output)(void *data, const char *session_id, enum stream stream,
                                            const char *bytes, size_t size),
                             void *data);

const char *session_id(const struct session *s);
const struct environment *session_environment(const struct session *s);
struct executor *session_executor(struct session *s);

/* Where it runs; for what the backend can do, place_needs. */
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
