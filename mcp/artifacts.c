#include "mcp/artifacts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mcp/artifact_name.h"
#include "mcp/artifacts_private.h"
#include "mcp/jsonrpc.h"
#include "mcp/mask.h"

enum { LINK_ROOM = 160 }; /* what a link takes beside its URI and its name, about */

struct artifacts *artifacts_new(uv_loop_t *loop)
{
    struct artifacts *a = calloc(1, sizeof(*a));

    if (!a) {
        return NULL;
    }
    a->loop = loop;
    a->list = calloc(ARTIFACTS_CAP, sizeof(struct artifact *));
    if (!a->list) {
        free(a);
        return NULL;
    }
    if (getrandom(&a->secret, sizeof(a->secret), GRND_NONBLOCK) != sizeof(a->secret)) {
        a->secret = (uint64_t)(uintptr_t)a; /* a cursor gives no right: it only has to be ours */
    }
    return a;
}

static void artifact_free(struct artifact *artifact)
{
    free(artifact->key);
    free(artifact->uri);
    free(artifact->name);
    free(artifact->path);
    free(artifact->bytes);
    free(artifact->why);
    free(artifact);
}

void artifacts_free(struct artifacts *a)
{
    for (size_t i = 0; a && i < a->count; i++) {
        artifact_free(a->list[i]);
    }
    if (a) {
        mask_unref(a->mask);
        free(a->list);
    }
    free(a);
}

void artifacts_mask(struct artifacts *a, struct mask *mask)
{
    mask_unref(a->mask);
    a->mask = mask_ref(mask);
}

void artifacts_on_change(struct artifacts *a, void (*changed)(void *data), void *data)
{
    a->on_change = changed;
    a->data = data;
}

void artifacts_changed(struct artifacts *a)
{
    if (a->on_change) {
        a->on_change(a->data);
    }
}

/* --- what there is --- */

static struct artifact *find_key(const struct artifacts *a, const char *key)
{
    for (size_t i = a->count; i > 0; i--) {
        if (strcmp(a->list[i - 1]->key, key) == 0) {
            return a->list[i - 1];
        }
    }
    return NULL;
}

/* The newest one of the same file. */
static struct artifact *find_newest(const struct artifacts *a, const struct artifact *of)
{
    for (size_t i = a->count; i > 0; i--) {
        struct artifact *other = a->list[i - 1];

        if (other->origin == of->origin && strcmp(other->path, of->path) == 0) {
            return other;
        }
    }
    return NULL;
}

struct artifact *artifacts_find(const struct artifacts *a, const char *key)
{
    struct artifact *found = find_key(a, key);

    return found && found->superseded ? find_newest(a, found) : found;
}

void artifact_gone(struct artifacts *a, struct artifact *artifact, const char *why)
{
    a->kept -= artifact->kept;
    free(artifact->bytes);
    free(artifact->why);
    artifact->bytes = NULL;
    artifact->kept = 0;
    artifact->executor = NULL;
    artifact->state = ARTIFACT_GONE;
    artifact->why = strdup(why);
}

void artifact_keep(struct artifacts *a, struct artifact *artifact, char *bytes_owned, size_t size)
{
    artifact->state = ARTIFACT_KEPT;
    artifact->executor = NULL;
    artifact->bytes = bytes_owned;
    artifact->size = artifact->kept = size;
    a->kept += size;
    for (size_t i = 0; i < a->count && a->kept > ARTIFACTS_KEPT_BYTES; i++) {
        if (a->list[i]->state == ARTIFACT_KEPT && a->list[i] != artifact) {
            artifact_gone(a, a->list[i],
                          "its session has ended, and it was dropped to make room for newer files "
                          "(64 MiB of what outlives its session are kept)");
        }
    }
}

struct artifact *artifacts_live(const struct artifacts *a, const struct executor *executor)
{
    for (size_t i = a->count; i > 0; i--) {
        if (a->list[i - 1]->state == ARTIFACT_LIVE && a->list[i - 1]->executor == executor) {
            return a->list[i - 1];
        }
    }
    return NULL;
}

bool artifacts_all_gone(struct artifacts *a, const struct executor *executor, const char *why)
{
    struct artifact *artifact;
    bool any = false;

    while ((artifact = artifacts_live(a, executor))) {
        artifact_gone(a, artifact, why);
        any = true;
    }
    return any;
}

void artifacts_lost(struct artifacts *a, const struct executor *executor)
{
    if (artifacts_all_gone(a, executor, "the sandbox that it was in has ended")) {
        artifacts_changed(a);
    }
}

/* --- new ones --- */

static uint64_t origin_of(struct artifacts *a, const struct executor *executor)
{
    const struct artifact *other = artifacts_live(a, executor);

    return other ? other->origin : ++a->origins;
}

/* The oldest one that nobody can read any more goes, else the oldest. */
static void make_room(struct artifacts *a)
{
    size_t at = 0;

    while (at < a->count && a->list[at]->state != ARTIFACT_GONE && !a->list[at]->superseded) {
        at++;
    }
    at = at < a->count ? at : 0;
    a->kept -= a->list[at]->kept;
    artifact_free(a->list[at]);
    a->count--;
    memmove(a->list + at, a->list + at + 1, (a->count - at) * sizeof(struct artifact *));
}

/* A full output is absolute, and in a folder of ours: what is before that is no part of its name.
 */
static const char *shown_path(const char *path)
{
    const char *own = path[0] == '/' ? strstr(path, "/.cellblock/") : NULL;

    return own ? own + 1 : path;
}

static struct artifact *artifact_new(const struct artifact_origin *origin, const char *path,
                                     uint64_t size)
{
    struct artifact *artifact = calloc(1, sizeof(*artifact));

    if (!artifact) {
        return NULL;
    }
    artifact->path = strdup(path);
    path = shown_path(path);
    artifact->uri = artifact_uri(origin->session, origin->run, path);
    artifact->key = artifact->uri ? artifact_uri_key(artifact->uri) : NULL;
    artifact->name = file_name_text(path);
    artifact->executor = origin->executor;
    artifact->size = size;
    if (!artifact->path || !artifact->uri || !artifact->key || !artifact->name) {
        artifact_free(artifact);
        return NULL;
    }
    return artifact;
}

static struct artifact *add(struct artifacts *a, const struct artifact_origin *origin,
                            const char *path, uint64_t size)
{
    struct artifact *artifact = artifact_new(origin, path, size), *before;

    if (!artifact) {
        return NULL;
    }
    artifact->origin = origin_of(a, origin->executor);
    artifact->serial = ++a->serials;
    before = find_newest(a, artifact);
    if (before) {
        before->superseded = true;
    }
    if (a->count == ARTIFACTS_CAP) {
        make_room(a);
    }
    a->list[a->count++] = artifact;
    return artifact;
}

static json_t *described(const struct artifact *artifact)
{
    json_t *object = json_pack("{ss so sI}", "uri", artifact->uri, "name",
                               json_text(artifact->name, strlen(artifact->name)), "size",
                               (json_int_t)artifact->size);
    const char *mime = artifact_mime(artifact->path);

    if (object && mime) {
        json_object_set_new(object, "mimeType", json_string(mime));
    }
    return object;
}

json_t *artifacts_add(struct artifacts *a, const struct artifact_origin *origin,
                      const struct changed *changed, uint64_t *ret_left_out)
{
    json_t *links = json_array();
    size_t room = ARTIFACTS_LINK_BYTES, cost;
    unsigned linked = 0;

    /* From the oldest on, so that the list is in that order; the links are the other way round. */
    for (unsigned i = changed->count; i > 0; i--) {
        const struct changed_file *file = &changed->files[i - 1];
        const struct artifact *artifact = add(a, origin, file->path, file->size);

        if (!artifact || i > ARTIFACTS_OF_RUN) {
            continue;
        }
        cost = strlen(artifact->uri) + strlen(artifact->name) + LINK_ROOM;
        if (cost <= room && json_array_insert_new(links, 0, described(artifact)) == 0) {
            room -= cost;
            linked++;
        }
    }
    *ret_left_out = changed->more + changed->count - linked;
    if (changed->count > 0) {
        artifacts_changed(a);
    }
    return links;
}

json_t *artifacts_add_output(struct artifacts *a, const struct artifact_origin *origin,
                             const char *path, uint64_t size)
{
    struct artifact *artifact = add(a, origin, path, size);

    if (!artifact) {
        return NULL;
    }
    artifacts_changed(a);
    return described(artifact);
}

/* --- the list --- */

static uint64_t seal(const struct artifacts *a, uint64_t serial)
{
    uint64_t mixed = (serial ^ a->secret) * UINT64_C(0x9e3779b97f4a7c15);

    return (mixed ^ (mixed >> 29)) & 0xffffffffff;
}

static void cursor_write(const struct artifacts *a, uint64_t serial,
                         char space[ARTIFACT_CURSOR_SIZE])
{
    snprintf(space, ARTIFACT_CURSOR_SIZE, "r%" PRIx64 "-%010" PRIx64, serial, seal(a, serial));
}

/* The serial number that the page begins after. -1: none of ours. */
static int cursor_read(const struct artifacts *a, const char *cursor, uint64_t *ret)
{
    char whole[ARTIFACT_CURSOR_SIZE];
    uint64_t serial = 0;

    if (cursor) {
        serial = cursor[0] == 'r' ? strtoull(cursor + 1, NULL, 16) : 0;
        cursor_write(a, serial, whole);
        if (strcmp(whole, cursor) != 0) {
            return -1;
        }
    }
    *ret = serial;
    return 0;
}

int artifacts_list(const struct artifacts *a, const char *cursor, json_t **ret, bool *ret_memory)
{
    json_t *page = json_array(), *list = json_pack("{sO}", "resources", page);
    char next[ARTIFACT_CURSOR_SIZE];
    uint64_t after, last = 0;

    *ret_memory = !list;
    if (!list || cursor_read(a, cursor, &after) < 0) {
        json_decref(page);
        json_decref(list);
        return -1;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct artifact *artifact = a->list[i];

        if (artifact->serial <= after || artifact->state == ARTIFACT_GONE || artifact->superseded) {
            continue;
        }
        if (json_array_size(page) == ARTIFACTS_PAGE) {
            cursor_write(a, last, next);
            json_object_set_new(list, "nextCursor", json_string(next));
            break;
        }
        json_array_append_new(page, described(artifact));
        last = artifact->serial;
    }
    json_decref(page);
    *ret = list;
    return 0;
}
