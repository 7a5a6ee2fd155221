#include "mcp/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/base/wipe.h"
#include "mcp/schema.h"
#include "mcp/secret_tool.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
#define VARIABLE_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

enum {
    NAME_CAP = 64,
    VALUE_ROOM = MASK_VALUE_CAP + 3, /* a line end, and one more to see that it is too long */
};

static int out_of_memory(struct error *err)
{
    return error_set_code(err, ERROR_INTERNAL, ENOMEM, "secrets");
}

static bool is_word(const json_t *text, const char *characters)
{
    const char *word = json_string_value(text);

    return word && word[0] && strlen(word) == json_string_length(text) &&
           strspn(word, characters) == strlen(word);
}

/* --- the table --- */

static const char *const sources[] = {"env", "file", "secret_tool"};

static int check_texts(const json_t *secret, struct error *err)
{
    const json_t *list = json_object_get(secret, "secret_tool"), *word;
    const char *path = json_string_value(json_object_get(secret, "file"));
    size_t index;

    json_array_foreach(list, index, word)
    {
        if (strlen(json_string_value(word)) != json_string_length(word)) {
            return error_set(err, ERROR_INVALID, "secret_tool[%zu] holds a NUL", index);
        }
    }
    if (list && json_array_size(list) % 2 != 0) {
        return error_set(err, ERROR_INVALID,
                         "secret_tool has %zu words; attributes and their values by turns are "
                         "expected, as in [\"service\", \"mail\"]",
                         json_array_size(list));
    }
    if (path && path[0] != '/' && strncmp(path, "~/", 2) != 0) {
        return error_set(err, ERROR_INVALID,
                         "file \"%.200s\" is neither an absolute path nor one from ~/", path);
    }
    return 0;
}

static int check_secret(const json_t *secret, struct error *err)
{
    const json_t *variable = json_object_get(secret, "variable");
    unsigned given = 0;

    for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
        const json_t *source = json_object_get(secret, sources[i]);

        given += source != NULL;
        if (json_is_string(source) &&
            strlen(json_string_value(source)) != json_string_length(source)) {
            return error_set(err, ERROR_INVALID, "%s holds a NUL", sources[i]);
        }
    }
    if (given != 1) {
        return error_set(err, ERROR_INVALID,
                         "%u of env, file and secret_tool are given; exactly one says where the "
                         "value is",
                         given);
    }
    if (!is_word(variable, VARIABLE_CHARACTERS) ||
        strchr("0123456789", json_string_value(variable)[0])) {
        return error_set(err, ERROR_INVALID,
                         "variable \"%.64s\" is no name of a variable: letters, digits and _ are "
                         "allowed, not starting with a digit",
                         json_string_value(variable));
    }
    return check_texts(secret, err);
}

int secrets_check_table(const json_t *table, struct error *err)
{
    const char *name;
    json_t *secret;

    if (json_object_size(table) > SECRETS_CAP) {
        return error_set(err, ERROR_INVALID, "secrets: there are %zu, at most %d are allowed",
                         json_object_size(table), SECRETS_CAP);
    }
    json_object_foreach((json_t *)table, name, secret)
    {
        if (!name[0] || strlen(name) > NAME_CAP || strspn(name, NAME_CHARACTERS) != strlen(name)) {
            return error_set(err, ERROR_INVALID,
                             "secrets: \"%.80s\" is no name for a secret: 1 to 64 of A-Z a-z 0-9 _ "
                             ". - are allowed",
                             name);
        }
        if (check_secret(secret, err) < 0) {
            return error_wrap(err, "secrets.%s", name);
        }
    }
    return 0;
}

const char *secrets_variable(const json_t *table, const char *name)
{
    return json_string_value(json_object_get(json_object_get(table, name), "variable"));
}

static int unknown_name(const json_t *table, const char *name, struct error *err)
{
    const char *names[SECRETS_CAP + 1] = {0}, *known, *near;
    size_t count = 0;
    json_t *ignored;

    json_object_foreach((json_t *)table, known, ignored)
    {
        if (count < SECRETS_CAP) {
            names[count++] = known;
        }
    }
    near = nearest_word(name, names);
    return error_set(err, ERROR_INVALID,
                     "there is no secret \"%.64s\"%s%s%s; the config's table \"secrets\" says what "
                     "each one is",
                     name, near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

int secrets_check_names(const json_t *table, const json_t *names, struct error *err)
{
    json_t *seen = json_object(), *word;
    size_t index;
    int r = 0;

    if (json_array_size(names) > SECRETS_SESSION_CAP) {
        r = error_set(err, ERROR_INVALID, "secrets: there are %zu, at most %d are allowed",
                      json_array_size(names), SECRETS_SESSION_CAP);
    }
    for (index = 0; r == 0 && (word = json_array_get(names, index)); index++) {
        const char *name = json_string_value(word), *variable = secrets_variable(table, name);
        const char *other = variable ? json_string_value(json_object_get(seen, variable)) : NULL;

        if (!variable) {
            r = unknown_name(table, name, err);
        } else if (other && strcmp(other, name) != 0) {
            r = error_set(err, ERROR_INVALID,
                          "secrets \"%s\" and \"%s\" are both for the variable %s: name one", other,
                          name, variable);
        } else if (json_object_set(seen, variable, word) < 0) {
            r = out_of_memory(err);
        }
    }
    json_decref(seen);
    return r;
}

/* --- one value --- */

/* Puts it among the values. Nothing of it is in an error. */
static int take_value(json_t *values, const char *name, const char *bytes, size_t size,
                      struct error *err)
{
    json_t *text;

    if (size < MASK_VALUE_MIN || size > MASK_VALUE_CAP) {
        return error_set(
            err, ERROR_REFUSED, "its value has %s bytes than the %d that it may have%s",
            size > MASK_VALUE_CAP ? "more" : "fewer",
            size > MASK_VALUE_CAP ? MASK_VALUE_CAP : MASK_VALUE_MIN,
            size > MASK_VALUE_CAP ? "" : ": so short a one cannot be masked in output");
    }
    if (memchr(bytes, '\0', size)) {
        return error_set(err, ERROR_REFUSED, "its value holds a NUL, which no variable may");
    }
    text = json_stringn(bytes, size);
    if (!text) {
        return error_set(err, ERROR_REFUSED, "its value is no UTF-8 text");
    }
    return json_object_set_new(values, name, text) < 0 ? out_of_memory(err) : 0;
}

static size_t without_line_end(const char *bytes, size_t size)
{
    size -= size > 0 && bytes[size - 1] == '\n';
    size -= size > 0 && bytes[size - 1] == '\r';
    return size;
}

static int take_variable(json_t *values, const char *name, const char *variable, struct error *err)
{
    const char *value = getenv(variable);

    if (!value) {
        return error_set(err, ERROR_REFUSED,
                         "the variable %.100s is not set where the server was started: set it "
                         "there, and start the server again",
                         variable);
    }
    return take_value(values, name, value, strlen(value), err);
}

static int check_file(int fd, const char *path, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return error_set_code(err, ERROR_REFUSED, errno, "file %.200s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(err, ERROR_REFUSED, "%.200s is no regular file", path);
    }
    if (st.st_uid != geteuid()) {
        return error_set(err, ERROR_REFUSED,
                         "file %.200s belongs to the user with the number %u, and the server runs "
                         "as %u: chown it",
                         path, st.st_uid, geteuid());
    }
    if (st.st_mode & 077) {
        return error_set(err, ERROR_REFUSED,
                         "file %.200s has mode %03o, so that others may read or change it: "
                         "chmod 600 it",
                         path, st.st_mode & 0777);
    }
    return 0;
}

static int read_file(int fd, char space[VALUE_ROOM], size_t *ret_size)
{
    ssize_t n = 1;

    *ret_size = 0;
    while (n > 0 && *ret_size < VALUE_ROOM) {
        n = read(fd, space + *ret_size, VALUE_ROOM - *ret_size);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        *ret_size += n > 0 ? (size_t)n : 0;
    }
    return n < 0 ? -errno : 0;
}

static int take_open_file(json_t *values, const char *name, int fd, const char *path,
                          struct error *err)
{
    char space[VALUE_ROOM];
    size_t size;
    int r;

    if (check_file(fd, path, err) < 0) {
        return -1;
    }
    r = read_file(fd, space, &size);
    if (r < 0) {
        r = error_set_code(err, ERROR_REFUSED, r, "file %.200s", path);
    } else if (take_value(values, name, space, without_line_end(space, size), err) < 0) {
        r = error_wrap(err, "file %.200s", path);
    }
    explicit_bzero(space, sizeof(space));
    return r;
}

static int take_file(json_t *values, const char *name, const char *given, struct error *err)
{
    const char *home = getenv("HOME");
    char *path =
        given[0] == '~' ? string_format("%s%s", home ? home : "", given + 1) : strdup(given);
    int fd, r;

    if (!path) {
        return out_of_memory(err);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ELOOP) {
        r = error_set(err, ERROR_REFUSED, "file %.200s is a symbolic link: name the file itself",
                      path);
    } else if (fd < 0) {
        r = error_set_code(err, ERROR_REFUSED, errno, "file %.200s", path);
    } else {
        r = take_open_file(values, name, fd, path, err);
        close(fd);
    }
    free(path);
    return r;
}

/* --- all of them --- */

struct secret_fetch {
    uv_loop_t *loop;
    const json_t *table; /* the config's, which outlives us */
    json_t *names, *values;
    size_t next; /* of names */
    struct secret_tool *tool;
    secret_done done;
    void *data;
};

static void fetch_free(struct secret_fetch *fetch)
{
    wipe_texts(fetch->values);
    json_decref(fetch->names);
    free(fetch);
}

static const char *current(const struct secret_fetch *fetch)
{
    return json_string_value(json_array_get(fetch->names, fetch->next));
}

static int say_which(const struct secret_fetch *fetch, struct error *err)
{
    return error_wrap(err,
                      "secret \"%s\" is not there, so nothing was run; the owner of this machine "
                      "has to mend it (secrets.%s in the config)",
                      current(fetch), current(fetch));
}

static void on_tool(void *data, const char *bytes, size_t size, const struct error *failed);

/* 1: a helper was asked for the current one. */
static int fetch_one(struct secret_fetch *fetch, struct error *err)
{
    const json_t *secret = json_object_get(fetch->table, current(fetch));
    const json_t *env = json_object_get(secret, "env"), *file = json_object_get(secret, "file");

    if (env) {
        return take_variable(fetch->values, current(fetch), json_string_value(env), err);
    }
    if (file) {
        return take_file(fetch->values, current(fetch), json_string_value(file), err);
    }
    fetch->tool = secret_tool_start(fetch->loop, json_object_get(secret, "secret_tool"),
                                    SECRETS_TOOL_SECONDS, on_tool, fetch, err);
    return fetch->tool ? 1 : -1;
}

/* 0: all are there. */
static int fetch_rest(struct secret_fetch *fetch, struct error *err)
{
    for (; fetch->next < json_array_size(fetch->names); fetch->next++) {
        int r = fetch_one(fetch, err);

        if (r != 0) {
            return r < 0 ? say_which(fetch, err) : r;
        }
    }
    return 0;
}

static void on_tool(void *data, const char *bytes, size_t size, const struct error *failed)
{
    struct secret_fetch *fetch = data;
    struct error err = {0};
    int r;

    fetch->tool = NULL;
    if (failed) {
        error_copy(&err, failed);
        r = say_which(fetch, &err);
    } else if (take_value(fetch->values, current(fetch), bytes, without_line_end(bytes, size),
                          &err) < 0) {
        r = say_which(fetch, &err);
    } else {
        fetch->next++;
        r = fetch_rest(fetch, &err);
    }
    if (r != 1) {
        json_t *values = r == 0 ? fetch->values : NULL;

        fetch->values = r == 0 ? NULL : fetch->values;
        fetch->done(fetch->data, values, r < 0 ? &err : NULL);
        fetch_free(fetch);
    }
    error_clear(&err);
}

int secret_fetch_start(uv_loop_t *loop, const json_t *table, const json_t *names, secret_done done,
                       void *data, struct secret_fetch **ret_fetch, json_t **ret_values,
                       struct error *err)
{
    struct secret_fetch *fetch = calloc(1, sizeof(*fetch));
    int r;

    if (!fetch) {
        return out_of_memory(err);
    }
    *fetch = (struct secret_fetch){.loop = loop,
                                   .table = table,
                                   .names = json_copy((json_t *)names),
                                   .values = json_object(),
                                   .done = done,
                                   .data = data};
    r = fetch->names && fetch->values ? fetch_rest(fetch, err) : out_of_memory(err);
    if (r == 1) {
        *ret_fetch = fetch;
        return 1;
    }
    if (r == 0) {
        *ret_values = fetch->values;
        fetch->values = NULL;
    }
    fetch_free(fetch);
    return r;
}

void secret_fetch_cancel(struct secret_fetch *fetch)
{
    secret_tool_cancel(fetch->tool);
    fetch_free(fetch);
}

struct fetched {
    struct secret_fetch *fetch; /* while it goes on */
    json_t *values;
    struct error *err;
};

static void on_fetched(void *data, json_t *values, const struct error *err)
{
    struct fetched *fetched = data;

    fetched->fetch = NULL;
    fetched->values = values;
    if (err) {
        error_copy(fetched->err, err);
    }
}

json_t *secrets_fetch_now(const json_t *table, const json_t *names, struct error *err)
{
    struct fetched fetched = {.err = err};
    uv_loop_t loop;

    if (uv_loop_init(&loop) < 0) {
        out_of_memory(err);
        return NULL;
    }
    secret_fetch_start(&loop, table, names, on_fetched, &fetched, &fetched.fetch, &fetched.values,
                       err);
    uv_run(&loop, UV_RUN_DEFAULT);
    if (fetched.fetch) {
        secret_fetch_cancel(fetched.fetch);
    }
    uv_loop_close(&loop);
    return fetched.values;
}

/* --- what becomes of them --- */

int secrets_to_env(const json_t *table, const json_t *values, json_t *env)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)values, name, value)
    {
        if (json_object_set(env, secrets_variable(table, name), value) < 0) {
            return -1;
        }
    }
    return 0;
}

struct mask *secrets_mask(const json_t *values)
{
    struct mask_value found[SECRETS_SESSION_CAP];
    size_t count = 0;
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)values, name, value)
    {
        if (count < SECRETS_SESSION_CAP) {
            found[count++] = (struct mask_value){name, json_string_value(value)};
        }
    }
    return mask_new(found, count);
}
