#ifndef CELLBLOCK_MODAL_RESOURCES_INTERNAL_H
#define CELLBLOCK_MODAL_RESOURCES_INTERNAL_H

#include "backends/modal/image.h"
#include "backends/modal/resources.h"

/* Parts of resources.h: who waits and in which order things are done (resources.c), and the single
 * things, which are looked up side by side (resources_items.c). */
enum {
    RESOURCES_BEAT_MS = 300 * 1000, /* a volume without a name lives on as long as we say so */
    RESOURCES_DELETE_MS = 5 * 1000,
};

enum resources_state {
    RESOURCES_IDLE,
    RESOURCES_GOING,
    RESOURCES_READY,
};

enum resources_kind {
    ITEM_APP,
    ITEM_BUILDER, /* version of the image builder: a setting of the service's environment */
    ITEM_SECRET,
    ITEM_REGISTRY, /* the secret that opens the image's registry */
    ITEM_PROXY,
    ITEM_VOLUME,
    ITEM_FILE_SYSTEM,
};

struct resources_item {
    struct modal_resources *r;
    enum resources_kind kind;
    const char *name; /* borrowed of the environment; NULL: a volume without one */
    const char *dest;
    bool create, read_only;
    char *id; /* NULL until it is known */
    struct modal_rpc *rpc;
};

struct resources_waiter {
    struct resources_waiter *next;
    void (*waiting)(void *data, const char *what);
    void (*done)(void *data, const struct modal_ids *ids, const struct error *err);
    void *data;
};

struct modal_resources {
    struct modal_client *client;
    uv_loop_t *loop;
    const struct environment *env;
    bool jupyter;
    enum resources_state state;
    struct resources_item *items; /* the app first, then the builder */
    unsigned item_count;
    unsigned going;                 /* of them, that are asked for */
    struct modal_registry registry; /* its id is the item's */
    struct modal_recipe recipe;
    struct modal_image *image;
    char *image_id;
    struct error failure; /* the first */
    bool abandoned;       /* nobody waited any more */
    struct resources_waiter *waiters, *telling;
    struct modal_ids ids; /* its lists are ours, their texts the items' */
    uv_timer_t soon, beat;
    unsigned handles, deleting;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

/* -ENOMEM. */
int resources_make_items(struct modal_resources *r);
/* 0: resources_item_done follows. -1: r->failure says why not. */
int resources_item_ask(struct resources_item *item);
void resources_item_done(struct modal_resources *r);
const char *resources_app(const struct modal_resources *r);
const char *resources_builder(const struct modal_resources *r);
/* Fills r->ids. -ENOMEM. */
int resources_list(struct modal_resources *r);
/* resources_registry.c: how the image's registry is opened with a secret that has these variables,
 * or as registry_auth says. -1: r->failure says what is expected of the secret. */
int resources_take_registry(struct modal_resources *r, const char *id, char *const *keys,
                            size_t count);
/* Forgets what was found; volumes without a name only with `all`. */
void resources_clear(struct modal_resources *r, bool all);
/* Those without a name; resources_deleted follows for each (r->deleting of them). */
void resources_delete_volumes(struct modal_resources *r);
void resources_deleted(struct modal_resources *r);

#endif
