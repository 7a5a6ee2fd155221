#include <stdio.h>
#include <stdlib.h>

#include "backends/jupyter/place.h"

/* What `cellblock doctor` says of the backend. It asks on a loop of its own, for a moment. */

struct asking {
    struct jupyter_server *server;
    struct error err;
    bool failed;
};

static void on_closed(void *data)
{
    (void)data;
}

static void on_probed(void *data, const struct error *err)
{
    struct asking *asking = data;

    if (err) {
        asking->failed = true;
        error_copy(&asking->err, err);
    }
    jupyter_server_close(asking->server, on_closed, NULL);
}

static void ask(const struct jupyter_address *address, struct asking *asking)
{
    uv_loop_t loop;

    asking->failed = true;
    if (uv_loop_init(&loop) < 0) {
        return;
    }
    asking->server = jupyter_server_new(&loop,
                                        &(struct jupyter_server_options){
                                            .url = address->url,
                                            .token = address->token,
                                            .headers = (const char *const *)address->headers,
                                        },
                                        &asking->err);
    if (asking->server) {
        asking->failed = false;
        jupyter_server_probe(asking->server, on_probed, asking);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    uv_loop_close(&loop);
}

static void check_url(const struct environment *env,
                      void (*each)(void *data, const struct place_check *check), void *data)
{
    struct jupyter_address address = {0};
    struct asking asking = {0};

    if (jupyter_address_parse(env, &address, &asking.err) < 0) {
        asking.failed = true;
    } else {
        ask(&address, &asking);
    }
    each(data, &(struct place_check){
                   .name = "Jupyter server",
                   .ok = !asking.failed,
                   .required = true,
                   .detail = asking.failed ? asking.err.message : address.url,
                   .fix = asking.failed ? "start it, and give its \"url\" and \"token\"" : NULL,
               });
    error_clear(&asking.err);
    jupyter_address_deinit(&address);
}

/* What the trial run has found and removed. */
static void check_orphans(const struct orphans *o,
                          void (*each)(void *data, const struct place_check *check), void *data)
{
    const struct place_left left = {"left kernels", o->found, o->removed, o->failed,
                                    "shut them down in the server's list of running kernels"};

    place_tell_left(&left, each, data);
}

static void check_own(const struct environment *env,
                      void (*each)(void *data, const struct place_check *check), void *data)
{
    char *python = own_python_find(env->python);
    char detail[512];

    (void)snprintf(detail, sizeof(detail), "%.400s",
                   python ? python : "no python3 and no jupyter-server on PATH");
    each(data, &(struct place_check){
                   .name = "Python for a Jupyter server",
                   .ok = python != NULL,
                   .required = true,
                   .detail = detail,
                   .fix = python ? NULL : "pip install jupyter_server ipykernel",
               });
    free(python);
}

void jupyter_check(struct place *place, void (*each)(void *data, const struct place_check *check),
                   void *data)
{
    if (place->env->own_server) {
        check_own(place->env, each, data);
    } else {
        check_url(place->env, each, data);
        check_orphans(&((const struct jupyter_place *)place)->orphans, each, data);
    }
}
