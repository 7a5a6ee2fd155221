/* The runner over a byte stream: with a real python3 at the far end, and with one that lies. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backends/base/buffer.h"
#include "backends/kernel.h"
#include "backends/kernels/runner/frame_supervisor.h"
#include "backends/kernels/runner/supervised.h"
#include "backends/kernels/runner/supervised_internal.h"

enum { LIMIT_MS = 20 * 1000, TEXT_SIZE = 8192 };

struct host {
    uv_loop_t loop;
    uv_process_t process;
    uv_pipe_t in, out;
    uv_timer_t limit;
    bool spawned, ended, timed_out;
    struct byte_stream stream;
    struct supervised *supervised;
    struct kernel *kernel;
    char space[65536];
    char sent[TEXT_SIZE]; /* by a host without a process */
    size_t sent_size;
    bool start_at_once, attach_later;
    int greetings, workers, exits, brokens, readies, replies, puts, leftovers;
    struct link *link;
    struct machine_exit exit;
    char exit_message[TEXT_SIZE], broken[TEXT_SIZE], output[TEXT_SIZE], put_error[TEXT_SIZE];
    char leftover[TEXT_SIZE];
    enum error_kind put_kind;
    size_t output_total;
    struct kernel_reply reply;
    bool closing, closed;
};

static void add_text(char *to, const char *bytes, size_t size)
{
    size_t have = strlen(to);
    (void)snprintf(to + have, TEXT_SIZE - have, "%.*s", (int)size, bytes);
}

/* ---- the kernel's events ---- */

static void on_ready(void *data, const char *description)
{
    struct host *h = data;
    assert_non_null(strstr(description, "Python 3"));
    h->readies++;
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    (void)stream;
    h->output_total += size;
    add_text(h->output, bytes, size);
}

static void on_leftover(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct host *h = data;
    (void)stream;
    h->leftovers++;
    add_text(h->leftover, bytes, size);
}

static void on_display(void *data, const struct display *display)
{
    struct host *h = data;
    const json_t *text = json_object_get(display->data, "text/plain");
    add_text(h->output, "<", 1);
    add_text(h->output, json_string_value(text), json_string_length(text));
    add_text(h->output, ">", 1);
}

static void on_note(void *data, const char *text)
{
    (void)data;
    (void)text;
}

static void on_reply(void *data, const struct kernel_reply *reply)
{
    struct host *h = data;
    h->replies++;
    h->reply = *reply;
}

static void on_kernel_broken(void *data, const char *why)
{
    (void)data;
    fail_msg("the kernel is broken: %s", why);
}

static const struct kernel_events kernel_events = {
    .on_ready = on_ready,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_reply = on_reply,
    .on_broken = on_kernel_broken,
    .on_leftover = on_leftover,
};

/* ---- the supervised's events ---- */

static void on_greeting(void *data, const char *python)
{
    struct host *h = data;
    assert_int_equal(python[0], '3');
    h->greetings++;
    if (h->start_at_once) {
        supervised_start_worker(h->supervised);
    }
}

static void on_worker(void *data, struct link *link)
{
    struct host *h = data;
    h->workers++;
    h->link = link;
    if (!h->attach_later) {
        h->kernel = runner_kernel.attach(link, &kernel_events, h);
    }
}

static void on_worker_exit(void *data, const struct machine_exit *exit)
{
    struct host *h = data;
    h->exits++;
    h->exit = *exit;
    (void)snprintf(h->exit_message, sizeof(h->exit_message), "%s",
                   exit->message ? exit->message : "");
    if (h->kernel) {
        runner_kernel.detach(h->kernel);
        h->kernel = NULL;
    }
}

static void on_broken(void *data, const char *message)
{
    struct host *h = data;
    h->brokens++;
    (void)snprintf(h->broken, sizeof(h->broken), "%s", message);
}

static const struct supervised_events events = {on_greeting, on_worker, on_worker_exit, on_broken};

/* ---- the stream ---- */

static struct host *of_stream(const struct byte_stream *stream)
{
    return (struct host *)((char *)stream - offsetof(struct host, stream));
}

static int fake_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct host *h = of_stream(stream);
    size_t n = sizeof(h->sent) - h->sent_size;
    memcpy(h->sent + h->sent_size, bytes, size < n ? size : n);
    h->sent_size += size < n ? size : n;
    return 0;
}

static void on_written(uv_write_t *req, int status)
{
    (void)status;
    free(req);
}

static int real_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct host *h = of_stream(stream);
    uv_write_t *req = malloc(sizeof(*req) + size);
    uv_buf_t buf = uv_buf_init((char *)(req + 1), (unsigned)size);
    assert_non_null(req);
    memcpy(req + 1, bytes, size);
    return uv_write(req, (uv_stream_t *)&h->in, &buf, 1, on_written);
}

static size_t real_queued(const struct byte_stream *stream)
{
    return uv_stream_get_write_queue_size((uv_stream_t *)&of_stream(stream)->in);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct host *h = handle->data;
    (void)size;
    *buf = uv_buf_init(h->space, sizeof(h->space));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct host *h = stream->data;
    if (h->closing) {
        return;
    }
    if (n > 0) {
        supervised_feed(h->supervised, buf->base, (size_t)n);
    } else if (n < 0) {
        uv_read_stop(stream);
        supervised_ended(h->supervised, "the test's process ended");
    }
}

static void on_process_end(uv_process_t *process, int64_t status, int term_signal)
{
    struct host *h = process->data;
    (void)status;
    (void)term_signal;
    h->ended = true;
}

/* ---- a host ---- */

static void spawn(struct host *h, char **argv)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&h->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&h->out},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    const uv_process_options_t options = {
        .file = argv[0], .args = argv, .exit_cb = on_process_end, .stdio = stdio, .stdio_count = 3};
    uv_pipe_init(&h->loop, &h->in, 0);
    uv_pipe_init(&h->loop, &h->out, 0);
    h->process.data = h->in.data = h->out.data = h;
    assert_int_equal(uv_spawn(&h->loop, &h->process, &options), 0);
    h->spawned = true;
    uv_read_start((uv_stream_t *)&h->out, on_alloc, on_read);
}

static struct host *host_new(const struct supervised_options *options)
{
    static const struct supervised_options plain = {0};
    struct host *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_int_equal(uv_loop_init(&h->loop), 0);
    uv_timer_init(&h->loop, &h->limit);
    h->limit.data = h;
    h->stream.write = fake_write;
    h->supervised = supervised_new(&h->loop, &h->stream, options ? options : &plain, &events, h);
    assert_non_null(h->supervised);
    return h;
}

/* With the real far side. `before`: a shell script that it comes after, or NULL. */
static struct host *host_with_python(const struct supervised_options *options, const char *before)
{
    struct host *h = host_new(options);
    char *space = NULL, *script = NULL;
    const char *const *far = supervised_command("python3", true, &space);
    assert_non_null(far);
    h->stream.write = real_write;
    h->stream.queued = real_queued;
    if (before) {
        char *argv[] = {"sh", "-c", NULL, NULL};
        assert_true(asprintf(&script, "%s; exec %s %s %s %s %s", before, far[0], far[1], far[2],
                             far[3], far[4]) > 0);
        argv[2] = script;
        spawn(h, argv);
    } else {
        spawn(h, (char **)far);
    }
    free(script);
    free(space);
    h->start_at_once = true;
    supervised_open(h->supervised);
    return h;
}

static void on_limit(uv_timer_t *timer)
{
    ((struct host *)timer->data)->timed_out = true;
}

/* Until `*what` is at least `want`. */
static void wait_for(struct host *h, const int *what, int want)
{
    uv_timer_start(&h->limit, on_limit, LIMIT_MS, 0);
    h->timed_out = false;
    while (*what < want && !h->timed_out) {
        uv_run(&h->loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&h->limit);
    if (*what < want) {
        fail_msg("waited in vain; broken: %s; exit: %s; output: %s", h->broken, h->exit_message,
                 h->output);
    }
}

static void on_closed(void *data)
{
    ((struct host *)data)->closed = true;
}

/* Everything is closed, and the process has ended by itself. */
static void host_free(struct host *h)
{
    if (h->kernel) {
        runner_kernel.detach(h->kernel);
    }
    supervised_close(h->supervised, on_closed, h);
    h->closing = true;
    if (h->spawned) {
        uv_close((uv_handle_t *)&h->in, NULL);
        uv_timer_start(&h->limit, on_limit, LIMIT_MS, 0);
        while (!h->ended && !h->timed_out) {
            uv_run(&h->loop, UV_RUN_ONCE);
        }
        assert_true(h->ended);
        uv_close((uv_handle_t *)&h->process, NULL);
        uv_close((uv_handle_t *)&h->out, NULL);
    }
    uv_close((uv_handle_t *)&h->limit, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
    assert_true(h->closed);
    assert_int_equal(uv_loop_close(&h->loop), 0);
    free(h);
}

static void begin(struct host *h, const char *code)
{
    const struct run_request request = {
        .id = "r-1", .language = "python", .code = code, .code_size = strlen(code)};
    h->output[0] = '\0';
    assert_int_equal(runner_kernel.run(h->kernel, &request), 0);
}

static void run(struct host *h, const char *code)
{
    int before = h->replies;
    begin(h, code);
    wait_for(h, &h->replies, before + 1);
}

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

static void put(struct host *h, const char *folder, const char *name, const char *dest)
{
    char source[512];
    struct share *share;
    (void)snprintf(source, sizeof(source), "%s/%s", folder, name);
    share = share_new(SHARE_COPY, open(source, O_PATH | O_CLOEXEC), source, dest, true);
    assert_non_null(share);
    supervised_put(h->supervised, share, NULL, on_put, h);
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

/* ---- a far side that lies ---- */

static void feed(struct host *h, const void *bytes, size_t size)
{
    supervised_feed(h->supervised, bytes, size);
}

static void feed_frame(struct host *h, int type, const char *payload)
{
    unsigned char header[FRAME_HEADER];
    frame_header(header, (enum frame_type)type, strlen(payload));
    feed(h, header, sizeof(header));
    feed(h, payload, strlen(payload));
}

#define MARKER FRAME_MARKER "3.11.2\x03"
#define HELLO "{\"cellblock\":1,\"python\":\"3.11.2\",\"folder\":\"/tmp/x\"}"

/* In phase 0 … 4: nothing came; the marker; greeted; a worker is asked for; it is there. */
static struct host *host_in_phase(int phase)
{
    struct host *h = host_new(NULL);
    supervised_open(h->supervised);
    if (phase >= 1) {
        feed(h, MARKER, sizeof(MARKER) - 1);
    }
    if (phase >= 2) {
        feed_frame(h, FRAME_HELLO, HELLO);
        assert_int_equal(h->greetings, 1);
    }
    if (phase >= 3) {
        supervised_start_worker(h->supervised);
    }
    if (phase >= 4) {
        feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
        assert_int_equal(h->workers, 1);
    }
    return h;
}

static void test_the_package_waits_for_the_marker(void **state)
{
    struct host *h = host_in_phase(0);
    (void)state;
    feed(h, "$ ", 2);
    assert_int_equal(h->sent_size, 0);
    for (const char *p = MARKER; *p; p++) { /* byte for byte */
        feed(h, p, 1);
    }
    assert_true(h->sent_size > 1000);
    host_free(h);
}

static void test_a_worker_that_is_asked_for_at_once(void **state)
{
    const struct supervised_options options = {.start_at_once = true};
    struct host *h = host_new(&options);

    (void)state;
    supervised_open(h->supervised);
    feed(h, MARKER, sizeof(MARKER) - 1);
    h->start_at_once = true;
    h->sent_size = 0;
    feed_frame(h, FRAME_HELLO, HELLO);
    assert_int_equal(h->greetings, 1);
    assert_int_equal(h->sent_size, 0); /* it is on its way */
    feed_frame(h, FRAME_STARTED, "{\"pid\":1}");
    assert_int_equal(h->workers, 1);
    feed_frame(h, FRAME_EXIT, "{\"how\":\"code\",\"code\":0}");
    assert_int_equal(h->exits, 1);
    supervised_start_worker(h->supervised); /* the next one is not */
    assert_int_equal(h->sent_size, FRAME_HEADER);
    assert_int_equal(h->sent[4], FRAME_START);
    host_free(h);
}

static void test_the_real_one_starts_at_once(void **state)
{
    const struct supervised_options options = {.start_at_once = true};
    struct host *h = host_with_python(&options, NULL);

    (void)state;
    wait_for(h, &h->readies, 1);
    run(h, "print(1)");
    assert_string_equal(h->output, "1\n");
    assert_int_equal(h->workers, 1);
    host_free(h);
}

/* The length that came before the package. */
static size_t package_size(const char *numbers)
{
    struct host *h = host_in_phase(0);
    const unsigned char *sent = (const unsigned char *)h->sent;
    char marker[64];
    size_t size;

    (void)snprintf(marker, sizeof(marker), FRAME_MARKER "%s\x03", numbers);
    feed(h, marker, strlen(marker));
    assert_int_equal(h->brokens, 0);
    assert_true(h->sent_size > 1000);
    size = (size_t)sent[0] | (size_t)sent[1] << 8 | (size_t)sent[2] << 16 | (size_t)sent[3] << 24;
    host_free(h);
    return size;
}

static void test_bytecode_is_for_the_python_that_takes_it(void **state)
{
    const struct embedded_file *source = embedded_find(embedded_runtime, "cellblock.zip");
    char numbers[32];

    (void)state;
    (void)snprintf(numbers, sizeof(numbers), "3.11.2.%s", embedded_worker[0].name);
    assert_int_equal(package_size(numbers), embedded_worker[0].size);
    assert_int_equal(package_size("3.11.2"), source->size);
    assert_int_equal(package_size("3.11.2.0"), source->size);
    assert_int_equal(package_size("3.11.2.1"), source->size);
    assert_int_equal(package_size("3.11.2..."), source->size);
    assert_int_equal(package_size("3.11.2.34951234567890123"), source->size);
}

static void test_an_old_python(void **state)
{
    struct host *h = host_in_phase(0);
    (void)state;
    feed(h, FRAME_MARKER "3.6.8\x03", sizeof(FRAME_MARKER "3.6.8\x03") - 1);
    assert_int_equal(h->brokens, 1);
    assert_non_null(strstr(h->broken, "3.6.8"));
    assert_int_equal(h->sent_size, 0);
    host_free(h);
}

static void test_a_banner_without_end(void **state)
{
    struct host *h = host_in_phase(0);
    char line[1024];
    (void)state;
    memset(line, 'y', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    for (int i = 0; i < 100; i++) {
        feed(h, line, sizeof(line));
    }
    assert_int_equal(h->brokens, 1);
    host_free(h);
}

static void test_garbage_in_every_phase(void **state)
{
    static const struct {
        int type;
        const char *payload;
        int fine; /* the first phase in which it is no garbage, and the one after the last */
        int until;
    } cases[] = {
        {0x00, "", 9, 9},
        {0x01, "{}", 9, 9},
        {0x20, "{}", 9, 9},
        {0x3f, "{}", 9, 9},
        {0xff, "", 9, 9},
        {FRAME_HELLO, "", 9, 9},
        {FRAME_HELLO, "[]", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":2,\"python\":\"3\",\"folder\":\"/x\"}", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":1,\"python\":\"3\",\"folder\":\"x\"}", 9, 9},
        {FRAME_HELLO, "{\"cellblock\":1,\"python\":\"3\",\"folder\":null}", 9, 9},
        {FRAME_HELLO, HELLO, 1, 2},
        {FRAME_STARTED, "{", 9, 9},
        {FRAME_STARTED, "{}", 3, 4},
        {FRAME_BEGUN, "", 9, 9},
        {FRAME_EXIT, "{}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"well\"}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"code\",\"code\":-1}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"code\",\"code\":\"1\"}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"signal\",\"signal\":1000}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"memory\",\"used\":1e3}", 9, 9},
        {FRAME_EXIT, "{\"how\":\"failed\",\"text\":\"why\"}", 3, 5},
        {FRAME_TAKEN, "{\"id\":1,\"bytes\":1}", 9, 9},
        {FRAME_PUT_DONE, "{\"id\":1,\"error\":null}", 9, 9},
        {FRAME_STDOUT, "text", 4, 5},
        {FRAME_DONE, "{}", 4, 5},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int phase = 1; phase <= 4; phase++) {
            struct host *h = host_in_phase(phase);
            bool fine = phase >= cases[i].fine && phase < cases[i].until;
            bool worker = phase >= 3;
            h->attach_later = true;
            if (phase == 4) { /* what the kernel makes of its frames is its own test's matter */
                runner_kernel.detach(h->kernel);
                h->kernel = NULL;
            }
            feed_frame(h, cases[i].type, cases[i].payload);
            if (h->brokens != !fine || (!fine && h->exits != worker)) {
                fail_msg("type %d %s in phase %d: %d broken (%s), %d exits", cases[i].type,
                         cases[i].payload, phase, h->brokens, h->broken, h->exits);
            }
            feed(h, "more of it", 10);
            host_free(h);
        }
    }
}

static void test_lengths_past_the_cap(void **state)
{
    static const unsigned char longs[][FRAME_HEADER] = {
        {0xff, 0xff, 0xff, 0xff, FRAME_STDOUT},
        {0, 0, 0, 3, FRAME_DISPLAY},
        {0, 0, 2, 0, FRAME_EXIT},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct host *h = host_in_phase(4);
        feed(h, longs[i], FRAME_HEADER);
        assert_int_equal(h->brokens, 1);
        assert_int_equal(h->exits, 1);
        assert_int_equal(h->exit.how, EXIT_LOST);
        host_free(h);
    }
}

static void test_ended_in_every_phase(void **state)
{
    (void)state;
    for (int phase = 0; phase <= 4; phase++) {
        struct host *h = host_in_phase(phase);
        supervised_ended(h->supervised, "gone");
        supervised_ended(h->supervised, "gone");
        assert_int_equal(h->brokens, phase < 2);
        assert_int_equal(h->exits, phase >= 3);
        assert_non_null(strstr(phase < 2   ? h->broken
                               : phase < 3 ? "gone"
                                           : h->exit_message,
                               "gone"));
        host_free(h);
    }
}

static void test_closed_in_every_phase(void **state)
{
    (void)state;
    for (int phase = 0; phase <= 4; phase++) {
        host_free(host_in_phase(phase));
    }
}

static void test_the_command_is_plain(void **state)
{
    char *space = NULL;
    const char *const *argv = supervised_command("python3", true, &space);
    (void)state;
    assert_non_null(argv);
    for (size_t i = 0; argv[i]; i++) {
        assert_null(strpbrk(argv[i], " \t\n\"'`$&|;<>()[]{}*?!#~\\^"));
    }
    free(space);
    assert_null(supervised_command("/opt/my python", true, &space));
    assert_null(supervised_command("python3;id", true, &space));
    assert_non_null(supervised_command("/opt/my python", false, &space));
    free(space);
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
        cmocka_unit_test(test_closed_in_the_middle_of_a_put),
        cmocka_unit_test(test_killed_from_outside),
        cmocka_unit_test(test_no_python_there),
        cmocka_unit_test(test_the_package_waits_for_the_marker),
        cmocka_unit_test(test_a_worker_that_is_asked_for_at_once),
        cmocka_unit_test(test_the_real_one_starts_at_once),
        cmocka_unit_test(test_bytecode_is_for_the_python_that_takes_it),
        cmocka_unit_test(test_an_old_python),
        cmocka_unit_test(test_a_banner_without_end),
        cmocka_unit_test(test_garbage_in_every_phase),
        cmocka_unit_test(test_lengths_past_the_cap),
        cmocka_unit_test(test_ended_in_every_phase),
        cmocka_unit_test(test_closed_in_every_phase),
        cmocka_unit_test(test_the_command_is_plain),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
