#include <stdlib.h>
#include <string.h>

#include "backends/jupyter/place.h"

/*
 * Kernels that a cellblock which is gone has left on the server (records.h). They are looked for
 * once, before the first session of a place starts; it does not wait for long. A kernel that this
 * environment names by its id is not touched, whoever made it.
 */
enum {
    AT_ONCE = 8,
    PATIENCE_MS = 5000,
};

/* A dead one's record, while its kernels are being ended. */
struct dead {
    struct jupyter_place *place;
    struct record_left record;
    size_t next;      /* of its kernels */
    unsigned waiting; /* for so many */
    bool kept;        /* one is there still */
};

static void on_patience_closed(uv_handle_t *handle)
{
    struct jupyter_place *place = handle->data;

    place->orphans.running = false;
    place_orphans_swept(place);
}

static void maybe_done(struct jupyter_place *place)
{
    struct orphans *o = &place->orphans;

    if (o->records == 0) {
        uv_close((uv_handle_t *)&o->patience, on_patience_closed);
    }
}

static void go_on(struct dead *dead);

static void on_ended(void *data, const struct error *err)
{
    struct dead *dead = data;
    struct orphans *o = &dead->place->orphans;

    dead->waiting--;
    if (err) {
        dead->kept = true;
        free(o->failed);
        o->failed = strdup(err->message);
    } else {
        o->removed++;
    }
    go_on(dead);
}

static bool is_given(const struct jupyter_place *place, const char *id)
{
    const char *given = place->base.env->kernel_id;
    return given && strcmp(given, id) == 0;
}

static void end_next(struct dead *dead)
{
    struct jupyter_place *place = dead->place;
    const char *id = dead->record.kernels.list[dead->next++];

    if (is_given(place, id) || place->closing) {
        dead->kept = true;
        return;
    }
    dead->waiting++;
    place->orphans.found++;
    jupyter_server_end_left(place->server, place->websockets, id, on_ended, dead);
}

static void go_on(struct dead *dead)
{
    struct jupyter_place *place = dead->place;

    while (dead->next < dead->record.kernels.count && dead->waiting < AT_ONCE) {
        end_next(dead);
    }
    if (dead->waiting == 0) {
        record_left_close(&dead->record, !dead->kept);
        free(dead);
        place->orphans.records--;
        maybe_done(place);
    }
}

static void on_patience(uv_timer_t *timer)
{
    place_go_on(timer->data); /* the rest goes on beside the session */
}

bool orphans_sweep(struct jupyter_place *place)
{
    struct record_left left[RECORDS_LEFT_CAP];
    struct orphans *o = &place->orphans;
    unsigned count;

    if (o->looked || !place->records) {
        return o->running && uv_is_active((uv_handle_t *)&o->patience);
    }
    o->looked = true;
    count = records_left(place->url, left);
    if (count == 0) {
        return false;
    }
    o->running = true;
    o->records = count;
    uv_timer_init(place->base.loop, &o->patience);
    o->patience.data = place;
    uv_timer_start(&o->patience, on_patience, PATIENCE_MS, 0);
    for (unsigned i = 0; i < count; i++) {
        struct dead *dead = calloc(1, sizeof(*dead));
        if (!dead) {
            abort(); /* so few bytes, and nobody could be told */
        }
        *dead = (struct dead){.place = place, .record = left[i]};
        go_on(dead);
    }
    return true;
}
