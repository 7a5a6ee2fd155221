#include "mcp/run_artifacts.h"

#include <stdlib.h>
#include <string.h>

#include "mcp/base64.h"
#include "mcp/mime.h"

/* --- links --- */

void run_artifacts_link(struct artifacts *a, const struct artifact_origin *origin,
                        const struct outcome *outcome, struct content_run *run)
{
    if (!origin->executor) {
        return;
    }
    if (outcome->files_lost) {
        artifacts_lost(a, origin->executor);
    } else if (outcome->changed.count > 0 || outcome->changed.more > 0) {
        run->artifacts = artifacts_add(a, origin, &outcome->changed, &run->artifacts_left_out);
    }
}

static const char *part_of(const json_t *block)
{
    const json_t *meta = json_object_get(block, "_meta");
    const char *part = json_string_value(json_object_get(meta, "cellblock/part"));

    return part ? part : "";
}

/* Where artifacts end. */
static size_t artifacts_end(const json_t *blocks)
{
    const json_t *block;
    size_t i;

    json_array_foreach(blocks, i, block)
    {
        if (strcmp(part_of(block), "error") == 0 || strcmp(part_of(block), "note") == 0) {
            break;
        }
    }
    return i;
}

static int next_seq(const json_t *blocks)
{
    const json_t *block;
    json_int_t most = 0, seq;
    size_t i;

    json_array_foreach(blocks, i, block)
    {
        seq = json_integer_value(json_object_get(json_object_get(block, "_meta"), "cellblock/seq"));
        most = seq > most ? seq : most;
    }
    return (int)most + 1;
}

static void insert(json_t *blocks, size_t at, json_t *block_owned, const char *session)
{
    json_object_set_new(block_owned, "_meta",
                        json_pack("{ss si ss*}", "cellblock/part", "artifact", "cellblock/seq",
                                  next_seq(blocks), "cellblock/session", session));
    json_array_insert_new(blocks, at, block_owned);
}

void run_artifacts_add_output(struct artifacts *a, const struct artifact_origin *origin,
                              const struct outcome *outcome, const struct content *c,
                              json_t *result)
{
    json_t *blocks = json_object_get(result, "content"), *link;

    for (int i = 0; i < 2 && blocks && origin->executor; i++) {
        const struct full_output *full = &outcome->full[i];

        if (!content_named_full(c, (enum stream)i) ||
            !(link = artifacts_add_output(a, origin, full->path, full->kept))) {
            continue;
        }
        json_object_set_new(link, "type", json_string("resource_link"));
        insert(blocks, artifacts_end(blocks), link, origin->session);
    }
}

/* --- images --- */

struct image {
    struct images *owner;
    json_t *uri;
};

struct images {
    struct image images[RUN_IMAGES];
    unsigned count, pending; /* pending: fetches, and the timer */
    json_t *result;          /* NULL: nobody waits any more */
    char session[32];
    size_t room;
    uv_timer_t timer;
    void (*done)(void *data);
    void *data;
};

static void images_drop(struct images *m)
{
    if (--m->pending > 0) {
        return;
    }
    for (unsigned i = 0; i < m->count; i++) {
        json_decref(m->images[i].uri);
    }
    free(m);
}

static void on_timer_closed(uv_handle_t *handle)
{
    images_drop(handle->data);
}

/* Everything has come, or has had its time. */
static void images_end(struct images *m)
{
    if (!m->result) {
        return;
    }
    m->result = NULL;
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
    m->done(m->data);
}

static void on_limit(uv_timer_t *timer)
{
    images_end(timer->data);
}

/* Behind its link; nowhere when that is not there. */
static void show(struct images *m, const json_t *uri, const char *mime, const char *base64)
{
    json_t *blocks = json_object_get(m->result, "content"), *block;
    size_t i, size = strlen(base64);

    json_array_foreach(blocks, i, block)
    {
        if (json_equal(json_object_get(block, "uri"), uri) && size <= m->room) {
            m->room -= size;
            block = json_pack("{ss ss ss}", "type", "image", "data", base64, "mimeType", mime);
            if (block) {
                insert(blocks, i + 1, block, m->session);
            }
            return;
        }
    }
}

static void on_image(void *data, const struct file_reply *reply, const struct error *err)
{
    const struct image *image = data;
    struct images *m = image->owner;
    const char *mime = reply && m->result ? mime_of_image(reply->bytes, reply->size) : NULL;
    char *base64 = mime ? base64_encode(reply->bytes, reply->size) : NULL;

    (void)err; /* the link is there; whoever follows it is told */
    if (base64) {
        show(m, image->uri, mime, base64);
        free(base64);
    }
    if (m->pending == 2) {
        images_end(m); /* this was the last one */
    }
    images_drop(m);
}

/* What the images that are there already leave. */
static size_t room_left(const json_t *result)
{
    size_t room = CONTENT_IMAGE_LIMIT, used, i;
    const json_t *block;

    json_array_foreach(json_object_get(result, "content"), i, block)
    {
        used = json_string_length(json_object_get(block, "data"));
        room -= used < room ? used : room;
    }
    return room;
}

static const json_t *link_named(const json_t *links, const char *path)
{
    const json_t *link;
    char *name = file_name_text(path);
    size_t i;

    json_array_foreach(links, i, link)
    {
        if (name && strcmp(json_string_value(json_object_get(link, "name")), name) == 0) {
            break;
        }
    }
    free(name);
    return json_array_get(links, i);
}

static void fetch_one(struct images *m, const struct artifact_origin *origin,
                      const struct changed_file *file, const json_t *link)
{
    struct image *image = &m->images[m->count++];

    image->owner = m;
    image->uri = json_incref(json_object_get(link, "uri"));
    m->pending++;
    artifact_fetch(origin->executor, file->path, ARTIFACT_IMAGE_CAP, on_image, image);
}

static bool is_shown(const struct changed_file *file)
{
    return file->image && file->size <= ARTIFACT_IMAGE_CAP;
}

bool run_images_start(uv_loop_t *loop, const struct artifact_origin *origin,
                      const struct outcome *outcome, const json_t *links, json_t *result,
                      void (*done)(void *data), void *data)
{
    const struct changed *changed = &outcome->changed;
    struct images *m = NULL;
    const json_t *link;

    for (unsigned i = 0; i < changed->count && result && origin->executor; i++) {
        if (!is_shown(&changed->files[i]) || !(link = link_named(links, changed->files[i].path)) ||
            (!m && !(m = calloc(1, sizeof(*m))))) {
            continue;
        }
        if (m->count < RUN_IMAGES) {
            fetch_one(m, origin, &changed->files[i], link);
        }
    }
    if (!m) {
        return false;
    }
    m->pending++;
    m->result = result;
    m->room = room_left(result);
    m->done = done;
    m->data = data;
    strncpy(m->session, origin->session, sizeof(m->session) - 1);
    uv_timer_init(loop, &m->timer);
    m->timer.data = m;
    uv_update_time(loop);
    uv_timer_start(&m->timer, on_limit, RUN_IMAGES_MS, 0);
    return true;
}
