#ifndef CELLBLOCK_MODAL_IMAGE_H
#define CELLBLOCK_MODAL_IMAGE_H

#include "backends/modal/client.h"
#include "backends/modal/image_recipe.h"

/*
 * An image at the service: each layer is asked for (ImageGetOrCreate), and waited for where it has
 * to be built (ImageJoinStreaming, taken up again where a stream ended).
 */
enum {
    MODAL_IMAGE_TELL_MS = 500, /* between two lines of progress */
    MODAL_IMAGE_JOIN_SECS = 55,
    MODAL_IMAGE_JOIN_RETRIES = 5, /* one after the other, without anything between */
    MODAL_IMAGE_QUICK_MS = 1000,  /* a stream that ends so soon with nothing is a failure */
    MODAL_IMAGE_LAYER_MS = 60 * 60 * 1000, /* the longest that a layer may take */
};

/* How the registry of the base layer is opened. */
struct modal_registry {
    int auth;              /* of RegistryAuthType; 0: anybody may fetch the image */
    const char *secret_id; /* NULL: none */
};

struct modal_image_order {
    const char *app_id;
    const char *builder;               /* version of the service's image builder */
    const struct modal_recipe *recipe; /* all of these are borrowed until `done` */
    struct modal_registry registry;
    /* Lines for people: "building the image: Collecting numpy". May be NULL. */
    void (*on_line)(void *data, const char *line);
    /* Once, from the loop. A build that failed: ERROR_UNSUPPORTED with the last lines of its log.
     */
    void (*done)(void *data, const char *image_id, const struct error *err);
    void *data;
};

struct modal_image;

/* A recipe with one layer or more. NULL with `err`: `done` is not called. */
struct modal_image *modal_image_start(struct modal_client *client, uv_loop_t *loop,
                                      const struct modal_image_order *order, struct error *err);
/* `done` follows with "cancelled". */
void modal_image_cancel(struct modal_image *image);

#endif
