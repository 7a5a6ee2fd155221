#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backends/local/cells.h"
#include "backends/local/local.h"
#include "backends/local/machine.h"

/* What cells wait for is found or started when the first one asks: nothing runs before. */

static const char *const languages[] = {"python", "shell", NULL};

void place_remove_cell(struct local_place *place, struct live_cell *cell)
{
    struct live_cell **at = &place->cells;
    while (*at && *at != cell) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = cell->next;
    }
}

/* ---- closing ---- */

static void place_freed(uv_handle_t *handle)
{
    struct local_place *place = handle->data;
    if (--place->open_timers > 0) {
        return;
    }
    void (*closed)(void *data) = place->closed;
    void *data = place->closed_data;
    interpreter_free(place->python);
    free(place->forked_refused);
    free(place);
    closed(data);
}

void place_maybe_closed(struct local_place *place)
{
    if (place->closing && !uv_is_closing((uv_handle_t *)&place->idle) && !place->cells &&
        !place->search && place->machines == 0 && place->zygote.state == ZYGOTE_ABSENT) {
        uv_close((uv_handle_t *)&place->idle, place_freed);
        uv_close((uv_handle_t *)&place->fill, place_freed);
    }
}

static void drop_pool(struct local_place *place)
{
    while (place->pool_count > 0) {
        cell_close(place->pool[--place->pool_count]);
    }
}

static void end_retired(struct local_place *place)
{
    while (place->retired_count > 0) {
        cell_close(place->retired[--place->retired_count]);
    }
}

static void close_place(struct place *base, void (*closed)(void *data), void *data)
{
    struct local_place *place = (struct local_place *)base;
    place->closing = true;
    place->closed = closed;
    place->closed_data = data;
    uv_timer_stop(&place->idle);
    uv_timer_stop(&place->fill);
    if (place->search) {
        interpreter_search_cancel(place->search);
    }
    end_retired(place);
    drop_pool(place);
    zygote_end(place);
    place_maybe_closed(place);
}

/* Nothing has used the place for the idle time: zygote and pool go, the next run brings them back.
 */
static void on_idle(uv_timer_t *timer)
{
    struct local_place *place = timer->data;
    if (place->machines == 0) {
        drop_pool(place);
        zygote_end(place);
    }
}

void place_touch(struct local_place *place)
{
    if (!place->closing) {
        uint64_t ms = (uint64_t)(place->base.env->idle_timeout_seconds * 1000);
        uv_timer_start(&place->idle, on_idle, ms, 0);
        uv_unref((uv_handle_t *)&place->idle);
    }
}

/* ---- what cells wait for ---- */

static void ask_waiting(struct local_place *place);

/* Every cell that cannot be made for this reason is told so. */
static void fail_waiting(struct local_place *place, enum error_kind kind, const char *why)
{
    struct live_cell *next;
    for (struct live_cell *cell = place->cells; cell; cell = next) {
        next = cell->next;
        bool for_zygote = !cell->solo && cell->state == CELL_STATE_ASKED;
        if (!cell->closing && (cell->state == CELL_STATE_WAITING || for_zygote)) {
            cell_fail_start(cell, kind, why);
        }
    }
}

static void on_interpreter(void *data, struct interpreter *it, const struct error *err)
{
    struct local_place *place = data;
    place->search = NULL;
    place->python = it;
    if (it) {
        ask_waiting(place);
    } else {
        fail_waiting(place, ERROR_UNSUPPORTED, err->message);
    }
    place_maybe_closed(place);
}

static void find_interpreter(struct local_place *place)
{
    if (!place->search) {
        place->search = interpreter_find(place->base.loop, place->base.env->python, &place->user,
                                         on_interpreter, place);
    }
}

static void tell_waiting(struct live_cell *cell)
{
    const struct local_place *place = cell->place;
    if (cell->owner) {
        char line[160];
        snprintf(line, sizeof(line), "starting the sandbox (%s %s)", place->python->implementation,
                 place->python->version);
        cell->owner->base.events.on_waiting(cell->owner->base.data, line);
    }
}

/* True when the cell may be asked for now. */
static bool zygote_there(struct local_place *place)
{
    struct error err = {0};
    if (place->zygote.state == ZYGOTE_ABSENT && zygote_start(place, &err) < 0) {
        fail_waiting(place, err.kind, err.message);
        error_clear(&err);
    }
    return place->zygote.state == ZYGOTE_READY;
}

static void ask_waiting(struct local_place *place)
{
    struct live_cell *next;
    for (struct live_cell *cell = place->cells; cell; cell = next) {
        next = cell->next;
        if (cell->closing || cell->state != CELL_STATE_WAITING) {
            continue;
        }
        tell_waiting(cell);
        struct local_machine *m = cell->owner;
        if ((cell->solo || zygote_there(place)) &&
            !cell_ask(cell, m ? m->mounts : NULL, m ? m->mount_count : 0)) {
            zygote_wait_for_room(place);
            return;
        }
    }
}

void place_want(struct local_place *place)
{
    if (!place->python) {
        find_interpreter(place);
        return;
    }
    ask_waiting(place);
}

void place_zygote_ready(struct local_place *place)
{
    ask_waiting(place);
    pool_fill(place);
}

void place_zygote_gone(struct local_place *place, const char *why)
{
    if (why) {
        fail_waiting(place, ERROR_LOST, why);
    } else if (!place->closing) {
        ask_waiting(place); /* those who came while the old one was ending */
    }
    place_maybe_closed(place);
}

/* ---- the pool ---- */

void pool_fill(struct local_place *place)
{
    while (!place->closing && place->pool_count < place->base.env->pool) {
        struct live_cell *cell = cell_new(place, 0);
        if (!cell) {
            return;
        }
        place->pool[place->pool_count++] = cell;
        place_want(place);
    }
}

static void on_fill(uv_timer_t *timer)
{
    end_retired(timer->data);
    pool_fill(timer->data);
}

void place_retire(struct local_place *place, struct live_cell *cell)
{
    if (place->closing || cell->state != CELL_STATE_READY || place->retired_count == RETIRED_CAP) {
        cell_close(cell);
        return;
    }
    cell_disown(cell);
    place->retired[place->retired_count++] = cell;
    pool_fill_later(place);
}

void pool_fill_later(struct local_place *place)
{
    if (!place->closing) {
        uv_timer_start(&place->fill, on_fill, POOL_FILL_MS, 0);
    }
}

static void remove_from(struct live_cell **list, unsigned *count, const struct live_cell *cell)
{
    for (unsigned i = 0; i < *count; i++) {
        if (list[i] == cell) {
            list[i] = list[--*count];
            return;
        }
    }
}

bool pool_has_ready(const struct local_place *place)
{
    for (unsigned i = 0; i < place->pool_count; i++) {
        if (place->pool[i]->state == CELL_STATE_READY) {
            return true;
        }
    }
    return false;
}

struct live_cell *pool_take(struct local_place *place)
{
    struct live_cell *taken = NULL;
    for (unsigned i = 0; i < place->pool_count; i++) {
        struct live_cell *cell = place->pool[i];
        if (!taken || cell->state > taken->state) {
            taken = cell;
        }
    }
    if (taken) {
        remove_from(place->pool, &place->pool_count, taken);
    }
    return taken;
}

/* ---- what cells tell ---- */

void place_cell_ready(struct local_place *place, struct live_cell *cell)
{
    if (cell->owner) {
        machine_cell_ready(cell->owner);
        pool_fill_later(place);
    }
}

/* Nested namespaces do not work here: from now on each cell has a bubblewrap of its own. The walls
 * are the same, so this is no lesser isolation; `doctor` says why and what would mend it. */
static bool turn_to_solo(struct local_place *place, const struct live_cell *cell)
{
    bool was_ready = cell->root_fd >= 0;
    if (cell->solo || was_ready || place->base.env->cells != CELLS_AUTO ||
        (place->forked && cell->exit.kind != ERROR_UNSUPPORTED)) {
        return false;
    }
    /* Those that were asked for together with the first to fail ended with the zygote. */
    if (place->forked) {
        place->forked = false;
        place->forked_refused = strdup(cell->message);
        zygote_end(place);
    }
    return true;
}

void place_cell_gone(struct local_place *place, struct live_cell *cell)
{
    struct local_machine *owner = cell->owner;
    bool again = turn_to_solo(place, cell);
    if (!owner) {
        remove_from(place->pool, &place->pool_count, cell);
        remove_from(place->retired, &place->retired_count, cell);
        cell_close(cell);
        return;
    }
    if (again) {
        cell_close(cell);
        machine_try_again(owner);
        return;
    }
    machine_cell_gone(owner);
}

/* ---- opening ---- */

static int check_isolation(const struct environment *env, struct error *err)
{
    if (env->kernel == KERNEL_JUPYTER) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "kernel \"jupyter\" is not supported by backend \"local\", which has its "
                         "own runner; backend docker has it, and backend jupyter is one");
    }
    bool bare = env->isolation == ISOLATION_LANDLOCK || env->isolation == ISOLATION_NONE;
    if (bare && env->cells == CELLS_FORKED) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "cells \"forked\" needs namespaces, which isolation \"%s\" does without. "
                         "Use cells \"auto\", or isolation \"auto\"",
                         isolation_name(env->isolation));
    }
    if (env->isolation == ISOLATION_NONE && env->network == NETWORK_NONE) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "isolation \"none\" cannot hold the network back: say network \"all\" "
                         "(--network all) with it, or use another isolation");
    }
    return 0;
}

/* Each cell takes five of our descriptors, and the usual soft limit (1024) is for programs that use
 * select(2). What the cells themselves may open is another limit, theirs. */
static rlim_t raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return LOCAL_NOFILE;
    }
    rlim_t wanted = limit.rlim_max < SERVER_NOFILE ? limit.rlim_max : SERVER_NOFILE;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_max;
}

static int open_place(uv_loop_t *loop, const struct environment *env, struct place **ret,
                      struct error *err)
{
    if (check_isolation(env, err) < 0) {
        return -1;
    }
    struct local_place *place = calloc(1, sizeof(*place));
    if (!place) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    place->base = (struct place){.ops = &local_place_ops, .loop = loop, .env = env};
    place->isolation = env->isolation == ISOLATION_AUTO ? ISOLATION_BWRAP : env->isolation;
    if (place->isolation != ISOLATION_BWRAP) {
        place->base.lacks = CAP_MOUNT | CAP_MOUNT_WRITE; /* no mount namespace */
    }
    if (place->isolation == ISOLATION_NONE) {
        place->base.lacks |= CAP_NETWORK_NONE;
    }
    place->forked = place->isolation == ISOLATION_BWRAP && env->cells != CELLS_SOLO;
    place->zygote.control_fd = -1;
    rlim_t most = raise_open_files();
    place->cell_files = most < LOCAL_NOFILE ? (uint32_t)most : LOCAL_NOFILE;
    sandbox_user_init(&place->user);
    uv_timer_init(loop, &place->idle);
    uv_timer_init(loop, &place->fill);
    place->idle.data = place->fill.data = place;
    place->open_timers = 2;
    *ret = &place->base;
    return 0;
}

static void warm(struct place *base)
{
    struct local_place *place = (struct local_place *)base;
    place_touch(place);
    pool_fill(place);
}

const struct place_ops local_place_ops = {
    .name = "local",
    .capabilities = CAP_STATEFUL | CAP_EPHEMERAL | CAP_SHELL | CAP_COPY | CAP_MOUNT |
                    CAP_MOUNT_WRITE | CAP_STDIN | CAP_NETWORK_NONE | CAP_NETWORK_ALL |
                    CAP_MEMORY_LIMIT | CAP_DISK_LIMIT | CAP_PROCESS_LIMIT | CAP_INTERRUPT |
                    CAP_EXIT_STATUS | CAP_USAGE | CAP_FILES | CAP_COMMANDS | CAP_SIGNAL |
                    CAP_STDIN_STREAM | CAP_STDIN_CODE,
    .languages = languages,
    .open = open_place,
    .warm = warm,
    .check = local_check,
    .close = close_place,
    .share_check = local_share_check,
    .machine_new = local_machine_new,
    .machine_start = local_machine_start,
    .machine_put = local_put,
    .machine_put_cancel = local_put_cancel,
    .machine_interrupt = local_machine_interrupt,
    .machine_signal = local_machine_signal,
    .machine_kill = local_machine_kill,
    .machine_close = local_machine_close,
    .machine_spool_open = local_spool_open,
    .machine_file = local_file,
    .machine_folder = local_machine_folder,
    .machine_busy = local_machine_busy,
};
