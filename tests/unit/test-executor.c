/* The executor over a fake place: every path of the contract, with the limits made short. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/executor_internal.h"
#include "backends/kernels/runner/frame.h"
#include "executor-record.h"

/* ---- the ordinary way ---- */

static void test_first_run_starts_and_output_is_in_order(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_ok;
    assert_false(executor_started(c->e));
    (void)run(c, &r);
    assert_true(executor_busy(c->e));
    until(c, &r.done);
    assert_string_equal(r.log, "wshello.");
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.note, "");
    assert_false(r.state_lost);
    assert_true(executor_started(c->e));
    assert_false(executor_busy(c->e));
    assert_int_equal(c->place.busy, 0);
    assert_int_equal(r.full[0].total, 5);
    assert_int_equal(r.full[1].total, 0);
}

static void test_warm_run_never_completes_synchronously(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    (void)run(c, &r);
    assert_int_equal(c->place.runs, 2); /* the frame went out at once */
    assert_string_equal(r.log, "");
    until(c, &r.done);
    assert_string_equal(r.log, "shello.");
    assert_int_equal(c->place.starts, 1);
}

static void test_runs_queue_in_order(void **state)
{
    struct context *c = *state;
    struct record r[3] = {0};

    c->place.on_run = does_ok;
    for (int i = 0; i < 3; i++) {
        (void)run(c, &r[i]);
    }
    until(c, &r[0].done);
    assert_int_equal(r[1].done, 0);
    until(c, &r[2].done);
    assert_int_equal(r[1].done, 1);
    assert_int_equal(c->place.runs, 3);
    assert_int_equal(c->place.starts, 1);
}

static void does_displays(struct fake_machine *m, const char *id)
{
    fake_print(m, STREAM_STDOUT, "a");
    fake_frame(m, FRAME_DISPLAY,
               "{\"kind\":\"display\",\"data\":{\"text/plain\":\"x\"},\"metadata\":{},"
               "\"display_id\":null,\"sync\":true}");
    fake_frame(m, FRAME_CLEAR, "{\"wait\":true,\"sync\":false}");
    fake_frame(m, FRAME_NOTE, "{\"text\":\"n\"}");
    fake_done(m, id, "\"status\":\"ok\"");
}

static void test_text_stays_before_a_display(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_displays;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "wsadcn.");
    assert_int_equal(c->place.acks, 1);
}

static void test_leftovers_are_idle_output(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    fake_print(c->place.newest, STREAM_STDOUT, "ghost");
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(c->idle, "ghost");
    assert_string_equal(r.log, "shello.");
}

static void test_frames_between_runs_are_nobodys(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    fake_frame(c->place.newest, FRAME_NOTE, "{\"text\":\"ghost\"}");
    fake_done(c->place.newest, "r-1", "\"status\":\"ok\"");
    turns(c, 5);
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "shello.");
    assert_int_equal(c->place.starts, 1);
}

/* ---- refusals ---- */

static void test_refusals_make_no_callback(void **state)
{
    struct context *c = *state;
    struct record r = {.inside = true};
    struct error err = {0};
    struct run_request request = {
        .id = "r-1", .language = "cobol", .code = "x", .code_size = 1, .timeout_seconds = 1};

    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "python, shell"));
    request.language = "python";
    request.timeout_seconds = 0;
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    request.timeout_seconds = 1;
    request.code = "\xff";
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    request.code = "x";
    request.id = "../up";
    assert_null(executor_run(c->e, &request, &record_events, &r, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    error_clear(&err);
}

static void test_queue_has_a_cap(void **state)
{
    struct context *c = *state;
    struct record r[RUN_QUEUE_CAP + 1] = {0};
    struct error err = {0};

    c->place.on_run = does_nothing;
    for (int i = 0; i < RUN_QUEUE_CAP; i++) {
        (void)run(c, &r[i]);
    }
    assert_null(executor_run(
        c->e,
        &(struct run_request){.id = "r-x", .language = "python", .code = "", .timeout_seconds = 1},
        &record_events, &r[RUN_QUEUE_CAP], &err));
    assert_int_equal(err.kind, ERROR_LIMIT);
    error_clear(&err);
    close_executor(c);
    for (int i = 0; i < RUN_QUEUE_CAP; i++) {
        assert_int_equal(r[i].done, 1);
        assert_int_equal(r[i].cause, CAUSE_CANCELLED);
    }
}

/* ---- time and cancel ---- */

static void timed_out(struct context *c, struct record *r, enum fake_interrupt interrupt,
                      const char *language)
{
    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = interrupt;
    (void)run_as(c, r, language, 0.03);
    until(c, &r->done);
    assert_int_equal(r->cause, CAUSE_TIMEOUT);
    assert_string_equal(r->etype, "TimeoutError");
    assert_string_equal(r->evalue, "the run passed its limit of 0.03 s");
    assert_string_equal(r->log, "sbeforen.");
    assert_int_equal(c->place.interrupts, 1);
}

static void test_timeout_interrupts_and_keeps(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    timed_out(c, &r, FAKE_INTERRUPT_OBEYED, "python");
    assert_false(r.state_lost);
    assert_false(r.has_exit_code);
    assert_non_null(strstr(r.note, "variables are kept"));
    assert_int_equal(c->place.kills, 0);
}

static void test_swallowed_interrupt_is_still_a_timeout(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    timed_out(c, &r, FAKE_INTERRUPT_SWALLOWED, "shell");
    assert_false(r.state_lost);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 124);
}

static void test_ignored_interrupt_kills_and_restarts(void **state)
{
    struct context *c = *state;
    struct record r = {0}, again = {0};

    timed_out(c, &r, FAKE_INTERRUPT_IGNORED, "python");
    assert_true(r.state_lost);
    assert_int_equal(r.signal, 0);
    assert_non_null(strstr(r.note, "next run starts afresh"));
    assert_int_equal(c->place.kills, 1);
    c->place.on_run = does_ok;
    (void)run(c, &again);
    until(c, &again.done);
    assert_int_equal(again.cause, CAUSE_OK);
    assert_string_equal(again.note, "");
    assert_int_equal(c->place.starts, 2);
}

static void test_machine_that_cannot_be_killed_is_given_up(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.kill_never = true;
    timed_out(c, &r, FAKE_INTERRUPT_IGNORED, "python");
    assert_true(r.state_lost);
    assert_false(executor_busy(c->e));
}

static void test_cancel_of_a_going_run(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    struct run *going;

    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = FAKE_INTERRUPT_OBEYED;
    going = run(c, &r);
    turns(c, 3);
    run_cancel(going);
    run_cancel(going);
    assert_int_equal(r.done, 0);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    assert_false(r.state_lost);
    assert_int_equal(c->place.interrupts, 1);
}

static void test_cancel_that_has_to_kill(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.on_run = does_nothing;
    run_cancel(run(c, &r));
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    assert_true(r.state_lost);
}

static void test_cancel_while_queued_and_while_starting(void **state)
{
    struct context *c = *state;
    struct record first = {0}, second = {0}, third = {0};
    struct run *waiting;

    c->place.on_run = does_ok;
    (void)run(c, &first);
    waiting = run(c, &second);
    run_cancel(waiting); /* before anything has started */
    assert_int_equal(second.done, 0);
    until(c, &second.done);
    assert_int_equal(second.cause, CAUSE_CANCELLED);
    assert_string_equal(second.log, ".");
    until(c, &first.done);
    assert_int_equal(first.cause, CAUSE_OK);
    c->place.on_run = does_nothing;
    run_cancel(run(c, &third));
    until(c, &third.done);
    assert_int_equal(third.cause, CAUSE_CANCELLED);
}

static void test_cancel_during_the_start(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};
    struct run *starting;

    c->place.on_run = does_ok;
    starting = run(c, &r);
    turns(c, 1);
    assert_int_equal(c->place.starts, 1);
    run_cancel(starting);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_int_equal(c->place.starts, 1);
}

static void test_cancel_from_the_runs_own_output(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.on_run = does_print_and_hang;
    c->place.interrupt = FAKE_INTERRUPT_OBEYED;
    r.cancel_in_output = run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_CANCELLED);
}

/* ---- death ---- */

static void test_crash_tells_signal_and_keeps_output(void **state)
{
    struct context *c = *state;
    struct record r = {0}, next = {0};

    warm_up(c);
    c->place.on_run = does_crash;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.log, "slast words.");
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_int_equal(r.signal, SIGSEGV);
    assert_true(r.state_lost);
    assert_non_null(strstr(r.note, "SIGSEGV"));
    c->place.on_run = does_ok;
    (void)run(c, &next);
    until(c, &next.done);
    assert_int_equal(next.cause, CAUSE_OK);
    assert_string_equal(next.note, ""); /* the run that died has said so */
}

static void test_os_exit_is_an_exit_though_the_stream_closed_first(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_os_exit;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_EXIT);
    assert_true(r.has_exit_code);
    assert_int_equal(r.exit_code, 3);
    assert_true(r.state_lost);
    assert_int_equal(c->place.kills, 0);
}

static void ends_with(struct context *c, struct machine_exit how, struct record *r)
{
    warm_up(c);
    c->place.on_run = does_nothing;
    (void)run(c, r);
    turns(c, 3);
    fake_exit(c->place.newest, how);
    until(c, &r->done);
    assert_true(r->state_lost);
}

static void test_out_of_memory_names_the_figures(void **state)
{
    struct record r = {0};

    ends_with(*state,
              (struct machine_exit){
                  .how = EXIT_OUT_OF_MEMORY, .used = 1100ull << 20, .limit = 1024ull << 20},
              &r);
    assert_int_equal(r.cause, CAUSE_OUT_OF_MEMORY);
    assert_non_null(strstr(r.note, "1100 MiB of its 1024 MiB"));
}

static void test_lost_and_disk_and_protocol(void **state)
{
    struct record lost = {0}, disk = {0}, protocol = {0};

    ends_with(*state, (struct machine_exit){.how = EXIT_LOST, .message = "power cut"}, &lost);
    assert_int_equal(lost.cause, CAUSE_LOST);
    assert_non_null(strstr(lost.note, "power cut"));
    ends_with(*state, (struct machine_exit){.how = EXIT_DISK, .used = 1, .limit = 1}, &disk);
    assert_int_equal(disk.cause, CAUSE_KILLED);
    assert_non_null(strstr(disk.note, "disk"));
    ends_with(*state, (struct machine_exit){.how = EXIT_PROTOCOL}, &protocol);
    assert_int_equal(protocol.cause, CAUSE_KILLED);
    assert_int_equal(protocol.signal, 0);
}

static void does_garbage(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_bytes(m, "\xff\xff\xff\xff\xff garbage", 13);
}

static void does_close_its_stream(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_end_stream(m);
}

static void test_broken_stream_ends_the_machine(void **state)
{
    struct context *c = *state;
    struct record garbage = {0}, closed = {0};

    warm_up(c);
    c->place.on_run = does_garbage;
    (void)run(c, &garbage);
    until(c, &garbage.done);
    assert_int_equal(garbage.cause, CAUSE_KILLED);
    assert_int_equal(c->place.kills, 1);
    assert_non_null(strstr(garbage.note, "not a frame"));
    c->place.on_run = does_close_its_stream;
    (void)run(c, &closed);
    until(c, &closed.done);
    assert_int_equal(closed.cause, CAUSE_KILLED);
    assert_non_null(strstr(closed.note, "closed its stream"));
    assert_int_equal(c->place.kills, 2);
}

static void does_forge(struct fake_machine *m, const char *id)
{
    (void)id;
    fake_done(m, "r-other", "\"status\":\"ok\"");
}

static void test_end_of_another_run_is_broken(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_forge;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_KILLED);
    assert_true(r.state_lost);
}

static void test_death_while_idle_is_told_by_the_next_run(void **state)
{
    struct context *c = *state;
    struct record r = {0}, later = {0};

    warm_up(c);
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_SIGNAL, .signal = SIGKILL});
    turns(c, 5);
    assert_false(executor_started(c->e));
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_non_null(strstr(r.note, "restarted"));
    assert_non_null(strstr(r.note, "SIGKILL"));
    (void)run(c, &later);
    until(c, &later.done);
    assert_string_equal(later.note, "");
}

static void test_run_given_to_a_dead_machine_goes_to_the_next(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    warm_up(c);
    c->place.send_fails = true;
    (void)run(c, &r);
    c->place.send_fails = false;
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(c->place.starts, 2);
}

/* ---- starts that fail ---- */

static void test_refused_start(void **state)
{
    struct context *c = *state;
    struct record r = {0}, second = {0}, later = {0};

    c->place.start = FAKE_START_FAILS;
    (void)run(c, &r);
    (void)run(c, &second);
    until(c, &second.done);
    assert_int_equal(r.done, 1);
    assert_int_equal(r.cause, CAUSE_REFUSED);
    assert_non_null(strstr(r.note, "no bars here"));
    assert_int_equal(c->place.starts, 1);
    c->place.start = FAKE_START_OK;
    c->place.on_run = does_ok;
    (void)run(c, &later);
    until(c, &later.done);
    assert_int_equal(later.cause, CAUSE_OK);
}

static void test_start_and_greeting_have_limits(void **state)
{
    struct context *c = *state;
    struct record start = {0}, greeting = {0};

    c->place.start = FAKE_START_NEVER;
    (void)run(c, &start);
    until(c, &start.done);
    assert_int_equal(start.cause, CAUSE_LOST);
    assert_non_null(strstr(start.note, "did not start"));
    c->place.start = FAKE_START_OK;
    c->place.no_greeting = true;
    (void)run(c, &greeting);
    until(c, &greeting.done);
    assert_int_equal(greeting.cause, CAUSE_LOST);
    assert_non_null(strstr(greeting.note, "greet"));
    assert_int_equal(c->place.kills, 2);
    assert_false(executor_started(c->e));
}

/* ---- closing ---- */

static void test_close_in_each_state(void **state)
{
    struct context *c = *state;

    for (int turns_before = 0; turns_before < 8; turns_before++) {
        struct record r = {0}, queued = {0};
        c->closed = false;
        c->place.on_run = does_nothing;
        if (!c->e) {
            c->e = executor_new(&c->place.base);
        }
        (void)run(c, &r);
        (void)run(c, &queued);
        turns(c, turns_before);
        close_executor(c);
        assert_int_equal(r.done, 1);
        assert_int_equal(queued.done, 1);
        assert_int_equal(r.cause, CAUSE_CANCELLED);
        assert_int_equal(queued.cause, CAUSE_CANCELLED);
        assert_int_equal(c->place.live, 0);
    }
}

static void test_close_from_completion(void **state)
{
    struct context *c = *state;
    struct record r = {.close_in_done = true, .executor = c->e}, queued = {0};

    c->place.on_run = does_ok;
    (void)run(c, &r);
    (void)run(c, &queued);
    c->e = NULL;
    uv_run(&c->place.loop, UV_RUN_DEFAULT);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_int_equal(queued.done, 1);
    assert_int_equal(queued.cause, CAUSE_CANCELLED);
}

/* ---- long output ---- */

static void test_long_output_is_kept_in_a_file(void **state)
{
    struct context *c = *state;
    struct record r = {0};
    char real[256];

    (void)snprintf(c->place.spool_dir, sizeof(c->place.spool_dir), "/tmp/cellblock-test-XXXXXX");
    assert_non_null(mkdtemp(c->place.spool_dir));
    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_string_equal(r.path, "/workspace/.cellblock/r-1.stdout");
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 20000);
    (void)snprintf(real, sizeof(real), "%s/r-1.stdout", c->place.spool_dir);
    int fd = open(real, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 20000);
    (void)close(fd);
    (void)unlink(real);
    (void)rmdir(c->place.spool_dir);
}

static void test_output_that_cannot_be_kept_is_counted(void **state)
{
    struct context *c = *state;
    struct record r = {0};

    c->place.on_run = does_flood;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_OK);
    assert_string_equal(r.path, "");
    assert_int_equal(r.full[0].total, 20000);
    assert_int_equal(r.full[0].kept, 0);
}

/* ---- shares ---- */

struct answer_record {
    int count;
    enum error_kind kind;
    char message[256];
};

static void on_answer(void *data, const struct error *err)
{
    struct answer_record *a = data;

    a->count++;
    a->kind = err ? err->kind : ERROR_NONE;
    (void)snprintf(a->message, sizeof(a->message), "%s", err ? err->message : "");
}

static void add(struct context *c, enum share_type type, const char *dest, struct answer_record *a)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    struct share *share = share_new(type, fd, "/src", dest, true);

    assert_non_null(share);
    *a = (struct answer_record){0};
    executor_add_share(c->e, share, NULL, on_answer, a);
    assert_int_equal(a->count, 0);
}

static void test_shares_before_the_first_run(void **state)
{
    struct context *c = *state;
    struct answer_record copy, mount, taken, inside, around;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    add(c, SHARE_MOUNT, "/mnt/x", &mount);
    add(c, SHARE_COPY, "/workspace/data", &taken);
    add(c, SHARE_COPY, "/workspace/data/in", &inside);
    add(c, SHARE_COPY, "/mnt", &around);
    until(c, &around.count);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(mount.kind, ERROR_NONE);
    assert_int_equal(taken.kind, ERROR_INVALID);
    assert_int_equal(inside.kind, ERROR_INVALID);
    assert_int_equal(around.kind, ERROR_INVALID);
    assert_string_equal(executor_share(c->e, 1)->dest, "/mnt/x");
    assert_null(executor_share(c->e, 2));
    assert_int_equal(c->place.starts, 0);
    c->place.on_run = does_ok;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(c->place.puts, 1);
    assert_int_equal(c->place.mount_count, 1);
}

static void test_shares_on_a_live_sandbox(void **state)
{
    struct context *c = *state;
    struct answer_record copy, mount, failing;
    struct record r = {0};

    warm_up(c);
    add(c, SHARE_COPY, "/workspace/data", &copy);
    until(c, &copy.count);
    assert_int_equal(copy.kind, ERROR_NONE);
    assert_int_equal(c->place.puts, 1);
    add(c, SHARE_MOUNT, "/mnt/x", &mount);
    until(c, &mount.count);
    assert_int_equal(mount.kind, ERROR_REFUSED);
    assert_non_null(strstr(mount.message, "reset_session"));
    c->place.put = FAKE_PUT_FAILS;
    add(c, SHARE_COPY, "/workspace/other", &failing);
    until(c, &failing.count);
    assert_int_equal(failing.kind, ERROR_REFUSED);
    assert_null(executor_share(c->e, 1));
    c->place.put = FAKE_PUT_OK;
    c->place.on_run = does_crash;
    (void)run(c, &r);
    until(c, &r.done);
    warm_up(c);
    assert_int_equal(c->place.puts, 3); /* put again after the restart */
}

static void test_copy_that_fails_again_makes_the_start_fail(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    c->place.put = FAKE_PUT_FAILS;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_REFUSED);
    assert_non_null(strstr(r.note, "/src"));
    assert_non_null(strstr(r.note, "no leave to read it"));
    assert_int_equal(copy.count, 1);
}

static void test_death_in_the_middle_of_a_copy(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/data", &copy);
    turns(c, 3);
    assert_int_equal(copy.count, 0);
    fake_exit(c->place.newest, (struct machine_exit){.how = EXIT_CODE});
    until(c, &copy.count);
    assert_int_equal(copy.kind, ERROR_LOST);
    assert_null(executor_share(c->e, 0));
}

static void test_close_in_the_middle_of_a_copy(void **state)
{
    struct context *c = *state;
    struct answer_record copy;

    warm_up(c);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/data", &copy);
    turns(c, 3);
    close_executor(c);
    assert_int_equal(copy.count, 1);
    assert_int_equal(copy.kind, ERROR_LOST);
}

static void test_copies_go_one_at_a_time(void **state)
{
    struct context *c = *state;
    struct answer_record first, second;

    warm_up(c);
    add(c, SHARE_COPY, "/workspace/a", &first);
    add(c, SHARE_COPY, "/workspace/b", &second);
    until(c, &second.count);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.kind, ERROR_NONE);
    c->place.put = FAKE_PUT_NEVER;
    add(c, SHARE_COPY, "/workspace/c", &first);
    add(c, SHARE_COPY, "/workspace/d", &second);
    turns(c, 5);
    assert_int_equal(c->place.puts, 3);
    close_executor(c);
    assert_int_equal(first.kind, ERROR_LOST);
    assert_int_equal(second.kind, ERROR_LOST);
    assert_int_equal(first.count + second.count, 2);
}

static void test_copies_have_a_limit(void **state)
{
    struct context *c = *state;
    struct answer_record copy;
    struct record r = {0};

    add(c, SHARE_COPY, "/workspace/data", &copy);
    c->place.put = FAKE_PUT_NEVER;
    (void)run(c, &r);
    until(c, &r.done);
    assert_int_equal(r.cause, CAUSE_LOST);
    assert_non_null(strstr(r.note, "copies"));
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, record_setup, record_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_first_run_starts_and_output_is_in_order),
        CASE(test_warm_run_never_completes_synchronously),
        CASE(test_runs_queue_in_order),
        CASE(test_text_stays_before_a_display),
        CASE(test_leftovers_are_idle_output),
        CASE(test_frames_between_runs_are_nobodys),
        CASE(test_refusals_make_no_callback),
        CASE(test_queue_has_a_cap),
        CASE(test_timeout_interrupts_and_keeps),
        CASE(test_swallowed_interrupt_is_still_a_timeout),
        CASE(test_ignored_interrupt_kills_and_restarts),
        CASE(test_machine_that_cannot_be_killed_is_given_up),
        CASE(test_cancel_of_a_going_run),
        CASE(test_cancel_that_has_to_kill),
        CASE(test_cancel_while_queued_and_while_starting),
        CASE(test_cancel_during_the_start),
        CASE(test_cancel_from_the_runs_own_output),
        CASE(test_crash_tells_signal_and_keeps_output),
        CASE(test_os_exit_is_an_exit_though_the_stream_closed_first),
        CASE(test_out_of_memory_names_the_figures),
        CASE(test_lost_and_disk_and_protocol),
        CASE(test_broken_stream_ends_the_machine),
        CASE(test_end_of_another_run_is_broken),
        CASE(test_death_while_idle_is_told_by_the_next_run),
        CASE(test_run_given_to_a_dead_machine_goes_to_the_next),
        CASE(test_refused_start),
        CASE(test_start_and_greeting_have_limits),
        CASE(test_close_in_each_state),
        CASE(test_close_from_completion),
        CASE(test_long_output_is_kept_in_a_file),
        CASE(test_output_that_cannot_be_kept_is_counted),
        CASE(test_shares_before_the_first_run),
        CASE(test_shares_on_a_live_sandbox),
        CASE(test_copy_that_fails_again_makes_the_start_fail),
        CASE(test_death_in_the_middle_of_a_copy),
        CASE(test_close_in_the_middle_of_a_copy),
        CASE(test_copies_go_one_at_a_time),
        CASE(test_copies_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
