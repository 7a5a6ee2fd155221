#include "backends/modal/credentials.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <uv.h>

#include "backends/base/strings.h"
#include "backends/modal/toml.h"

/* What the settings are looked up in. */
struct found {
    json_t *tables;      /* of the file; never NULL */
    char *path;          /* of the file; for messages */
    const char *profile; /* its name, borrowed */
    bool named;          /* and it was MODAL_PROFILE that named it */
};

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "out of memory");
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* ---- the file ---- */

static char *file_path(void)
{
    const char *given = variable("MODAL_CONFIG_PATH");
    char home[PATH_MAX];
    size_t size = sizeof(home);

    if (given) {
        return strdup(given);
    }
    if (uv_os_homedir(home, &size) < 0) {
        return strdup("/nonexistent/.modal.toml");
    }
    return string_format("%s/.modal.toml", home);
}

/* All of a small file, to be wiped and freed. -errno; -EFBIG past the cap. */
static ssize_t read_all(const char *path, char *space, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t size = 0;
    ssize_t n;

    if (fd < 0) {
        return -errno;
    }
    while ((n = read(fd, space + size, room - size)) > 0) {
        size += (size_t)n;
    }
    if (n < 0) {
        n = -errno;
    } else {
        n = size < room ? (ssize_t)size : -EFBIG;
    }
    close(fd);
    return n;
}

static int parse_file(struct found *f, const char *text, size_t size, struct error *err)
{
    f->tables = toml_read(text, size, err);
    return f->tables ? 0 : error_wrap(err, "%s", f->path);
}

static int load_file(struct found *f, struct error *err)
{
    const char *remote = getenv("MODAL_IS_REMOTE");
    char *text;
    ssize_t size = -ENOENT;
    int r = 0;

    f->path = file_path();
    text = malloc(TOML_SIZE_CAP);
    if (!f->path || !text) {
        free(text);
        return no_memory(err);
    }
    if (!remote || strcmp(remote, "1") != 0) {
        size = read_all(f->path, text, TOML_SIZE_CAP);
    }
    if (size >= 0) {
        r = parse_file(f, text, (size_t)size, err);
        explicit_bzero(text, (size_t)size);
    } else if (size == -ENOENT || size == -ENOTDIR) {
        f->tables = json_object();
        r = f->tables ? 0 : no_memory(err);
    } else {
        r = error_set_code(err, ERROR_INVALID, (int)size, "%s cannot be read", f->path);
    }
    free(text);
    return r;
}

/* ---- the profile ---- */

static int choose_profile(struct found *f, struct error *err)
{
    const char *named = variable("MODAL_PROFILE");
    const char *name, *active = NULL;
    unsigned count = 0;
    json_t *table;

    json_object_foreach(f->tables, name, table)
    {
        if (json_is_true(json_object_get(table, "active"))) {
            active = count++ == 0 ? name : active;
        }
    }
    f->named = named != NULL;
    f->profile = named ? named : active ? active : "default";
    if (count > 1) {
        return error_set(err, ERROR_INVALID,
                         "%s: more than one profile is active; say which with `modal profile "
                         "activate NAME`",
                         f->path);
    }
    if (count == 0 && json_object_size(f->tables) > 1 && strcmp(f->profile, "default") == 0) {
        return error_set(err, ERROR_INVALID,
                         "%s has several profiles and none is active; say which with `modal "
                         "profile activate NAME` or MODAL_PROFILE",
                         f->path);
    }
    return 0;
}

/* ---- one setting ---- */

/* What says it: the variable, the profile's value (*ret_value), or neither. */
static const char *look_up(const struct found *f, const char *setting, json_t **ret_value)
{
    char name[64] = "MODAL_";
    size_t n = strlen(name);

    for (const char *c = setting; *c && n < sizeof(name) - 1; c++) {
        name[n++] = (char)toupper((unsigned char)*c);
    }
    name[n] = '\0';
    *ret_value = json_object_get(json_object_get(f->tables, f->profile), setting);
    return getenv(name);
}

/* It travels in a header: what no header can hold is refused here. */
static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

/* *ret stays NULL when nobody says it, or says "". */
static int get_text(const struct found *f, const char *setting, char **ret, struct error *err)
{
    json_t *value;
    const char *text = look_up(f, setting, &value);
    size_t size = text ? strlen(text) : json_string_length(value);

    if (!text && value && !json_is_string(value)) {
        return error_set(err, ERROR_INVALID, "%s: %s of the profile \"%.100s\" must be a text",
                         f->path, setting, f->profile);
    }
    text = text ? text : json_string_value(value);
    if (!text || size == 0) {
        return 0;
    }
    if (strlen(text) != size || !is_plain(text)) {
        return error_set(
            err, ERROR_INVALID,
            "Modal's setting %s holds characters that it cannot (control characters and what "
            "is not ASCII): see MODAL_… and %s",
            setting, f->path);
    }
    *ret = strdup(text);
    return *ret ? 0 : no_memory(err);
}

/* As the official client: everything is yes but "", "0" and "false". */
static bool get_bool(const struct found *f, const char *setting, bool otherwise)
{
    json_t *value;
    const char *text = look_up(f, setting, &value);

    if (!text && !value) {
        return otherwise;
    }
    if (!text && !json_is_string(value)) {
        return !json_is_false(value) && !(json_is_integer(value) && json_integer_value(value) == 0);
    }
    text = text ? text : json_string_value(value);
    return *text && strcmp(text, "0") != 0 && strcasecmp(text, "false") != 0;
}

/* ---- all of them ---- */

static int read_texts(const struct found *f, struct modal_credentials *c, struct error *err)
{
    const struct {
        const char *name;
        char **to;
    } settings[] = {
        {"server_url", &c->server_url},           {"token_id", &c->token_id},
        {"token_secret", &c->token_secret},       {"oauth_refresh_token", &c->oauth_refresh_token},
        {"oauth_client_id", &c->oauth_client_id}, {"oauth_client_secret", &c->oauth_client_secret},
        {"environment", &c->environment},         {"image_builder_version", &c->builder_version},
    };

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (get_text(f, settings[i].name, settings[i].to, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int fill_defaults(const struct found *f, struct modal_credentials *c, struct error *err)
{
    json_t *value;

    c->server_url = c->server_url ? c->server_url : strdup(MODAL_SERVER_URL_DEFAULT);
    c->environment = c->environment ? c->environment : strdup("");
    c->profile = look_up(f, c->oauth_client_id ? "oauth_client_id" : "token_id", &value)
                     ? strdup("the environment")
                     : string_format("the profile \"%s\" of %s", f->profile, f->path);
    c->sandbox_v2 = get_bool(f, "sandbox_v2", true);
    c->force_build = get_bool(f, "force_build", false);
    c->ignore_cache = get_bool(f, "ignore_cache", false);
    return c->server_url && c->environment && c->profile ? 0 : no_memory(err);
}

static int refuse_missing(const struct found *f, struct error *err)
{
    if (f->named && !json_object_get(f->tables, f->profile)) {
        return error_set(err, ERROR_REFUSED,
                         "there is no profile \"%.100s\" (MODAL_PROFILE) in %s. `modal profile "
                         "list` shows those that are there, `modal token new --profile %.100s` "
                         "makes it",
                         f->profile, f->path, f->profile);
    }
    return error_set(err, ERROR_REFUSED,
                     "no token for Modal: neither MODAL_TOKEN_ID with MODAL_TOKEN_SECRET nor the "
                     "profile \"%.100s\" of %s. Register at modal.com, then make one with `pip "
                     "install modal` and `modal token new`",
                     f->profile, f->path);
}

static int check_kind(const struct found *f, const struct modal_credentials *c, struct error *err)
{
    json_t *value;
    const char *key = look_up(f, "oauth_jwt_key", &value);
    bool oauth = c->oauth_refresh_token || c->oauth_client_id || c->oauth_client_secret;

    if ((key && key[0]) || value) {
        return error_set(
            err, ERROR_UNSUPPORTED,
            "Modal's setting oauth_jwt_key is not known here; use oauth_client_secret, "
            "or a token (`modal token new`)");
    }
    if (oauth && (c->token_id || c->token_secret)) {
        return error_set(err, ERROR_INVALID,
                         "there are both a token for Modal and OAuth's settings; unset "
                         "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or MODAL_OAUTH_…");
    }
    if (oauth && !(c->oauth_refresh_token && c->oauth_client_id && c->oauth_client_secret)) {
        return error_set(err, ERROR_INVALID,
                         "Modal's OAuth needs all of MODAL_OAUTH_REFRESH_TOKEN, "
                         "MODAL_OAUTH_CLIENT_ID and MODAL_OAUTH_CLIENT_SECRET");
    }
    return oauth || (c->token_id && c->token_secret) ? 0 : refuse_missing(f, err);
}

int modal_credentials_find(struct modal_credentials *ret, struct error *err)
{
    struct modal_credentials c = {0};
    struct found f = {0};
    int r = load_file(&f, err);

    if (r == 0) {
        r = choose_profile(&f, err);
    }
    if (r == 0) {
        r = read_texts(&f, &c, err);
    }
    if (r == 0) {
        r = check_kind(&f, &c, err);
    }
    if (r == 0) {
        r = fill_defaults(&f, &c, err);
    }
    if (r == 0) {
        *ret = c;
    } else {
        modal_credentials_clear(&c);
    }
    toml_wipe(f.tables);
    free(f.path);
    return r;
}

/* ---- keeping them ---- */

enum { TEXTS = 9 };

static void texts_of(struct modal_credentials *c, char **ret[TEXTS])
{
    char **all[TEXTS] = {&c->server_url,          &c->token_id,        &c->token_secret,
                         &c->oauth_refresh_token, &c->oauth_client_id, &c->oauth_client_secret,
                         &c->environment,         &c->builder_version, &c->profile};
    memcpy(ret, all, sizeof(all));
}

int modal_credentials_copy(struct modal_credentials *to, const struct modal_credentials *from)
{
    char **its[TEXTS];
    bool failed = false;

    *to = *from;
    texts_of(to, its);
    for (unsigned i = 0; i < TEXTS; i++) {
        const char *text = *its[i];
        *its[i] = text ? strdup(text) : NULL;
        failed = failed || (text && !*its[i]);
    }
    if (failed) {
        modal_credentials_clear(to);
        return -ENOMEM;
    }
    return 0;
}

void modal_credentials_clear(struct modal_credentials *credentials)
{
    char **its[TEXTS];

    texts_of(credentials, its);
    for (unsigned i = 0; i < TEXTS; i++) {
        if (*its[i]) {
            explicit_bzero(*its[i], strlen(*its[i]));
            free(*its[i]);
        }
    }
    *credentials = (struct modal_credentials){0};
}
