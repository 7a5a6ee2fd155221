#include "backends/docker/pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/strings.h"
#include "backends/docker/registry.h"
#include "backends/docker/waiters.h"

struct image {
    struct engine *engine;
    const char *name;
    void (*on_line)(void *data, const char *line);
    void *data;
    struct image_facts facts;
    bool seen;
    bool busy;
    bool pulled; /* in this round: it is not tried twice */
    struct waiters waiters;
    json_t *layers; /* id → [current, total] of what is being fetched */
    char *refused;  /* the reason that the stream gave */
    char *advice;   /* of who we are to its registry; NULL */
    uint64_t told_ns;
};

struct image *image_new(struct engine *engine, const char *name,
                        void (*on_line)(void *data, const char *line), void *data)
{
    struct image *i = calloc(1, sizeof(*i));

    if (i) {
        i->engine = engine;
        i->name = name;
        i->on_line = on_line;
        i->data = data;
    }
    return i;
}

void image_facts_deinit(struct image_facts *facts)
{
    free(facts->id);
    free(facts->user);
    json_decref(facts->volumes);
    *facts = (struct image_facts){0};
}

void image_facts_take(struct image_facts *facts, json_t *reply)
{
    json_t *config = json_object_get(reply, "Config");
    const char *id = json_string_value(json_object_get(reply, "Id"));
    const char *user = json_string_value(json_object_get(config, "User"));
    json_t *volumes = json_object_get(config, "Volumes");

    image_facts_deinit(facts);
    facts->id = strdup(id ? id : "");
    facts->user = strdup(user ? user : "");
    facts->volumes = json_is_object(volumes) ? json_incref(volumes) : NULL;
}

static void drop_facts(struct image *i)
{
    image_facts_deinit(&i->facts);
    i->seen = false;
}

void image_free(struct image *i)
{
    drop_facts(i);
    json_decref(i->layers);
    free(i->refused);
    free(i->advice);
    free(i);
}

const struct image_facts *image_facts(const struct image *i)
{
    return i->seen ? &i->facts : NULL;
}

void image_forget(struct image *i)
{
    if (!i->busy) {
        drop_facts(i);
    }
}

char *image_full_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    bool tagged = strchr(slash ? slash : name, ':') || strchr(name, '@');

    return string_format("%s%s", name, tagged ? "" : ":latest");
}

static void tell(struct image *i, const struct error *err)
{
    i->busy = false;
    waiters_tell(&i->waiters, err);
}

/* ---- fetching ---- */

static void sum_layers(const struct image *i, json_int_t *ret_have, json_int_t *ret_all)
{
    const char *id;
    json_t *pair;

    *ret_have = *ret_all = 0;
    json_object_foreach(i->layers, id, pair)
    {
        *ret_have += json_integer_value(json_array_get(pair, 0));
        *ret_all += json_integer_value(json_array_get(pair, 1));
    }
}

static void tell_progress(struct image *i)
{
    uint64_t now = uv_hrtime();
    char line[400];
    json_int_t have;
    json_int_t all;

    if (now - i->told_ns < (uint64_t)PULL_LINE_MS * 1000000) {
        return;
    }
    i->told_ns = now;
    sum_layers(i, &have, &all);
    (void)snprintf(line, sizeof(line), "fetching the image %.200s: %lld of %lld MiB", i->name,
                   (long long)(have >> 20), (long long)(all >> 20));
    i->on_line(i->data, line);
}

static void take_layer(struct image *i, json_t *value)
{
    json_t *detail = json_object_get(value, "progressDetail");
    json_int_t current = json_integer_value(json_object_get(detail, "current"));
    json_int_t total = json_integer_value(json_object_get(detail, "total"));
    const char *id = json_string_value(json_object_get(value, "id"));
    const char *status = json_string_value(json_object_get(value, "status"));

    if (id && status && strcmp(status, "Downloading") == 0 && current >= 0 && total > 0 &&
        total < (json_int_t)1 << 50 && current <= total &&
        json_object_size(i->layers) < PULL_LAYERS_CAP) {
        json_object_set_new(i->layers, id, json_pack("[I, I]", current, total));
    }
}

static void on_value(void *data, json_t *value)
{
    struct image *i = data;
    const char *error = json_string_value(json_object_get(value, "error"));

    if (error && !i->refused) {
        i->refused = string_format("%.1000s", error);
        engine_plain(i->refused);
    }
    take_layer(i, value);
    tell_progress(i);
}

static void fail_pull(struct image *i, const char *reason)
{
    struct error err = {0};
    const struct engine_facts *facts = engine_facts(i->engine);

    error_set(&err, ERROR_LOST,
              "the image %.200s is not in the engine (%s), which could not fetch it: %s. Check the "
              "name, or bring it in with `docker pull`, `docker load -i FILE` or `docker import "
              "ROOT.tar NAME`%s%s",
              i->name, facts ? facts->name : "gone", reason, i->advice ? ". " : "",
              i->advice ? i->advice : "");
    tell(i, &err);
    error_clear(&err);
}

static void look(struct image *i);

static void on_pulled(void *data, long status, const struct error *err)
{
    struct image *i = data;

    (void)status;
    if (i->refused || err) {
        fail_pull(i, i->refused ? i->refused : err->message);
        return;
    }
    look(i);
}

/* The engine is told who we are to that registry, also one elsewhere: as by Docker's client.
 */
static void fetch(struct image *i, char *path)
{
    static const struct engine_lines_events events = {on_value, on_pulled};
    struct registry_login login = {0};
    struct error err = {0};

    free(i->advice);
    i->advice = NULL;
    if (registry_login_find(i->name, &login, &err) < 0) {
        free(path);
        fail_pull(i, err.message);
        error_clear(&err);
        return;
    }
    i->advice = login.advice;
    login.advice = NULL;
    if (!engine_lines_open(i->engine, "POST", path, (const char *const[]){login.header, NULL},
                           &events, i, &err)) {
        fail_pull(i, err.message);
    }
    registry_login_deinit(&login);
    error_clear(&err);
}

static void pull(struct image *i)
{
    char *full = image_full_name(i->name);
    char *escaped = full ? http_escape(full) : NULL;
    char *path = escaped ? string_format("/images/create?fromImage=%s", escaped) : NULL;

    free(full);
    free(escaped);
    free(i->refused);
    i->refused = NULL;
    json_decref(i->layers);
    i->layers = json_object();
    i->pulled = true;
    tell_progress(i);
    fetch(i, path);
}

/* ---- looking ---- */

static void on_inspected(void *data, long status, json_t *reply, const struct error *err)
{
    struct image *i = data;
    struct error why = {0};

    if (!err) {
        image_facts_take(&i->facts, reply);
        i->seen = true;
        tell(i, NULL);
    } else if (status == 404 && !i->pulled) {
        pull(i);
    } else if (status == 404) {
        fail_pull(i, "it says to have fetched it, and does not have it");
    } else {
        error_copy(&why, err);
        error_wrap(&why, "the image %.200s", i->name);
        tell(i, &why);
        error_clear(&why);
    }
}

static void look(struct image *i)
{
    char *escaped = http_escape(i->name);

    engine_call(i->engine, &(struct engine_call){
                               .method = "GET",
                               .path = escaped ? string_format("/images/%s/json", escaped) : NULL,
                               .done = on_inspected,
                               .data = i});
    free(escaped);
}

void image_ensure(struct image *i, engine_done done, void *data)
{
    if (!waiters_add(&i->waiters, done, data)) {
        return;
    }
    if (i->seen) {
        tell(i, NULL); /* callers are in a callback of the engine's already */
    } else if (!i->busy) {
        i->busy = true;
        i->pulled = false;
        look(i);
    }
}
