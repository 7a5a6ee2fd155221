#ifndef CELLBLOCK_JUPYTER_SERVER_H
#define CELLBLOCK_JUPYTER_SERVER_H

#include "backends/kernels/jupyter/jupyter.h"

/* What the other files of this folder know of a server. */
struct jupyter_server {
    uv_loop_t *loop;
    struct http *http;
    char *url;
    char *unix_socket;
    char *ca_file;
    char **headers; /* NULL-terminated; who we are is one of them */
    bool insecure;
    void (*on_kernel)(void *data, const char *id, bool there);
    void *data;
    json_t *specs; /* the answer of /api/kernelspecs, once it was asked for; NULL */
    void (*closed)(void *data);
    void *closed_data;
};

/* `err` is NULL for a 2xx answer; `body` is its JSON, or NULL when it has none. Borrowed. */
typedef void (*jupyter_answered)(void *data, long status, json_t *body, const struct error *err);

/* One REST call; `answered` comes once, from the loop. `body` (may be NULL) is borrowed. */
void jupyter_server_call(struct jupyter_server *server, const char *method, const char *path,
                         json_t *body, unsigned timeout_ms, jupyter_answered answered, void *data);

/* Asks for the kernelspecs, unless they are known (then `answered` still comes from the loop). */
void jupyter_server_specs(struct jupyter_server *server, jupyter_answered answered, void *data);
/* The name of the kernelspec for a language: a spec of that name, or for NULL the default one. Its
 * programming language comes back too. NULL with an ERROR_UNSUPPORTED that lists what there is. */
const char *jupyter_server_spec(const struct jupyter_server *server, const char *name,
                                const char **ret_language, struct error *err);

/* The address of a kernel's channels, to be freed. */
char *jupyter_server_channels_url(const struct jupyter_server *server, const char *kernel,
                                  const char *session);

#endif
