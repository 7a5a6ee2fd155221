#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/local/child.h"
#include "backends/local/interpreter.h"

struct told {
    struct child child;
    int exits;
    int closes;
};

static void on_closed(struct child *child)
{
    ((struct told *)child->data)->closes++;
}

static void on_exited(struct child *child)
{
    ((struct told *)child->data)->exits++;
}

/* Runs `script` in sh to its end, with `fd` as its descriptor 3 unless that is negative; `t` can be
 * looked at until finish(). */
static void run_with(uv_loop_t *loop, struct told *t, const char *script, uint64_t timeout_ms,
                     int fd)
{
    static const struct sandbox_user self = {0};
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    char *envp[] = {"ONLY=this", NULL};
    struct child_options options = {
        .file = "/bin/sh",
        .argv = argv,
        .envp = envp,
        .read_stdout = true,
        .user = &self,
        .timeout_ms = timeout_ms,
        .fds = &fd,
        .fd_count = fd >= 0,
    };
    memset(t, 0, sizeof(*t));
    assert_int_equal(uv_loop_init(loop), 0);
    assert_int_equal(child_spawn(loop, &t->child, &options, on_exited, t), 0);
    assert_int_equal(t->exits, 0); /* never before it has returned */
    while (t->exits == 0) {
        uv_run(loop, UV_RUN_ONCE);
    }
}

static void run(uv_loop_t *loop, struct told *t, const char *script, uint64_t timeout_ms)
{
    run_with(loop, t, script, timeout_ms, -1);
}

static void finish(uv_loop_t *loop, struct told *t)
{
    child_close(&t->child, on_closed);
    child_close(&t->child, on_closed);
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(t->exits, 1);
    assert_int_equal(t->closes, 1);
    assert_int_equal(uv_loop_close(loop), 0);
}

static void test_outputs_and_status(void **state)
{
    uv_loop_t loop;
    struct told t;
    (void)state;
    run(&loop, &t, "echo out $ONLY $HOME; echo 'went\twrong' >&2; exit 7", 0);
    assert_int_equal(t.child.status, 7);
    assert_int_equal(buffer_size(&t.child.out_text), 9);
    assert_memory_equal(buffer_data(&t.child.out_text), "out this\n", 9);
    assert_string_equal(child_last_words(&t.child), "went wrong");
    finish(&loop, &t);
}

static void test_time_limit(void **state)
{
    uv_loop_t loop;
    struct told t;
    (void)state;
    run(&loop, &t, "sleep 60", 50);
    assert_true(t.child.timed_out);
    assert_int_equal(t.child.term_signal, SIGKILL);
    finish(&loop, &t);
}

/* A grandchild that keeps the pipes does not keep us. */
static void test_grandchild_holds_the_pipe(void **state)
{
    uv_loop_t loop;
    struct told t;
    (void)state;
    run(&loop, &t, "setsid sleep 2 & sleep 0.2; echo done", 0);
    assert_int_equal(t.child.status, 0);
    finish(&loop, &t);
}

/* Whether the last writer of a pipe is gone within ten seconds. */
static bool ends(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 10000) == 1 && poll_fd.revents == POLLHUP;
}

/* What it has started ends with it, whether it is killed or just ends. */
static void test_nothing_of_the_group_stays(void **state)
{
    static const char *const scripts[] = {"sleep 60 & wait", "sleep 60 & exit 3"};
    uv_loop_t loop;
    struct told t;
    int ends_of[2];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pipe2(ends_of, O_CLOEXEC), 0);
        run_with(&loop, &t, scripts[i], i == 0 ? 100 : 0, ends_of[1]);
        close(ends_of[1]);
        assert_true(ends(ends_of[0]));
        assert_int_equal(t.child.term_signal, i == 0 ? SIGKILL : 0);
        close(ends_of[0]);
        finish(&loop, &t);
    }
}

static void test_much_output_keeps_the_end(void **state)
{
    uv_loop_t loop;
    struct told t;
    (void)state;
    run(&loop, &t, "i=0; while [ $i -lt 9000 ]; do echo line$i >&2; i=$((i+1)); done", 0);
    const char *words = child_last_words(&t.child);
    assert_true(strlen(words) < CHILD_ERR_CAP);
    assert_non_null(strstr(words, "line8999"));
    finish(&loop, &t);
}

static void test_no_such_program(void **state)
{
    static const struct sandbox_user self = {0};
    char *argv[] = {"x", NULL};
    char *envp[] = {NULL};
    struct child_options options = {
        .file = "/nonexistent/x", .argv = argv, .envp = envp, .user = &self};
    uv_loop_t loop;
    struct told t = {0};
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(child_spawn(&loop, &t.child, &options, on_exited, &t), UV_ENOENT);
    child_close(&t.child, on_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(t.exits, 0);
    assert_int_equal(t.closes, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- which python ---- */

struct search {
    int told;
    struct interpreter *it;
    char message[2048];
};

static void on_found(void *data, struct interpreter *it, const struct error *err)
{
    struct search *s = data;
    s->told++;
    s->it = it;
    if (err) {
        strncpy(s->message, err->message, sizeof(s->message) - 1);
    }
}

static void find(struct search *s, const char *wanted)
{
    static const struct sandbox_user self = {0};
    uv_loop_t loop;
    memset(s, 0, sizeof(*s));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_non_null(interpreter_find(&loop, wanted, &self, on_found, s));
    assert_int_equal(s->told, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s->told, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_debians_python(void **state)
{
    struct search s;
    (void)state;
    find(&s, "/usr/bin/python3");
    assert_non_null(s.it);
    assert_true(s.it->executable[0] == '/');
    assert_int_equal(strncmp(s.it->version, "3.", 2), 0);
    assert_true(s.it->modules & MODULE_CTYPES);
    assert_null(s.it->folders[0]); /* all of it is under /usr */
    interpreter_free(s.it);
}

static void test_what_is_no_python(void **state)
{
    struct search s;
    (void)state;
    find(&s, "/bin/true");
    assert_null(s.it);
    assert_non_null(strstr(s.message, "/bin/true: it did not answer as a Python interpreter does"));
    find(&s, "/nonexistent/python3");
    assert_null(s.it);
    assert_non_null(strstr(s.message, "no such file"));
    find(&s, "no-such-python-anywhere");
    assert_non_null(strstr(s.message, "no such program on PATH"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_and_status),
        cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_grandchild_holds_the_pipe),
        cmocka_unit_test(test_nothing_of_the_group_stays),
        cmocka_unit_test(test_much_output_keeps_the_end),
        cmocka_unit_test(test_no_such_program),
        cmocka_unit_test(test_debians_python),
        cmocka_unit_test(test_what_is_no_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
