#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/nearest.h"
#include "backends/command/carrier.h"

/* One process of the command, and the supervised runner that it carries. */

/* ---- freeing ---- */

static void carrier_free(struct carrier *c)
{
    struct command_place *place = c->place;
    void (*closed)(void *data) = c->closed;
    void *data = c->closed_data;

    buffer_deinit(&c->errors);
    free(c->message);
    free(c);
    if (closed) {
        closed(data);
    }
    command_place_leave(place);
}

static void part_closed(struct carrier *c)
{
    if (--c->open_handles == 0) {
        carrier_free(c);
    }
}

static void handle_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

static void supervised_closed(void *data)
{
    part_closed(data);
}

static void close_one(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, handle_closed);
    }
}

static void close_all(struct carrier *c)
{
    if (c->made) {
        close_one((uv_handle_t *)&c->process);
    }
    close_one((uv_handle_t *)&c->in);
    close_one((uv_handle_t *)&c->out);
    close_one((uv_handle_t *)&c->err);
    close_one((uv_handle_t *)&c->timer);
}

/* ---- the end ---- */

static const char *program_of(const struct carrier *c)
{
    return json_string_value(json_array_get(c->place->base.env->command, 0));
}

/* "`ssh` ended with exit code 255: Connection refused"; to be freed. */
static char *end_words(const struct carrier *c)
{
    char *said = supervised_last_lines(buffer_data(&c->errors), buffer_size(&c->errors));
    const char *colon = said && *said ? ": " : "";
    const char *text = said ? said : "";
    char space[16];
    char *words = NULL;
    int n;

    if (c->running) {
        n = asprintf(&words, "`%.200s` closed its output%s%s", program_of(c), colon, text);
    } else if (c->exit_signal) {
        n = asprintf(&words, "`%.200s` was ended by %s%s%s", program_of(c),
                     signal_name(c->exit_signal, space), colon, text);
    } else {
        n = asprintf(&words, "`%.200s` ended with exit code %d%s%s", program_of(c),
                     (int)c->exit_status, colon, text);
    }
    free(said);
    return n < 0 ? NULL : words;
}

/* Its last word. */
static void tell_end(struct carrier *c, const struct machine_exit *exit)
{
    if (carrier_alive(c)) {
        c->state = STATE_ENDED;
        uv_timer_stop(&c->timer);
        if (c->events.on_exit) {
            c->events.on_exit(c->data, exit);
        }
    }
}

/* Its streams are over and all that can be known of its end is. */
static void conclude(struct carrier *c)
{
    char *words = end_words(c);
    struct machine_exit lost = {
        .how = EXIT_LOST, .kind = ERROR_LOST, .message = words ? words : "the command ended"};

    uv_timer_stop(&c->timer);
    if (c->supervised) {
        supervised_ended(c->supervised, lost.message);
    }
    if (carrier_alive(c)) { /* no worker was there whose end was told */
        tell_end(c, &lost);
    }
    free(words);
}

static void on_ending_limit(uv_timer_t *timer)
{
    conclude(timer->data);
}

/* A piece of the end has come. What children of the command hold open is not waited for long. */
void carrier_take_end(struct carrier *c)
{
    if (!carrier_alive(c) || (c->running && !c->out_ended)) {
        return;
    }
    if (!c->running && c->out_ended && c->err_ended) {
        conclude(c);
    } else if (!c->ending) {
        c->ending = true;
        uv_timer_start(&c->timer, on_ending_limit, ENDING_MS, 0);
    }
}

static void on_closing_limit(uv_timer_t *timer)
{
    struct carrier *c = timer->data;

    if (!c->running) {
        return;
    }
    kill(-c->process.pid, c->terminations++ == 0 ? SIGTERM : SIGKILL);
    uv_timer_start(timer, on_closing_limit, TERMINATE_MS, 0);
}

static void on_process_exit(uv_process_t *process, int64_t status, int term_signal)
{
    struct carrier *c = process->data;

    c->running = false;
    c->exit_status = status;
    c->exit_signal = term_signal;
    if (c->state == STATE_CLOSING) {
        close_all(c);
        return;
    }
    carrier_take_end(c);
}

/* ---- the supervised ---- */

static void on_greeting(void *data, const char *python)
{
    struct carrier *c = data;

    (void)python;
    supervised_start_worker(c->supervised);
}

static void on_worker(void *data, struct link *link)
{
    struct carrier *c = data;
    bool given = c->state == STATE_BETWEEN || c->events.on_ready;

    c->link = link;
    c->state = given ? STATE_USED : STATE_READY;
    uv_timer_stop(&c->timer);
    if (c->events.on_ready) {
        c->events.on_ready(c->data, link);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct carrier *c = data;
    struct machine_exit kept = *exit;

    if (!carrier_alive(c)) {
        return;
    }
    kept.kept = exit->how != EXIT_LOST;
    if (!kept.kept) {
        tell_end(c, &kept);
        return;
    }
    c->state = STATE_BETWEEN;
    if (c->events.on_exit) {
        c->events.on_exit(c->data, &kept);
    }
}

/* Its words, and the command's own. */
static void on_broken(void *data, const char *message)
{
    struct carrier *c = data;
    char *said = supervised_last_lines(buffer_data(&c->errors), buffer_size(&c->errors));
    bool more = said && *said && !strstr(message, said);
    char *words = NULL;
    struct machine_exit lost = {.how = EXIT_LOST, .kind = ERROR_LOST, .message = message};

    if (more && asprintf(&words, "%s; `%.200s` said: %s", message, program_of(c), said) >= 0) {
        lost.message = words;
    }
    tell_end(c, &lost);
    free(words);
    free(said);
}

static struct supervised *new_supervised(struct carrier *c)
{
    static const struct supervised_events events = {on_greeting, on_worker, on_worker_exit,
                                                    on_broken};
    const struct environment *env = c->place->base.env;
    const struct supervised_options options = {
        .memory_mib = env->memory_mib,
        .disk_mib = env->disk_mib,
        .processes = env->processes,
        .limits_per_process = true,
        .greeting_ms = c->place->limits.greeting,
        .warm = command_pool_wanted(c->place) > 0,
        .start_at_once = true,
        .env = env->env,
    };

    carrier_stream_init(c);
    return supervised_new(c->place->base.loop, &c->stream, &options, &events, c);
}

/* ---- the start ---- */

void carrier_give_up(struct carrier *c, const char *why)
{
    char *said = supervised_last_lines(buffer_data(&c->errors), buffer_size(&c->errors));
    struct machine_exit lost = {
        .how = EXIT_LOST, .kind = ERROR_TIMEOUT, .message = "out of memory"};
    char *words = NULL;

    if (asprintf(&words,
                 "`%.200s` %s, and our program in it has not answered; %s%s. Try the command by "
                 "hand with `python3 -V` after it, and see that it prints little and does not ask "
                 "for anything",
                 program_of(c), why, said && *said ? "its last lines: " : "it printed nothing",
                 said ? said : "") >= 0) {
        lost.message = words;
    }
    tell_end(c, &lost);
    free(words);
    free(said);
}

/* Who waits in a queue for hours says so; one that has said nothing at all is given up by the
 * executor's own limit. */
static void on_tick(uv_timer_t *timer)
{
    struct carrier *c = timer->data;
    uint64_t quiet = uv_now(timer->loop) - c->heard_at;
    char line[CARRIER_LINE_SIZE + 64];

    if (quiet >= c->place->limits.quiet && !c->queues) {
        (void)snprintf(line, sizeof(line), "has been quiet for %u s", (unsigned)(quiet / 1000));
        carrier_give_up(c, line);
        return;
    }
    if (buffer_size(&c->errors) > 0 && c->events.on_waiting) {
        (void)snprintf(line, sizeof(line), "still waiting for an answer through `%.200s`",
                       program_of(c));
        c->events.on_waiting(c->data, line);
    }
}

static void keep_failure(struct carrier *c, enum error_kind kind, char *message)
{
    free(c->message);
    c->message = message;
    c->lost = (struct machine_exit){
        .how = EXIT_LOST, .kind = kind, .message = message ? message : "out of memory"};
}

static void on_failed_start(uv_timer_t *timer)
{
    struct carrier *c = timer->data;
    tell_end(c, &c->lost);
}

static void keep_spawn_failure(struct carrier *c, int code)
{
    static const char *const known[] = {"ssh",    "docker", "env", "kubectl", "nerdctl", "oc",
                                        "podman", "salloc", "sh",  "srun",    "sudo"};
    const char *program = program_of(c);
    const char *near = word_nearest(program, known, sizeof(known) / sizeof(known[0]));
    char *message = NULL;
    int n;

    if (near && strcmp(near, program) == 0) {
        near = NULL;
    }
    if (code == UV_ENOENT) {
        n = asprintf(&message,
                     "command: the program `%.200s` was not found on this machine%s%s%s; install "
                     "it, or give its whole path",
                     program, near ? " (did you mean `" : "", near ? near : "", near ? "`?)" : "");
    } else {
        n = asprintf(&message, "command: `%.200s` could not be started: %s", program,
                     uv_strerror(code));
    }
    keep_failure(c, code == UV_ENOENT ? ERROR_NOT_FOUND : ERROR_LOST, n < 0 ? NULL : message);
}

static int spawn(struct carrier *c, char **argv)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&c->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->err},
    };
    /* A group of its own: what a terminal sends to ours is not for it, and all of it can be ended.
     */
    const uv_process_options_t options = {
        .file = argv[0],
        .args = argv,
        .flags = UV_PROCESS_DETACHED,
        .exit_cb = on_process_exit,
        .stdio = stdio,
        .stdio_count = 3,
    };
    int r = uv_spawn(c->place->base.loop, &c->process, &options);

    c->made = true;
    c->open_handles++;
    if (r < 0) {
        return r;
    }
    c->running = true;
    carrier_read(c);
    return 0;
}

static void start(struct carrier *c)
{
    char name[COMMAND_NAME_SIZE];
    struct error err = {0};
    char **argv;
    uint64_t number;
    int r;

    (void)uv_random(NULL, NULL, &number, sizeof(number), 0, NULL);
    (void)snprintf(name, sizeof(name), "cellblock-%010llx",
                   (unsigned long long)(number & 0xffffffffffULL));
    argv = command_argv(c->place->base.env, name, &err);
    c->supervised = argv ? new_supervised(c) : NULL;
    r = c->supervised ? spawn(c, argv) : UV_ENOMEM;
    if (r == 0) {
        supervised_open(c->supervised);
        c->heard_at = uv_now(c->place->base.loop);
        uv_timer_start(&c->timer, on_tick, c->place->limits.tick, c->place->limits.tick);
    } else {
        if (err.kind != ERROR_NONE) {
            keep_failure(c, err.kind, strdup(err.message));
        } else {
            keep_spawn_failure(c, r);
        }
        uv_timer_start(&c->timer, on_failed_start, 0, 0);
    }
    command_argv_free(argv);
    error_clear(&err);
}

struct carrier *carrier_new(struct command_place *place)
{
    struct carrier *c = calloc(1, sizeof(*c));
    uv_loop_t *loop = place->base.loop;

    if (!c) {
        return NULL;
    }
    c->place = place;
    buffer_init(&c->errors, COMMAND_ERRORS_CAP);
    (void)uv_pipe_init(loop, &c->in, 0);
    (void)uv_pipe_init(loop, &c->out, 0);
    (void)uv_pipe_init(loop, &c->err, 0);
    (void)uv_timer_init(loop, &c->timer);
    c->in.data = c->out.data = c->err.data = c->timer.data = c->process.data = c;
    c->open_handles = 4;
    command_place_enter(place);
    start(c);
    return c;
}

/* ---- what the machine and the pool call ---- */

void carrier_own(struct carrier *c, const struct carrier_events *events, void *data)
{
    c->events = *events;
    c->data = data;
    if (c->state == STATE_READY && events->on_ready) {
        c->state = STATE_USED;
    }
}

void *carrier_disown(struct carrier *c)
{
    c->events = (struct carrier_events){0};
    return c->data;
}

struct supervised *carrier_supervised(struct carrier *c)
{
    return c->supervised;
}

bool carrier_is_ready(const struct carrier *c)
{
    return c->state == STATE_READY;
}

bool carrier_has_ended(const struct carrier *c)
{
    return !carrier_alive(c);
}

bool carrier_is_starting(const struct carrier *c)
{
    return c->state == STATE_STARTING;
}

struct link *carrier_link(struct carrier *c)
{
    return c->link;
}

void carrier_start_worker(struct carrier *c)
{
    supervised_start_worker(c->supervised);
}

void carrier_close(struct carrier *c, void (*closed)(void *data), void *data)
{
    c->closed = closed;
    c->closed_data = data;
    c->state = STATE_CLOSING;
    c->events = (struct carrier_events){0};
    uv_timer_stop(&c->timer);
    if (c->supervised) {
        c->open_handles++;
        supervised_close(c->supervised, supervised_closed, c);
        c->supervised = NULL;
    }
    if (!c->running) {
        close_all(c);
        return;
    }
    close_one((uv_handle_t *)&c->in); /* the far side cleans up after itself now */
    uv_timer_start(&c->timer, on_closing_limit, LEAVE_MS, 0);
}
