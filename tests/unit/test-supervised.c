/* The runner over a byte stream, with a real python3 at the far end. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/supervised-trial.h"

/* ---- the real one ---- */

static void test_runs(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    struct stat st;
    char folder[256];
    (void)state;
    wait_for(h, &h->readies, 1);
    (void)snprintf(folder, sizeof(folder), "%s", supervised_folder(h->supervised));
    assert_int_equal(stat(folder, &st), 0);
    run(h, "print('one'); 'two'");
    assert_string_equal(h->output, "one\n<'two'>");
    assert_int_equal(h->reply.status, KERNEL_OK);
    run(h, "print('a'); display(1); print('b'); display(2); print('c', end='')");
    assert_string_equal(h->output, "a\n<1>b\n<2>c");
    run(h, "1 / 0");
    assert_int_equal(h->reply.status, KERNEL_ERROR);
    host_free(h);
    assert_int_equal(stat(folder, &st), -1);
}

static void test_a_banner(void **state)
{
    struct host *h = host_with_python(NULL, "echo Welcome; echo 'cellblock-stream-1 3.11.2'");
    (void)state;
    wait_for(h, &h->readies, 1);
    assert_string_equal(supervised_banner(h->supervised), "Welcome cellblock-stream-1 3.11.2");
    run(h, "1");
    host_free(h);
}

static void test_how_it_ends(void **state)
{
    static const struct {
        const char *code;
        enum exit_how how;
        int code_or_signal;
    } cases[] = {
        {"import os; print('last', flush=True); os._exit(3)", EXIT_CODE, 3},
        {"import os; print('last', flush=True); os.kill(os.getpid(), 11)", EXIT_SIGNAL, 11},
        {"import os; print('last', flush=True); os.kill(os.getpid(), 9)", EXIT_SIGNAL, 9},
    };
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    for (int i = 0; i < 3; i++) {
        begin(h, cases[i].code);
        wait_for(h, &h->exits, i + 1);
        assert_int_equal(h->exit.how, cases[i].how);
        assert_int_equal(h->exit.code + h->exit.signal, cases[i].code_or_signal);
        assert_string_equal(h->output, "last\n");
        assert_true(h->exit.peak_rss_kib > 0);
        supervised_start_worker(h->supervised);
        wait_for(h, &h->readies, i + 2);
        run(h, "'again'");
        assert_string_equal(h->output, "<'again'>");
    }
    host_free(h);
}

static void test_interrupt_and_kill(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    begin(h, "kept = 1\nimport time\nprint('going', flush=True)\ntime.sleep(60)");
    while (!strstr(h->output, "going")) {
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    supervised_interrupt(h->supervised);
    wait_for(h, &h->replies, 1);
    assert_int_equal(h->reply.status, KERNEL_INTERRUPTED);
    run(h, "kept");
    assert_string_equal(h->output, "<1>");
    begin(h, "import os, time\nfor n in range(5): os.fork()\nos.setsid()\ntime.sleep(60)");
    supervised_kill(h->supervised);
    wait_for(h, &h->exits, 1);
    assert_int_equal(h->exit.signal, SIGKILL);
    supervised_kill(h->supervised); /* nobody is there: nothing happens */
    supervised_start_worker(h->supervised);
    supervised_kill(h->supervised); /* nobody was told that it is there */
    wait_for(h, &h->exits, 2);
    assert_int_equal(h->workers, 1);
    host_free(h);
}

static void test_attached_later(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    h->attach_later = true;
    wait_for(h, &h->workers, 1);
    uv_timer_start(&h->limit, on_limit, 300, 0);
    for (h->timed_out = false; !h->timed_out;) {
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    h->kernel = runner_kernel.attach(h->link, &kernel_events, h);
    supervised_attached(h->supervised);
    wait_for(h, &h->readies, 1);
    run(h, "2");
    assert_string_equal(h->output, "<2>");
    host_free(h);
}

static void test_leftovers_are_not_the_next_runs(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    run(h, "import threading, time\n"
           "t = threading.Timer(0.2, lambda: print('late'))\nt.start()");
    usleep(400 * 1000); /* it is in the pipe, or on its way here, when the next run is sent */
    run(h, "t.join()\nprint('mine')");
    assert_string_equal(h->output, "mine\n");
    assert_string_equal(h->leftover, "late\n");
    host_free(h);
}

static void test_much_output(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    run(h, "import sys\nfor n in range(100): sys.stdout.write('x' * 100000)");
    assert_int_equal(h->output_total, 10000000);
    host_free(h);
}

static void test_limits(void **state)
{
    const struct supervised_options options = {.memory_mib = 200, .disk_mib = 16};
    struct host *h = host_with_python(&options, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    begin(h, "x = bytearray(b'x') * (400 << 20)\nimport time; time.sleep(20)");
    wait_for(h, &h->exits, 1);
    assert_int_equal(h->exit.how, EXIT_OUT_OF_MEMORY);
    assert_int_equal(h->exit.limit, 200u << 20);
    assert_true(h->exit.used > h->exit.limit);
    supervised_start_worker(h->supervised);
    wait_for(h, &h->readies, 2);
    begin(h, "with open('f', 'wb') as f: f.write(bytes(40 << 20))\nimport time; time.sleep(20)");
    wait_for(h, &h->exits, 2);
    assert_int_equal(h->exit.how, EXIT_DISK);
    assert_int_equal(h->exit.limit, 16u << 20);
    host_free(h);
}

/* ---- shares ---- */

static void on_put(void *data, const struct error *err)
{
    struct host *h = data;
    h->puts++;
    h->put_kind = err ? err->kind : ERROR_NONE;
    (void)snprintf(h->put_error, sizeof(h->put_error), "%s", err ? err->message : "");
}

static char *make_tree(void)
{
    char *folder = strdup("/tmp/test-supervised-XXXXXX");
    char command[512];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(
        command, sizeof(command),
        "cd %s && mkdir -p d/sub/empty && printf hello > d/sub/f && chmod 755 d/sub/f && "
        "ln -s sub/f d/link && head -c 30000000 /dev/zero > large",
        folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a test's own folder
    return folder;
}

static void on_put_progress(void *data, const char *line)
{
    struct host *h = data;
    assert_non_null(strstr(line, "copying /tmp/"));
    h->progresses++;
}

static void put(struct host *h, const char *folder, const char *name, const char *dest)
{
    char source[512];
    struct share *share;
    (void)snprintf(source, sizeof(source), "%s/%s", folder, name);
    share = share_new(SHARE_COPY, open(source, O_PATH | O_CLOEXEC), source, dest, true);
    assert_non_null(share);
    supervised_put(h->supervised, share, on_put_progress, on_put, h);
    share_free(share);
}

static void remove_tree(char *folder)
{
    char command[512];
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
    free(folder);
}

static void test_puts(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    char *folder = make_tree();
    (void)state;
    wait_for(h, &h->readies, 1);
    begin(h, "import os, time\nwhile not os.path.exists('large'): time.sleep(0.01)\n"
             "print(os.path.getsize('large'))");
    put(h, folder, "d", "/workspace/in/d");
    put(h, folder, "large", "/workspace/large"); /* while the run goes on, one after the other */
    assert_int_equal(h->puts, 0);
    wait_for(h, &h->replies, 1);
    assert_string_equal(h->output, "30000000\n");
    wait_for(h, &h->puts, 2);
    assert_string_equal(h->put_error, "");
    run(h, "os.chdir('in/d'); print(sorted(os.listdir('.')), open('link').read(), "
           "os.access('sub/f', os.X_OK), os.path.islink('link'), os.listdir('sub/empty'))");
    assert_string_equal(h->output, "['link', 'sub'] hello True True []\n");
    put(h, folder, "large", "/workspace/in/d");
    wait_for(h, &h->puts, 3);
    assert_int_equal(h->put_kind, ERROR_INVALID);
    assert_non_null(strstr(h->put_error, "dest /workspace/in/d exists"));
    run(h, "os.symlink('/etc', '/tmp/away' if 0 else '../sly')");
    put(h, folder, "d", "/workspace/in/sly/d");
    wait_for(h, &h->puts, 4);
    assert_int_equal(h->put_kind, ERROR_INVALID);
    put(h, folder, "d", "/tmp/d");
    wait_for(h, &h->puts, 5);
    assert_int_equal(h->put_kind, ERROR_NONE);
    host_free(h);
    remove_tree(folder);
}

static void test_a_put_past_the_limit(void **state)
{
    const struct supervised_options options = {.disk_mib = 16};
    struct host *h = host_with_python(&options, NULL);
    char *folder = make_tree();
    (void)state;
    wait_for(h, &h->readies, 1);
    put(h, folder, "large", "/workspace/large");
    wait_for(h, &h->puts, 1);
    assert_int_equal(h->put_kind, ERROR_LIMIT);
    assert_non_null(strstr(h->put_error, "disk_mib"));
    put(h, folder, "d", "/workspace/d"); /* and it goes on */
    wait_for(h, &h->puts, 2);
    assert_int_equal(h->put_kind, ERROR_NONE);
    run(h, "import os; print(sorted(n for n in os.listdir('.') if n[:6] != '.local'))");
    assert_string_equal(h->output, "['d']\n");
    host_free(h);
    remove_tree(folder);
}

static void test_a_put_that_stalls_can_be_given_up(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    char *folder = make_tree();
    (void)state;
    wait_for(h, &h->readies, 1);
    kill(h->process.pid, SIGSTOP);
    put(h, folder, "large", "/workspace/large");
    uv_timer_start(&h->limit, on_limit, STALL_MS, 0);
    for (h->timed_out = false; !h->timed_out;) {
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    /* At first something is read and sent; then nothing moves, and nothing is told any more. */
    assert_true(h->progresses < 3);
    assert_int_equal(h->puts, 0);
    supervised_put_cancel(h->supervised);
    supervised_put_cancel(h->supervised);
    kill(h->process.pid, SIGCONT);
    wait_for(h, &h->puts, 1);
    run(h, "import os; print([n for n in os.listdir('.') if n != '.local'])");
    assert_string_equal(h->output, "[]\n");
    put(h, folder, "d", "/workspace/d"); /* and it goes on */
    wait_for(h, &h->puts, 2);
    assert_string_equal(h->put_error, "");
    supervised_put_cancel(h->supervised); /* there is none */
    run(h, "print([n for n in os.listdir('.') if n != '.local'])");
    assert_string_equal(h->output, "['d']\n");
    host_free(h);
    remove_tree(folder);
}

static void test_a_put_is_given_up_before_it_began(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    char *folder = make_tree();
    (void)state;
    wait_for(h, &h->readies, 1);
    put(h, folder, "d", "/workspace/d");
    supervised_put_cancel(h->supervised);
    assert_int_equal(h->puts, 0);
    wait_for(h, &h->puts, 1);
    assert_non_null(strstr(h->put_error, "given up before it began"));
    run(h, "import os; print([n for n in os.listdir('.') if n != '.local'])");
    assert_string_equal(h->output, "[]\n");
    host_free(h);
    remove_tree(folder);
}

static void test_closed_in_the_middle_of_a_put(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    char *folder = make_tree();
    (void)state;
    wait_for(h, &h->readies, 1);
    put(h, folder, "large", "/workspace/large");
    put(h, folder, "d", "/workspace/d");
    uv_run(&h->loop, UV_RUN_ONCE);
    uv_run(&h->loop, UV_RUN_ONCE);
    host_free(h);
    remove_tree(folder);
}

/* ---- the stream's end ---- */

static void test_killed_from_outside(void **state)
{
    struct host *h = host_with_python(NULL, NULL);
    (void)state;
    wait_for(h, &h->readies, 1);
    begin(h, "import time; time.sleep(60)");
    uv_process_kill(&h->process, SIGTERM); /* it may still clean up then */
    wait_for(h, &h->exits, 1);
    assert_int_equal(h->exit.how, EXIT_LOST);
    assert_string_equal(h->exit_message, "the test's process ended");
    assert_int_equal(h->brokens, 0);
    supervised_start_worker(h->supervised);
    assert_int_equal(h->exits, 1);
    wait_for(h, &h->exits, 2);
    assert_int_equal(h->exit.how, EXIT_LOST);
    host_free(h);
}

static void test_no_python_there(void **state)
{
    struct host *h = host_new(NULL);
    char *argv[] = {"sh", "-c", "echo one; echo 'no such thing'; exit 127", NULL};
    (void)state;
    h->stream.write = real_write;
    spawn(h, argv);
    supervised_open(h->supervised);
    wait_for(h, &h->brokens, 1);
    assert_non_null(strstr(h->broken, "one no such thing"));
    assert_int_equal(h->exits, 0);
    host_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_a_banner),
        cmocka_unit_test(test_how_it_ends),
        cmocka_unit_test(test_interrupt_and_kill),
        cmocka_unit_test(test_attached_later),
        cmocka_unit_test(test_leftovers_are_not_the_next_runs),
        cmocka_unit_test(test_much_output),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_puts),
        cmocka_unit_test(test_a_put_past_the_limit),
        cmocka_unit_test(test_a_put_that_stalls_can_be_given_up),
        cmocka_unit_test(test_a_put_is_given_up_before_it_began),
        cmocka_unit_test(test_closed_in_the_middle_of_a_put),
        cmocka_unit_test(test_killed_from_outside),
        cmocka_unit_test(test_no_python_there),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
