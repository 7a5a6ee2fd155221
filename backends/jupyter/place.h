#ifndef CELLBLOCK_JUPYTER_PLACE_H
#define CELLBLOCK_JUPYTER_PLACE_H

#include "backends/jupyter/jupyter.h"
#include "backends/jupyter/own_server.h"
#include "backends/jupyter/records.h"
#include "backends/kernels/jupyter/jupyter.h"

/*
 * The jupyter place: a machine is a session on a Jupyter server (kernels/jupyter/jupyter.h). The
 * server is at a URL, or one of our own that is started when the first machine wants it and ends
 * with the place.
 */
extern const struct place_ops jupyter_module_ops;

struct jupyter_machine;

/* Kernels of cellblocks that are gone, as the sweep has found them. */
struct orphans {
    bool looked;
    bool running;
    unsigned records; /* that are being worked on */
    unsigned found, removed;
    char *failed;        /* why one could not be removed */
    uv_timer_t patience; /* of the sessions that wait */
};

struct jupyter_place {
    struct place base;
    struct jupyter_server *server; /* NULL until our own one is ready */
    struct websocket_context *websockets;
    struct own_server *own;
    char *url;               /* of somebody's server; NULL: it is our own */
    struct records *records; /* of the kernels that we have made there, or NULL */
    struct orphans orphans;
    struct jupyter_machine *machines;
    bool closing;
    unsigned closing_parts;
    void (*closed)(void *data);
    void *closed_data;
};

/* place.c: sessions that waited for the sweep start now; it is over. */
void place_go_on(struct jupyter_place *place);
void place_orphans_swept(struct jupyter_place *place);

/* orphans.c. True while sessions should wait for it: place_go_on follows. */
bool orphans_sweep(struct jupyter_place *place);

/* settings.c: what a server at a URL, or of our own, cannot do. 0, or -1 with the reason. */
int jupyter_check_settings(const struct environment *env, struct error *err);
int jupyter_check_share(struct place *base, const struct share *share, struct error *err);

/* check.c: for doctor. */
void jupyter_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                   void *data);

/* address.c: what the environment says of a server at a URL. 0, or -1 with `err`. */
struct jupyter_address {
    char *url; /* without query */
    char *token;
    char **headers; /* "Name: value", NULL-terminated */
};
int jupyter_address_parse(const struct environment *env, struct jupyter_address *ret,
                          struct error *err);
void jupyter_address_deinit(struct jupyter_address *address);

#endif
