#ifndef CELLBLOCK_MODAL_RESOURCES_H
#define CELLBLOCK_MODAL_RESOURCES_H

#include "backends/environment.h"
#include "backends/modal/client.h"

/*
 * What a sandbox of an environment is made of at the service, by id: the app, the image (built on
 * first use, with a secret for its registry), secrets, volumes, network file systems, a proxy.
 * Looked up or made once for a place, when its first sandbox is wanted; several may wait for the
 * same answer.
 */
struct modal_resources;

struct modal_volume {
    const char *id;
    const char *dest;
    bool read_only;
};

/* Valid until the resources are forgotten or closed. */
struct modal_ids {
    const char *app_id;
    const char *image_id;
    const char *const *secret_ids; /* named ones, in the order of env->modal_secrets; NULL-ended */
    const char *proxy_id;          /* NULL: none */
    const struct modal_volume *volumes;
    unsigned volume_count;
    const struct modal_volume *file_systems; /* V1 only */
    unsigned file_system_count;
};

struct modal_resources *modal_resources_new(struct modal_client *client,
                                            const struct environment *env, bool jupyter);
/* `done` never before this returned. `waiting` (may be NULL) gets lines for people: "building the
 * image: Collecting numpy". A failed build ends with the last lines of its log. */
void modal_resources_get(struct modal_resources *r, void (*waiting)(void *data, const char *what),
                         void (*done)(void *data, const struct modal_ids *ids,
                                      const struct error *err),
                         void *data);
/* Who waits with this data is no longer told anything. */
void modal_resources_leave(struct modal_resources *r, const void *data);
/* The service said that something of it is gone: looked up anew at the next get. */
void modal_resources_forget(struct modal_resources *r);
void modal_resources_close(struct modal_resources *r, void (*closed)(void *data), void *data);

#endif
