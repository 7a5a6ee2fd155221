#include "tests/unit/grpc-trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cmocka_all.h"

enum { GUARD_MS = 50000, TICK_MS = 10, NUMBER_SIZE = 4 };

static void on_guard(uv_timer_t *timer)
{
    struct grpc_trial *t = timer->data;
    if (uv_now(&t->loop) - t->began > GUARD_MS) {
        fail_msg("the test took longer than its limit");
    }
}

void grpc_trial_start_at(struct grpc_trial *t, const char *url, const char *ca_file)
{
    struct grpc_channel_options options = {.url = url, .ca_file = ca_file, .ping_ms = t->ping_ms};
    static const char *const metadata[] = {"x-client: cellblock", NULL};
    struct error err = {0};

    options.metadata = metadata;
    uv_timer_init(&t->loop, &t->guard);
    t->guard.data = t;
    t->began = uv_now(&t->loop);
    /* It ticks: one turn of the loop may do what is waited for in its timers, and then wait for
     * sockets. */
    uv_timer_start(&t->guard, on_guard, TICK_MS, TICK_MS);
    t->channel = grpc_channel_new(&t->loop, &options, &err);
    if (!t->channel) {
        fail_msg("%s", err.message);
    }
}

void grpc_trial_start(struct grpc_trial *t, const struct h2_route *routes)
{
    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->server = h2_server_new(&t->loop, routes);
    grpc_trial_start_at(t, t->server->base, NULL);
}

static void on_metadata(void *data, const char *name, const char *value, bool trailer)
{
    struct grpc_told *told = data;
    size_t n = strlen(told->metadata);
    assert_false(told->trial->starting);
    assert_int_equal(told->dones, 0);
    snprintf(told->metadata + n, sizeof(told->metadata) - n, "%s%s: %s\n", trailer ? "> " : "",
             name, value);
}

static void on_message(void *data, const void *bytes, size_t size)
{
    struct grpc_told *told = data;
    unsigned char number[NUMBER_SIZE] = {0};

    assert_false(told->trial->starting);
    assert_int_equal(told->dones, 0);
    if (told->messages == 0) {
        memcpy(told->first, bytes, size < sizeof(told->first) ? size : sizeof(told->first) - 1);
    }
    if (size >= NUMBER_SIZE) {
        memcpy(number, bytes, NUMBER_SIZE);
    }
    told->wrong +=
        (number[0] << 24 | number[1] << 16 | number[2] << 8 | number[3]) != told->messages;
    told->messages++;
    told->bytes += size;
    if (told->trial->in_message) {
        told->trial->in_message(told);
    }
}

static void on_done(void *data, const struct grpc_end *end)
{
    struct grpc_told *told = data;
    assert_false(told->trial->starting);
    assert_int_equal(told->dones++, 0);
    assert_non_null(end->message);
    told->status = end->status;
    told->local = end->local;
    snprintf(told->message, sizeof(told->message), "%s", end->message);
    told->details_size = end->details_size;
    assert_true(end->details || end->details_size == 0);
    if (end->details && end->details_size < sizeof(told->details)) {
        memcpy(told->details, end->details, end->details_size);
    }
    told->trial->dones++;
    if (told->trial->in_done) {
        told->trial->in_done(told);
    }
}

struct grpc_told *grpc_trial_call(struct grpc_trial *t, const struct grpc_request *request)
{
    static const struct grpc_request ask = {
        .method = "/a", .message = "ask", .size = 3, .unary = true};
    struct grpc_told *told = &t->told[t->started];
    struct grpc_request own = request ? *request : ask;
    struct error err = {0};

    assert_true(t->started < GRPC_TRIAL_CALLS);
    told->trial = t;
    own.on_metadata = on_metadata;
    own.on_message = on_message;
    own.done = on_done;
    own.data = told;
    t->starting = true;
    told->call = grpc_start(t->channel, &own, &err);
    t->starting = false;
    if (!told->call) {
        fail_msg("%s", err.message);
    }
    t->started++;
    return told;
}

void grpc_trial_until(struct grpc_trial *t, const int *counter, int n)
{
    while (*counter < n) {
        assert_true(uv_run(&t->loop, UV_RUN_ONCE) != 0 || *counter >= n);
    }
}

void grpc_trial_run(struct grpc_trial *t)
{
    while (t->dones < t->started) {
        grpc_trial_until(t, &t->dones, t->dones + 1);
    }
}

static void on_closed(void *data)
{
    struct grpc_trial *t = data;
    assert_int_equal(t->dones, t->started); /* each `done` comes before `closed` */
    t->closed++;
}

void grpc_trial_end(struct grpc_trial *t)
{
    grpc_channel_close(t->channel, on_closed, t);
    assert_int_equal(t->closed, 0);
    grpc_trial_until(t, &t->closed, 1);
    if (t->server) {
        h2_server_close(t->server);
    }
    uv_close((uv_handle_t *)&t->guard, NULL);
    assert_int_equal(uv_run(&t->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(t->dones, t->started);
    assert_int_equal(t->closed, 1);
    assert_int_equal(uv_loop_close(&t->loop), 0);
}

void grpc_trial_one(const struct h2_step *script, void (*look)(const struct grpc_told *told))
{
    const struct h2_route routes[] = {{"/a", script}, {NULL}};
    struct grpc_trial *t = calloc(1, sizeof(*t));
    grpc_trial_start(t, routes);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    look(&t->told[0]);
    grpc_trial_end(t);
    free(t);
}

void assert_ended(const struct grpc_told *told, enum grpc_status status, bool local,
                  const char *words)
{
    assert_int_equal(told->dones, 1);
    if (told->status != status || !strstr(told->message, words)) {
        fail_msg("%s, \"%s\"; expected was %s, \"%s\"", grpc_status_name(told->status),
                 told->message, grpc_status_name(status), words);
    }
    assert_int_equal(told->local, local);
}
