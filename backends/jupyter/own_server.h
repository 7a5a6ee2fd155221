#ifndef CELLBLOCK_JUPYTER_OWN_SERVER_H
#define CELLBLOCK_JUPYTER_OWN_SERVER_H

#include "backends/kernels/jupyter/jupyter.h"

/*
 * A Jupyter Server (or, where there is none, a Kernel Gateway) that is started here and ends with
 * us: in a process group and a folder of its own, reached by a unix socket in that folder (a
 * gateway by loopback), with a random token that it gets by its environment, without rate limits.
 */
struct own_server;

/* `python`: the interpreter that has it, NULL: looked for on PATH. Starts nothing. */
struct own_server *own_server_new(uv_loop_t *loop, const char *python,
                                  void (*ready)(void *data, struct jupyter_server *server),
                                  void (*ended)(void *data, const struct error *err), void *data);
/* Once; `ready` follows, or `ended` with the reason: also later, when it ends. */
void own_server_start(struct own_server *own);
bool own_server_is_gone(const struct own_server *own);
const char *own_server_last_words(struct own_server *own);
void own_server_close(struct own_server *own, void (*closed)(void *data), void *data);

/* own_python.c: the interpreter to start it with: `python`, or that of the programs jupyter-server
 * and jupyter-kernelgateway on PATH, or PATH's python3. To be freed; NULL when there is none. */
char *own_python_find(const char *python);

#endif
