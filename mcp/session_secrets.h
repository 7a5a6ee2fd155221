#ifndef CELLBLOCK_MCP_SESSION_SECRETS_H
#define CELLBLOCK_MCP_SESSION_SECRETS_H

#include "mcp/mask.h"
#include "mcp/session.h"

/*
 * The secrets of sessions (mcp/secrets.h): their values are read when a session first runs
 * something, are in the environment of its runs (session_run_env), and are wiped when it ends. What
 * the server says is masked for the values of all sessions that live.
 */

/* Somebody waits for them. Embedded by who waits; `ready` is called at most once. */
struct secret_wait {
    struct secret_wait *next;
    void (*ready)(void *data, const struct error *err);
    void *data;
};

/* 0: they are there, or the session has none. 1: `ready` is called later, in the order of asking.
 * -1 with an ERROR_REFUSED: one of them is missing. */
int session_need_secrets(struct session *s, struct secret_wait *wait, struct error *err);
/* The same at once, however long a helper takes: for who has nothing else to do. */
int session_read_secrets(struct session *s, struct error *err);
/* `ready` is not called any more. */
void session_forget_secrets(struct session *s, struct secret_wait *wait);

/* The session ends: who waits is told so. */
void session_stop_secrets(struct session *s);
/* All of it has ended, and it is out of the table: the values are wiped. */
void session_drop_secrets(struct session *s);

/* The values of all live sessions, each by its name; NULL: there are none. Borrowed. */
struct mask *sessions_mask(const struct sessions *sessions);
/* The same, from one of them. */
struct mask *session_mask(const struct session *s);

#endif
