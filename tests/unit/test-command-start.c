/* Commands that talk, and do not let our program answer: how long they are listened to. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/command/internal.h"

enum { PATIENCE_MS = 20 * 1000 };

struct start {
    uv_loop_t loop;
    uv_timer_t guard;
    struct environment env;
    struct place *place;
    struct machine *machine;
    int waiting, exits;
    enum error_kind kind;
    char last[512]; /* that it waits for */
    char message[4096];
    bool closed, place_closed;
};

static void on_waiting(void *data, const char *what)
{
    struct start *s = data;

    s->waiting++;
    (void)snprintf(s->last, sizeof(s->last), "%s", what);
}

static void on_started(void *data, struct link *link)
{
    (void)data;
    (void)link;
    fail_msg("it has started");
}

static void on_exit_event(void *data, const struct machine_exit *exit)
{
    struct start *s = data;

    s->exits++;
    s->kind = exit->kind;
    assert_int_equal(exit->how, EXIT_LOST);
    (void)snprintf(s->message, sizeof(s->message), "%s", exit->message);
    uv_stop(&s->loop);
}

static void on_guard(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static int set_up(void **state)
{
    struct start *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    assert_int_equal(uv_loop_init(&s->loop), 0);
    assert_int_equal(environment_init(&s->env, "default", "command"), 0);
    s->env.network = NETWORK_ALL;
    (void)uv_timer_init(&s->loop, &s->guard);
    uv_unref((uv_handle_t *)&s->guard);
    *state = s;
    return 0;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static int tear_down(void **state)
{
    struct start *s = *state;

    s->machine->place->ops->machine_close(s->machine, on_closed, &s->closed);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_true(s->closed);
    s->place->ops->close(s->place, on_closed, &s->place_closed);
    uv_close((uv_handle_t *)&s->guard, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_true(s->place_closed);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    environment_deinit(&s->env);
    free(s);
    return 0;
}

/* Starts a shell script as the command and waits for the end of the start. All of them read their
 * stdin, so that closing it ends them. */
static void start(struct start *s, const char *script, const struct command_limits *limits)
{
    static const struct machine_events events = {on_waiting, on_started, on_exit_event};
    struct error err = {0};

    /* What the executor's far command is, comes after it: the script's own arguments. */
    json_decref(s->env.command);
    s->env.command = json_pack("[sss]", "sh", "-c", script);
    if (command_ops.open(&s->loop, &s->env, &s->place, &err) < 0) {
        fail_msg("%s", err.message);
    }
    ((struct command_place *)s->place)->limits = *limits;
    s->machine = command_ops.machine_new(s->place, &events, s);
    command_ops.machine_start(s->machine, &(struct start_request){0});
    uv_timer_start(&s->guard, on_guard, PATIENCE_MS, 0);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&s->guard);
    assert_int_equal(s->exits, 1);
}

static void assert_says(const char *text, const char *what)
{
    if (!strstr(text, what)) {
        fail_msg("\"%s\" lacks \"%s\"", text, what);
    }
}

static void a_flood_on_stderr_is_cut_off(void **state)
{
    static const struct command_limits limits = {60000, 60000, 60000};
    struct start *s = *state;

    start(s, "yes 'go away' >&2 & cat > /dev/null; kill $!", &limits);
    assert_int_equal(s->kind, ERROR_TIMEOUT);
    assert_says(s->message, "`sh` printed more than 1 MiB on its stderr");
    assert_says(s->message, "its last lines: ");
    assert_says(s->message, "go away");
    assert_true(strlen(s->message) < 3000);
    assert_true(s->waiting > 0);
}

static void a_flood_on_stdout_is_cut_off(void **state)
{
    static const struct command_limits limits = {60000, 60000, 60000};
    struct start *s = *state;

    start(s, "yes 'welcome, stranger' & cat > /dev/null; kill $!", &limits);
    assert_says(s->message, "more than 64 KiB came");
    assert_says(s->message, "welcome, stranger");
}

static void one_that_goes_quiet_is_given_up(void **state)
{
    static const struct command_limits limits = {50, 400, 60000};
    struct start *s = *state;

    start(s, "echo 'Last login: never' >&2; cat > /dev/null", &limits);
    assert_int_equal(s->kind, ERROR_TIMEOUT);
    assert_says(s->message, "`sh` has been quiet for");
    assert_says(s->message, "Last login: never");
    assert_says(s->message, "by hand");
    assert_says(s->last, "still waiting"); /* until then it was told that it goes on */
}

static void one_that_never_spoke_is_given_up(void **state)
{
    static const struct command_limits limits = {50, 200, 60000};
    struct start *s = *state;

    start(s, "cat > /dev/null", &limits);
    assert_says(s->message, "it printed nothing");
    assert_int_equal(s->waiting, 0);
}

static void one_that_waits_for_its_turn_may_be_quiet(void **state)
{
    static const struct command_limits limits = {50, 200, 1000};
    struct start *s = *state;

    start(s, "echo 'srun: job 7 queued and waiting for resources' >&2; cat > /dev/null", &limits);
    assert_says(s->message, "no answer from a python3 at the other end within 1 s");
    assert_says(s->message, "job 7 queued");
    assert_true(s->waiting > 1);
}

static void one_that_goes_on_talking_has_a_limit_too(void **state)
{
    static const struct command_limits limits = {50, 10000, 1000};
    struct start *s = *state;

    start(s, "while :; do echo 'one more line' >&2; sleep 0.05; done & cat > /dev/null; kill $!",
          &limits);
    assert_says(s->message, "no answer from a python3 at the other end within 1 s");
    assert_says(s->message, "one more line");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_flood_on_stderr_is_cut_off),
        TEST(a_flood_on_stdout_is_cut_off),
        TEST(one_that_goes_quiet_is_given_up),
        TEST(one_that_never_spoke_is_given_up),
        TEST(one_that_waits_for_its_turn_may_be_quiet),
        TEST(one_that_goes_on_talking_has_a_limit_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
