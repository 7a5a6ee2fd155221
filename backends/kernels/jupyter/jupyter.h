#ifndef CELLBLOCK_KERNELS_JUPYTER_H
#define CELLBLOCK_KERNELS_JUPYTER_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "backends/base/net/http.h"
#include "backends/base/net/websocket.h"
#include "backends/kernel.h"
#include "backends/place.h"

/*
 * Kernels of a Jupyter server (Jupyter Server 1.x, 2.x; Kernel Gateway 3.x), over its REST API and
 * the channels WebSocket (jupyter-client's messaging protocol 5.x; v1.kernel.websocket and the
 * older JSON frames). What a place with the jupyter kernel uses:
 *
 *   jupyter_server      one server: its address, who we are to it, its REST calls
 *   jupyter_session     one of our sessions there: a kernel for each language that it has used, and
 *                       a working directory of its own. It is what a machine of such a place is
 *                       made of, and its link is what jupyter_kernel attaches to
 *   jupyter_kernel      the kernel_ops: executes code there, outputs and an end back
 */
struct jupyter_server;
struct jupyter_session;

struct jupyter_server_options {
    const char *url;            /* http(s)://host:port/prefix, without token and query */
    const char *token;          /* sent as "Authorization: token T"; NULL: none */
    const char *const *headers; /* more (Cookie, X-XSRFToken …); NULL-terminated, or NULL */
    const char *unix_socket;    /* the server is reached by it; NULL: TCP */
    const char *ca_file;
    bool insecure;
    /* May be NULL. A kernel was made for us (there), or one of those is not there any more. One
     * that the server would not delete is not told. */
    void (*on_kernel)(void *data, const char *id, bool there);
    void *data;
};

struct jupyter_server *jupyter_server_new(uv_loop_t *loop,
                                          const struct jupyter_server_options *options,
                                          struct error *err);
void jupyter_server_close(struct jupyter_server *server, void (*closed)(void *data), void *data);
/* Asks once whether it answers and takes us: NULL, or why not (nobody there, token wrong, no
 * Jupyter server). For readiness polls and doctor. */
void jupyter_server_probe(struct jupyter_server *server,
                          void (*done)(void *data, const struct error *err), void *data);

/* Ends a kernel that a session of a process that is dead had made: its helper is asked to remove
 * what the session has left, then it is deleted. Not while somebody is connected to it. `done`:
 * NULL when the kernel is not there any more, or why it is. It comes within half a minute. */
void jupyter_server_end_left(struct jupyter_server *server, struct websocket_context *websockets,
                             const char *id, void (*done)(void *data, const struct error *err),
                             void *data);

struct jupyter_session_options {
    const char *kernel_id; /* an existing kernel to use, left alive at the end; NULL: our own */
    const char
        *kernelspec; /* for language "python"; NULL: the server's default, which must be Python */
    const char *workspace; /* absolute folder there to work in ("/workspace", in a container of
                            * ours); NULL: a new private one, removed at the end */
    json_t *env;           /* object of strings for the session's kernels, or NULL */
    const char *tag;       /* it may be left, and shows this when it is found; NULL: neither */
    const json_t *where;   /* the one that is to be found (jupyter_session_where), or NULL */
    unsigned to_end; /* … only to be ended: one that has not answered after so many seconds is
                      * ended by its id, which no other kernel ever has. 0: not so */
};

struct jupyter_session_events {
    /* A kernel for "python" is there and has answered; attach jupyter_kernel to `link`. */
    void (*on_started)(void *data, struct link *link);
    void (*on_waiting)(void *data, const char *what);
    /* As machine_events.on_exit: the kernel died, was killed, or the server went away. */
    void (*on_exit)(void *data, const struct machine_exit *exit);
};

struct jupyter_session *jupyter_session_new(struct jupyter_server *server,
                                            struct websocket_context *websockets,
                                            const struct jupyter_session_options *options,
                                            const struct jupyter_session_events *events,
                                            void *data);
/* As the machine_* functions of place_ops. After an on_exit with `kept` it may be started again. */
void jupyter_session_start(struct jupyter_session *s);
void jupyter_session_interrupt(struct jupyter_session *s);
void jupyter_session_kill(struct jupyter_session *s);
void jupyter_session_put(struct jupyter_session *s, const struct share *share,
                         executor_progress progress, executor_done done, void *data);
void jupyter_session_put_cancel(struct jupyter_session *s);
void jupyter_session_file(struct jupyter_session *s, const struct file_request *request,
                          file_done done, void *data);
const char *jupyter_session_folder(const struct jupyter_session *s);
/* Of one with a tag, once it has started: what leads to it, a new object of texts; and that a close
 * that follows leaves its Python kernel and its folder as they are. `interrupt`: not the run. */
json_t *jupyter_session_where(const struct jupyter_session *s);
void jupyter_session_leave(struct jupyter_session *s, bool interrupt);
/* The server goes with all that is on it (a container of ours): a close that follows asks nothing
 * of it any more. */
void jupyter_session_abandon(struct jupyter_session *s);
void jupyter_session_close(struct jupyter_session *s, void (*closed)(void *data), void *data);

extern const struct kernel_ops jupyter_kernel;

#endif
