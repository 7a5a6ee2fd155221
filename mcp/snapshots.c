#include "mcp/snapshots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "mcp/session.h"
#include "mcp/session_tags.h"

struct snapshot {
    struct snapshot *next;
    char *id;   /* NULL: it is being made */
    char *name; /* NULL: none */
    char *session;
    const struct environment *base;
    json_t *contents; /* what its session had beyond `base`: image, packages */
    bool memory;
    uint64_t made_ms;
};

struct snapshots {
    struct snapshot *list; /* newest first */
    unsigned count;
};

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "a snapshot");
}

struct snapshots *snapshots_new(void)
{
    return calloc(1, sizeof(struct snapshots));
}

static void snapshot_free(struct snapshot *s)
{
    free(s->id);
    free(s->name);
    free(s->session);
    json_decref(s->contents);
    free(s);
}

void snapshots_free(struct snapshots *snapshots)
{
    struct snapshot *next;

    for (struct snapshot *s = snapshots ? snapshots->list : NULL; s; s = next) {
        next = s->next;
        snapshot_free(s);
    }
    free(snapshots);
}

/* ---- looking ---- */

static bool has_memory(const char *id)
{
    return strncmp(id, "sn-", 3) == 0;
}

/* As Modal's ids are, and of memory ours: a dot and a number follow. */
static bool is_id(const char *text)
{
    size_t n = strlen(text), most = n;

    if ((strncmp(text, "im-", 3) != 0 && !has_memory(text)) || n > SNAPSHOT_ID_CAP) {
        return false;
    }
    if (has_memory(text) && strchr(text, '.')) {
        most = (size_t)(strchr(text, '.') - text);
        n = strspn(text + most + 1, "0123456789") == n - most - 1 && n > most + 1 ? most : 0;
    }
    return n > 3 && strspn(text + 3, "0123456789abcdefghijklmnopqrstuvwxyz"
                                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ") >= most - 3;
}

static struct snapshot *look_up(const struct snapshots *snapshots, const char *name)
{
    for (struct snapshot *s = snapshots->list; s; s = s->next) {
        if ((s->id && strcmp(s->id, name) == 0) || (s->name && strcmp(s->name, name) == 0)) {
            return s;
        }
    }
    return NULL;
}

/* "trained (im-1234), im-5678"; the first of them say enough. */
static void list_names(const struct snapshots *snapshots, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (const struct snapshot *s = snapshots->list; s; s = s->next) {
        int n =
            s->id ? snprintf(text + used, size - used, "%s%s%s%s%s", used ? ", " : "",
                             s->name ? s->name : "", s->name ? " (" : "", s->id, s->name ? ")" : "")
                  : 0;

        if (n < 0 || (size_t)n >= size - used) {
            text[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
}

struct snapshot *snapshots_find(const struct snapshots *snapshots, const char *name,
                                struct error *err)
{
    struct snapshot *s = look_up(snapshots, name);
    char known[1024];

    if (s && s->id) {
        return s;
    }
    if (s) {
        error_set(err, ERROR_INVALID, "the snapshot \"%s\" is still being made", name);
        return NULL;
    }
    list_names(snapshots, known, sizeof(known));
    error_set(err, ERROR_NOT_FOUND, "there is no snapshot \"%.100s\" in this server; %s%s", name,
              known[0] ? "there are: " : "there are none, create_snapshot makes one", known);
    return NULL;
}

const char *snapshot_id(const struct snapshot *snapshot)
{
    return snapshot->id;
}

const struct environment *snapshot_base(const struct snapshot *snapshot)
{
    return snapshot->base;
}

json_t *snapshot_facts(const struct snapshot *s)
{
    uint64_t seconds = s->memory ? SNAPSHOT_MEMORY_SECONDS : SNAPSHOT_SECONDS;

    return json_pack("{ss ss* ss ss ss sb so so}", "id", s->id, "name", s->name, "session",
                     s->session, "environment", s->base->name, "backend", s->base->backend,
                     "memory", s->memory, "made_at", session_moment_json(s->made_ms), "expires_at",
                     session_moment_json(s->made_ms + seconds * 1000));
}

json_t *snapshots_list(const struct snapshots *snapshots)
{
    json_t *list = json_array();

    for (const struct snapshot *s = snapshots->list; s; s = s->next) {
        if (s->id) {
            json_array_append_new(list, snapshot_facts(s));
        }
    }
    return list;
}

/* ---- one that is made ---- */

static int check_source(const struct snapshots *snapshots, const struct snapshot_source *source,
                        struct error *err)
{
    if (snapshots->count >= SNAPSHOTS_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "this server knows %d snapshots, the most that it keeps; delete one with "
                         "delete_snapshot",
                         SNAPSHOTS_CAP);
    }
    if (!source->name) {
        return 0;
    }
    if (session_name_check(source->name, NULL) < 0 || is_id(source->name)) {
        return error_set(err, ERROR_INVALID,
                         "name \"%.80s\" is none for a snapshot: 1 to %d of A-Z a-z 0-9 _ . - are "
                         "allowed, and not as ids begin",
                         source->name, SESSION_NAME_CAP);
    }
    if (look_up(snapshots, source->name)) {
        return error_set(err, ERROR_INVALID,
                         "the name \"%s\" is another snapshot's; choose another, or delete that "
                         "one first",
                         source->name);
    }
    return 0;
}

/* What has come into the sandboxes of `env` besides those of the environment it was derived from.
 */
static json_t *contents_of(const struct environment *base, const struct environment *env)
{
    json_t *contents = json_object();

    if (contents && env->image && (!base->image || strcmp(base->image, env->image) != 0)) {
        json_object_set_new(contents, "image", json_string(env->image));
    }
    if (contents && !json_equal(base->packages, env->packages)) {
        json_object_set(contents, "packages", env->packages);
    }
    return contents;
}

/* And how they are limited, which a restored one is as well. */
static void add_limits(json_t *contents, const struct environment *base,
                       const struct environment *env)
{
    if (env->network == NETWORK_NONE && base->network != NETWORK_NONE) {
        json_object_set_new(contents, "network", json_string("none"));
    }
    if (env->cpu != base->cpu) {
        json_object_set_new(contents, "cpu", json_real(env->cpu));
    }
    if (env->memory_mib != base->memory_mib) {
        json_object_set_new(contents, "memory_mib", json_integer((json_int_t)env->memory_mib));
    }
    if (env->disk_mib != base->disk_mib) {
        json_object_set_new(contents, "disk_mib", json_integer((json_int_t)env->disk_mib));
    }
}

struct snapshot *snapshots_begin(struct snapshots *snapshots, const struct snapshot_source *source,
                                 struct error *err)
{
    struct snapshot *s;

    if (check_source(snapshots, source, err) < 0) {
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (!s) {
        out_of_memory(err);
        return NULL;
    }
    s->session = strdup(source->session);
    s->base = source->base;
    s->name = source->name ? strdup(source->name) : NULL;
    s->memory = source->memory;
    s->contents = contents_of(source->base, source->env);
    if (s->contents && s->memory) {
        add_limits(s->contents, source->base, source->env);
    }
    if (!s->session || !s->contents || (source->name && !s->name)) {
        snapshot_free(s);
        out_of_memory(err);
        return NULL;
    }
    s->next = snapshots->list;
    snapshots->list = s;
    snapshots->count++;
    return s;
}

int snapshots_made(struct snapshot *snapshot, const char *id)
{
    snapshot->id = id ? strdup(id) : NULL;
    snapshot->made_ms = session_wall_ms();
    return snapshot->id ? 0 : -1;
}

void snapshots_drop(struct snapshots *snapshots, struct snapshot *snapshot)
{
    for (struct snapshot **at = &snapshots->list; *at; at = &(*at)->next) {
        if (*at == snapshot) {
            *at = snapshot->next;
            snapshots->count--;
            snapshot_free(snapshot);
            return;
        }
    }
}

/* ---- one that a session begins with ---- */

/* Its sandbox is as the one that it was taken of. */
static int check_as_it_was(const json_t *arguments, struct error *err)
{
    static const char *const others[] = {"cpu",        "disk_mib", "env",     "gpu",
                                         "memory_mib", "mode",     "network", "workdir"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (json_object_get(arguments, others[i])) {
            return error_set(err, ERROR_INVALID,
                             "%s: a session that begins with a memory snapshot is as the one that "
                             "it was taken of; leave it out",
                             others[i]);
        }
    }
    return 0;
}

static int check_alone(const json_t *arguments, struct error *err)
{
    static const char *const others[] = {"image", "packages"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (json_object_get(arguments, others[i])) {
            return error_set(err, ERROR_INVALID,
                             "%s: a session that begins with a snapshot has what is in that, image "
                             "and packages too; leave it out, and install what is missing in the "
                             "session",
                             others[i]);
        }
    }
    return 0;
}

/* One of its own environment's, with what its session had besides that. */
static int wish_for_own(const struct snapshot *s, json_t *wishes)
{
    return json_object_set_new(wishes, "environment", json_string(s->base->name)) |
           json_object_update(wishes, s->contents) |
           json_object_set_new(wishes, "snapshot", json_string(s->id));
}

/* Nobody knows what is in it: it is an image, which the owner has listed or not. */
static int wish_for_image(const char *id, json_t *wishes)
{
    return json_object_set_new(wishes, "image", json_string(id)) |
           json_object_set_new(wishes, "snapshot", json_string(id));
}

static int check_backend(const struct config *config, const char *name, struct error *err)
{
    const struct environment *env =
        name ? config_environment(config, name, err) : config->default_environment;
    const struct backend *backend = env ? backend_find(env->backend, err) : NULL;
    char *others;

    if (!backend || backend->settings & SETTING_SNAPSHOT) {
        return backend ? 0 : -1;
    }
    others = backends_with(CAP_SNAPSHOT);
    error_set(err, ERROR_UNSUPPORTED,
              "snapshot: a session of backend \"%s\" cannot begin with one. Backends that have "
              "snapshots: %s",
              backend->name, others ? others : "?");
    free(others);
    return -1;
}

/* What `name` means; -1 with an error. *ret NULL: an image of that id. */
static int choose(const struct snapshots *snapshots, const struct config *config,
                  const json_t *arguments, const char *name, const struct snapshot **ret,
                  struct error *err)
{
    const char *where = json_string_value(json_object_get(arguments, "environment"));
    const struct snapshot *s = look_up(snapshots, name);

    if (check_alone(arguments, err) < 0 ||
        (has_memory(s ? s->id ? s->id : "" : name) && check_as_it_was(arguments, err) < 0) ||
        check_backend(config, s && !where ? s->base->name : where, err) < 0) {
        return -1;
    }
    if ((s || !is_id(name)) && !snapshots_find(snapshots, name, err)) {
        return -1;
    }
    *ret = s && (!where || strcmp(where, s->base->name) == 0) ? s : NULL;
    return 0;
}

int snapshots_wishes(const struct snapshots *snapshots, const struct config *config,
                     const json_t *arguments, json_t **ret, struct error *err)
{
    const char *name = json_string_value(json_object_get(arguments, "snapshot"));
    const struct snapshot *own = NULL, *s = name ? look_up(snapshots, name) : NULL;
    json_t *wishes;
    int r = 0;

    if (name && choose(snapshots, config, arguments, name, &own, err) < 0) {
        return -1;
    }
    wishes = json_copy((json_t *)arguments);
    if (wishes && own) {
        r = wish_for_own(own, wishes);
    } else if (wishes && name) {
        r = wish_for_image(s ? s->id : name, wishes);
    }
    if (!wishes || r != 0) {
        json_decref(wishes);
        return out_of_memory(err);
    }
    *ret = wishes;
    return 0;
}
