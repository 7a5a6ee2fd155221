#include "mcp/session_secrets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/wipe.h"
#include "mcp/artifacts.h"
#include "mcp/secrets.h"
#include "mcp/session_private.h"

struct mask *sessions_mask(const struct sessions *sessions)
{
    return sessions->mask;
}

struct mask *session_mask(const struct session *s)
{
    return s->owner->mask;
}

/* --- the mask of all --- */

struct known {
    struct mask_value *values;
    size_t count, room;
};

static bool is_known(const struct known *known, const char *name, const char *value)
{
    for (size_t i = 0; i < known->count; i++) {
        if (strcmp(known->values[i].value, value) == 0 &&
            strcmp(known->values[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int add_known(struct known *known, const json_t *secrets)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)secrets, name, value)
    {
        if (is_known(known, name, json_string_value(value))) {
            continue;
        }
        if (known->count == known->room) {
            size_t room = known->room ? 2 * known->room : 16;
            struct mask_value *grown = reallocarray(known->values, room, sizeof(*grown));

            if (!grown) {
                return -1;
            }
            known->values = grown;
            known->room = room;
        }
        known->values[known->count++] = (struct mask_value){name, json_string_value(value)};
    }
    return 0;
}

/* -1 when out of memory: then the old one stays. */
static int remake_mask(struct sessions *sessions)
{
    struct known known = {0};
    struct mask *mask = NULL;
    int r = 0;

    for (const struct session *s = sessions->list; s && r == 0; s = s->next) {
        r = add_known(&known, s->secrets);
    }
    if (r == 0 && known.count > 0) {
        mask = mask_new(known.values, known.count);
        r = mask ? 0 : -1;
    }
    free(known.values);
    if (r == 0) {
        mask_unref(sessions->mask);
        sessions->mask = mask;
        artifacts_mask(sessions->artifacts, mask);
    }
    return r;
}

/* --- one session --- */

static int keep(struct session *s, json_t *values_owned, struct error *err)
{
    s->secrets = values_owned;
    if (remake_mask(s->owner) == 0) {
        return 0;
    }
    wipe_texts(s->secrets);
    s->secrets = NULL;
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "secrets");
}

/* A waiter may take out others, and itself. */
static void tell(struct session *s, const struct error *err)
{
    struct secret_wait *wait;

    while ((wait = s->secret_waits)) {
        s->secret_waits = wait->next;
        wait->ready(wait->data, err);
    }
}

static void on_fetched(void *data, json_t *values, const struct error *failed)
{
    struct session *s = data;
    struct error err = {0};

    s->secret_fetch = NULL;
    session_begin(s); /* those that are told may be the last that use it */
    if (failed) {
        tell(s, failed);
    } else {
        tell(s, keep(s, values, &err) < 0 ? &err : NULL);
    }
    error_clear(&err);
    session_end(s);
}

static void add_wait(struct session *s, struct secret_wait *wait)
{
    struct secret_wait **end = &s->secret_waits;

    while (*end) {
        end = &(*end)->next;
    }
    wait->next = NULL;
    *end = wait;
}

int session_need_secrets(struct session *s, struct secret_wait *wait, struct error *err)
{
    json_t *values = NULL;
    int r = s->secret_fetch ? 1 : 0;

    if (json_array_size(s->env->secrets) == 0 || s->secrets) {
        return 0;
    }
    if (r == 0) {
        r = secret_fetch_start(s->owner->loop, s->owner->config->secrets, s->env->secrets,
                               on_fetched, s, &s->secret_fetch, &values, err);
    }
    if (r == 1) {
        add_wait(s, wait);
    }
    return r == 0 ? keep(s, values, err) : r;
}

void session_forget_secrets(struct session *s, struct secret_wait *wait)
{
    struct secret_wait **link = &s->secret_waits;

    while (*link && *link != wait) {
        link = &(*link)->next;
    }
    if (*link) {
        *link = wait->next;
    }
}

void session_stop_secrets(struct session *s)
{
    struct error err = {0};

    if (s->secret_fetch) {
        secret_fetch_cancel(s->secret_fetch);
        s->secret_fetch = NULL;
        error_set(&err, ERROR_LOST, "session %s was ended before its secrets were there", s->id);
        tell(s, &err);
        error_clear(&err);
    }
}

void session_drop_secrets(struct session *s)
{
    json_t *values = s->secrets;

    if (values) {
        s->secrets = NULL;
        (void)remake_mask(s->owner);
        wipe_texts(values);
    }
}
