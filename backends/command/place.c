#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/command/command.h"
#include "backends/command/internal.h"

enum {
    FILL_MS = 200, /* after a use: the run goes first */
    MS = 1000,
};

static const char *const languages[] = {"python", "shell", NULL};

/* ---- the pool ---- */

unsigned command_pool_wanted(const struct command_place *place)
{
    const struct environment *env = place->base.env;

    /* What runs elsewhere costs: a pool is only kept when it is asked for. */
    if (!(env->given & SETTING_POOL)) {
        return 0;
    }
    return env->pool < COMMAND_POOL_MAX ? env->pool : COMMAND_POOL_MAX;
}

static void pool_remove(struct command_place *place, const struct carrier *carrier)
{
    for (unsigned i = 0; i < place->pool_size; i++) {
        if (place->pool[i] == carrier) {
            place->pool[i] = place->pool[--place->pool_size];
            return;
        }
    }
}

struct pool_entry {
    struct command_place *place;
    struct carrier *carrier;
};

static void on_pool_exit(void *data, const struct machine_exit *exit)
{
    struct pool_entry entry = *(struct pool_entry *)data;

    (void)exit; /* told by the run that starts one itself */
    free(data);
    pool_remove(entry.place, entry.carrier);
    carrier_close(entry.carrier, NULL, NULL);
}

static void pool_add(struct command_place *place)
{
    static const struct carrier_events events = {.on_exit = on_pool_exit};
    struct pool_entry *entry = malloc(sizeof(*entry));
    struct carrier *carrier = entry ? carrier_new(place) : NULL;

    if (!carrier) {
        free(entry);
        return;
    }
    *entry = (struct pool_entry){place, carrier};
    carrier_own(carrier, &events, entry);
    place->pool[place->pool_size++] = carrier;
}

static void pool_drop(struct command_place *place)
{
    while (place->pool_size > 0) {
        struct carrier *carrier = place->pool[--place->pool_size];
        free(carrier_disown(carrier));
        carrier_close(carrier, NULL, NULL);
    }
}

static void on_idle_limit(uv_timer_t *timer)
{
    pool_drop(timer->data);
}

static void on_fill(uv_timer_t *timer)
{
    struct command_place *place = timer->data;

    while (place->pool_size < command_pool_wanted(place)) {
        unsigned before = place->pool_size;
        pool_add(place);
        if (place->pool_size == before) {
            break;
        }
    }
    uv_timer_start(timer, on_idle_limit, (uint64_t)(place->base.env->idle_timeout_seconds * MS), 0);
}

struct carrier *command_place_take(struct command_place *place)
{
    struct carrier *found = NULL;

    for (unsigned i = 0; i < place->pool_size && !found; i++) {
        if (carrier_is_ready(place->pool[i])) {
            found = place->pool[i];
        }
    }
    if (found) {
        free(carrier_disown(found));
        pool_remove(place, found);
    }
    if (command_pool_wanted(place) > 0 && !place->closing) {
        uv_timer_start(&place->timer, on_fill, FILL_MS, 0);
    }
    return found;
}

/* ---- the place ---- */

static int command_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
                        struct error *err);

static void command_warm(struct place *base)
{
    struct command_place *place = (struct command_place *)base;

    if (command_pool_wanted(place) > 0) {
        uv_timer_start(&place->timer, on_fill, 0, 0);
    }
}

static void command_check(struct place *place,
                          void (*each)(void *data, const struct place_check *check), void *data)
{
    const char *program = json_string_value(json_array_get(place->env->command, 0));
    char *path = command_find_program(program);
    char *missing = NULL;
    struct place_check check = {.name = "command", .ok = path != NULL, .required = true};

    if (!path && asprintf(&missing, "`%.200s` is not on PATH", program) < 0) {
        missing = NULL;
    }
    check.detail = path ? path : missing ? missing : "not found";
    check.fix = path ? NULL : "install the program, or give its whole path in `command`";
    each(data, &check);
    free(path);
    free(missing);
}

/* The source is read by us, not by whoever the sandbox runs as. A file that is closed to its own
 * owner is nobody's to share, though root could read it. */
static int check_source(const struct share *share, struct error *err)
{
    char path[64];
    struct stat st;
    int fd, r;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", share->fd);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    r = fd < 0 ? -errno : 0;
    if (fd >= 0) {
        r = fstat(fd, &st) == 0 && !(st.st_mode & (S_IRUSR | S_IRGRP | S_IROTH)) ? -EACCES : 0;
        close(fd);
    }
    if (r == -EACCES || r == -EPERM) {
        return error_set(err, ERROR_REFUSED,
                         "the server's user may not read %s: give it the right (chmod u+r), or "
                         "share something else",
                         share->source);
    }
    return 0; /* what else is wrong with it is told when it is copied */
}

static int command_share_check(struct place *place, const struct share *share, struct error *err)
{
    (void)place;
    if (strncmp(share->dest, "/workspace/", 11) != 0 && strncmp(share->dest, "/tmp/", 5) != 0) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "dest %s: the other machine's own files are out of reach, only /workspace "
                         "and /tmp (a private folder there) can be copied to",
                         share->dest);
    }
    return check_source(share, err);
}

static void timer_closed(uv_handle_t *handle)
{
    command_place_leave(handle->data);
}

static void command_close(struct place *base, void (*closed)(void *data), void *data)
{
    struct command_place *place = (struct command_place *)base;

    place->closing = true;
    place->closed = closed;
    place->closed_data = data;
    pool_drop(place);
    uv_close((uv_handle_t *)&place->timer, timer_closed);
}

const struct place_ops command_ops = {
    .name = "command",
    .capabilities = COMMAND_CAPABILITIES,
    .languages = languages,
    .open = command_open,
    .warm = command_warm,
    .check = command_check,
    .close = command_close,
    .share_check = command_share_check,
    .machine_new = command_machine_new,
    .machine_start = command_machine_start,
    .machine_put = command_machine_put,
    .machine_put_cancel = command_machine_put_cancel,
    .machine_file = command_machine_file,
    .machine_interrupt = command_machine_interrupt,
    .machine_signal = command_machine_signal,
    .machine_kill = command_machine_kill,
    .machine_close = command_machine_close,
    .machine_folder = command_machine_folder,
};

void command_place_enter(struct command_place *place)
{
    place->open++;
}

void command_place_leave(struct command_place *place)
{
    void (*closed)(void *data) = place->closed;
    void *data = place->closed_data;

    if (--place->open > 0) {
        return;
    }
    free(place);
    if (closed) {
        closed(data);
    }
}

static int command_open(uv_loop_t *loop, const struct environment *env, struct place **ret,
                        struct error *err)
{
    struct command_place *place;

    if (env->network != NETWORK_ALL) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "backend \"command\" cannot cut the network of what runs elsewhere: say "
                         "so with network \"all\" in the environment \"%s\" (or --network all), "
                         "and cut it there if you need to",
                         env->name);
    }
    if (command_check_args(env, err) < 0) {
        return -1;
    }
    place = calloc(1, sizeof(*place));
    if (!place) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->base = (struct place){.ops = &command_ops, .loop = loop, .env = env};
    place->limits = (struct command_limits){
        .tick = COMMAND_TICK_MS, .quiet = COMMAND_QUIET_MS, .greeting = COMMAND_GREETING_MS};
    (void)uv_timer_init(loop, &place->timer);
    place->timer.data = place;
    place->open = 1; /* the timer */
    *ret = &place->base;
    return 0;
}
