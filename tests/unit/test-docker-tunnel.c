#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/base/buffer.h"
#include "backends/docker/tunnel.h"

enum { LIMIT_MS = 20000, CLIENTS = TUNNEL_CONNECTIONS + 1, KEEP = 32 * 1024 * 1024 };

/* What listens at the far end: gives back what it gets, and says END when no more comes. Ends with
 * the keeper. */
static const char echo_server[] =
    "import os,socket,sys,threading,time\n"
    "s=socket.create_server(('127.0.0.1',int(sys.argv[1])),backlog=64)\n"
    "def watch():\n"
    " p=os.getppid()\n"
    " while os.getppid()==p: time.sleep(.02)\n"
    " os._exit(0)\n"
    "threading.Thread(target=watch).start()\n"
    "def one(c):\n"
    " try:\n"
    "  while b:=c.recv(65536): c.sendall(b)\n"
    "  c.sendall(b'END')\n"
    " except OSError: pass\n"
    " c.close()\n"
    "while True: threading.Thread(target=one,args=(s.accept()[0],)).start()\n";

struct scene;

struct client {
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    struct scene *scene;
    struct buffer got;
    uint64_t count; /* bytes that came */
    bool open, ended, hold, made;
    unsigned writing; /* bytes not taken yet */
};

struct scene {
    uv_loop_t loop;
    uv_timer_t limit;
    bool late;
    struct byte_stream stream;
    uv_process_t process;
    uv_pipe_t in, out, err;
    bool has_process, exited;
    int64_t status;
    char words[4096];
    struct buffer sent; /* of a stream without a process */
    struct tunnel *tunnel;
    bool ready, closed;
    char broken[256];
    struct client clients[CLIENTS];
    char space[65536];
};

/* ---- the loop ---- */

static void on_limit(uv_timer_t *timer)
{
    ((struct scene *)timer->data)->late = true;
}

static void spin(struct scene *s, bool (*until)(struct scene *s), const char *what)
{
    s->late = false;
    uv_timer_start(&s->limit, on_limit, LIMIT_MS, 0);
    while (!until(s)) {
        uv_run(&s->loop, UV_RUN_ONCE);
        if (s->late) {
            fail_msg("in vain: %s; %s; %s", what, s->broken, s->words);
        }
    }
    uv_timer_stop(&s->limit);
}

static void spin_ms(struct scene *s, unsigned ms)
{
    s->late = false;
    uv_timer_start(&s->limit, on_limit, ms, 0);
    while (!s->late) {
        uv_run(&s->loop, UV_RUN_ONCE);
    }
}

static void on_ready(void *data)
{
    ((struct scene *)data)->ready = true;
}

static void on_broken(void *data, const char *why)
{
    struct scene *s = data;
    assert_string_equal(s->broken, "");
    snprintf(s->broken, sizeof(s->broken), "%s", why);
}

static const struct tunnel_events events = {on_ready, on_broken};

/* ---- a stream to a keeper ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct scene *s = handle->data;
    (void)suggested;
    *buf = uv_buf_init(s->space, sizeof(s->space));
}

static void on_out(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct scene *s = stream->data;
    if (n > 0) {
        tunnel_feed(s->tunnel, buf->base, (size_t)n);
    }
}

static void on_err(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct scene *s = stream->data;
    if (n > 0) {
        strncat(s->words, buf->base, (size_t)n < 1000 ? (size_t)n : 1000);
    }
}

static void on_sent(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static int stream_write(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct scene *s = (struct scene *)((char *)stream - offsetof(struct scene, stream));
    uv_write_t *request = malloc(sizeof(*request) + size);
    uv_buf_t buf = uv_buf_init((char *)(request + 1), (unsigned)size);

    memcpy(request + 1, bytes, size);
    return uv_write(request, (uv_stream_t *)&s->in, &buf, 1, on_sent);
}

static int stream_keep(struct byte_stream *stream, const void *bytes, size_t size)
{
    struct scene *s = (struct scene *)((char *)stream - offsetof(struct scene, stream));
    return buffer_append(&s->sent, bytes, size);
}

static void on_exit_event(uv_process_t *process, int64_t status, int signal)
{
    struct scene *s = process->data;
    (void)signal;
    s->exited = true;
    s->status = status;
}

static void spawn(struct scene *s)
{
    const char *argv[6];
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&s->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->err},
    };
    uv_process_options_t options = {
        .exit_cb = on_exit_event, .stdio = stdio, .stdio_count = 3, .file = "/usr/bin/python3"};

    tunnel_command("/usr/bin/python3", argv);
    options.args = (char **)argv;
    uv_pipe_t *pipes[3] = {&s->in, &s->out, &s->err};
    for (unsigned i = 0; i < 3; i++) {
        uv_pipe_init(&s->loop, pipes[i], 0);
        pipes[i]->data = s;
    }
    s->process.data = s;
    s->has_process = true;
    assert_int_equal(uv_spawn(&s->loop, &s->process, &options), 0);
    uv_read_start((uv_stream_t *)&s->out, on_alloc, on_out);
    uv_read_start((uv_stream_t *)&s->err, on_alloc, on_err);
}

/* ---- clients ---- */

static void on_client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    if (n > 0) {
        c->count += (uint64_t)n;
        assert_int_equal(buffer_append(&c->got, buf->base, (size_t)n), 0);
    } else if (n < 0) {
        c->ended = true;
        uv_read_stop(stream);
    }
}

static void on_client_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->scene->space, sizeof(c->scene->space));
}

static void on_client_open(uv_connect_t *request, int status)
{
    struct client *c = request->data;
    assert_int_equal(status, 0);
    c->open = true;
    if (!c->hold) {
        uv_read_start((uv_stream_t *)&c->pipe, on_client_alloc, on_client_read);
    }
}

static struct client *connect_client(struct scene *s, unsigned index, bool hold)
{
    struct client *c = &s->clients[index];

    c->scene = s;
    c->hold = hold;
    c->made = true;
    buffer_init(&c->got, KEEP);
    uv_pipe_init(&s->loop, &c->pipe, 0);
    c->pipe.data = c->connect.data = c;
    uv_pipe_connect(&c->connect, &c->pipe, tunnel_path(s->tunnel), on_client_open);
    return c;
}

struct client_write {
    uv_write_t base;
    struct client *client;
    unsigned size;
};

static void on_client_sent(uv_write_t *base, int status)
{
    struct client_write *w = (struct client_write *)base;
    if (status == 0) {
        w->client->writing -= w->size;
    }
    free(w);
}

static void send_text(struct client *c, const char *bytes, size_t size)
{
    struct client_write *w = malloc(sizeof(*w) + size);
    uv_buf_t buf = uv_buf_init((char *)(w + 1), (unsigned)size);

    memcpy(w + 1, bytes, size);
    w->client = c;
    w->size = (unsigned)size;
    c->writing += w->size;
    assert_int_equal(uv_write(&w->base, (uv_stream_t *)&c->pipe, &buf, 1, on_client_sent), 0);
}

static void shut(struct client *c)
{
    assert_int_equal(uv_shutdown(&c->shutdown, (uv_stream_t *)&c->pipe, NULL), 0);
}

/* ---- set up, tear down ---- */

static bool is_ready(struct scene *s)
{
    return s->ready;
}

static bool is_exited(struct scene *s)
{
    return s->exited;
}

static bool is_closed(struct scene *s)
{
    return s->closed;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static struct scene *scene_new(void)
{
    struct scene *s = calloc(1, sizeof(*s));

    uv_loop_init(&s->loop);
    uv_timer_init(&s->loop, &s->limit);
    s->limit.data = s;
    buffer_init(&s->sent, KEEP);
    return s;
}

static void open_tunnel(struct scene *s)
{
    struct error err = {0};

    s->tunnel = tunnel_new(&s->loop, &s->stream, &events, s, &err);
    if (!s->tunnel) {
        fail_msg("%s", err.message);
    }
}

static void begin(struct scene *s, json_t *argv)
{
    json_t *config = json_pack("{s:o, s:{s:s}, s:i, s:i}", "argv", argv, "env", "TUNNEL", "1",
                               "data", 1 << 30, "port", free_port());

    /* %port% of the arguments */
    json_array_append_new(
        argv, json_sprintf("%d", (int)json_integer_value(json_object_get(config, "port"))));
    s->stream.write = stream_write;
    spawn(s);
    open_tunnel(s);
    assert_int_equal(tunnel_open(s->tunnel, config), 0);
    json_decref(config);
}

/* With an echo server at the far end. */
static int set_up(void **state)
{
    struct scene *s = scene_new();

    begin(s, json_pack("[s, s, s]", "/usr/bin/python3", "-c", echo_server));
    spin(s, is_ready, "the server listens");
    *state = s;
    return 0;
}

/* Nobody at the far end but the test itself. */
static int set_up_alone(void **state)
{
    struct scene *s = scene_new();

    s->stream.write = stream_keep;
    open_tunnel(s);
    *state = s;
    return 0;
}

static void on_closed(void *data)
{
    ((struct scene *)data)->closed = true;
}

static int tear_down(void **state)
{
    struct scene *s = *state;

    tunnel_close(s->tunnel, on_closed, s);
    spin(s, is_closed, "the tunnel closes");
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (s->clients[i].made) {
            uv_close((uv_handle_t *)&s->clients[i].pipe, NULL);
            buffer_deinit(&s->clients[i].got);
        }
    }
    if (s->has_process) {
        uv_close((uv_handle_t *)&s->in, NULL); /* the keeper ends by that alone */
        spin(s, is_exited, "the keeper ends with its stream");
        uv_close((uv_handle_t *)&s->out, NULL);
        uv_close((uv_handle_t *)&s->err, NULL);
        uv_close((uv_handle_t *)&s->process, NULL);
    }
    uv_close((uv_handle_t *)&s->limit, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    buffer_deinit(&s->sent);
    free(s);
    return 0;
}

/* ---- with a keeper ---- */

static bool first_ended(struct scene *s)
{
    return s->clients[0].ended;
}

static bool first_got_some(struct scene *s)
{
    return s->clients[0].count > 0;
}

static void both_directions_end_one_after_the_other(void **state)
{
    struct scene *s = *state;
    struct client *c = connect_client(s, 0, false);

    send_text(c, "hello", 5);
    spin(s, first_got_some, "an echo");
    assert_false(c->ended);
    shut(c);
    spin(s, first_ended, "the end");
    assert_int_equal(buffer_size(&c->got), 8);
    assert_memory_equal(buffer_data(&c->got), "helloEND", 8);
    assert_string_equal(s->broken, "");
}

/* Half a megabyte for each, all at the same time. */
enum { PART = 512 * 1024 };

static bool all_ended(struct scene *s)
{
    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        if (!s->clients[i].ended) {
            return false;
        }
    }
    return true;
}

static void many_connections_do_not_mix(void **state)
{
    struct scene *s = *state;
    char *bytes = malloc(PART);

    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        struct client *c = connect_client(s, i, false);
        memset(bytes, 'a' + (int)i, PART);
        send_text(c, bytes, PART);
        shut(c);
    }
    spin(s, all_ended, "all ends");
    for (unsigned i = 0; i < TUNNEL_CONNECTIONS; i++) {
        struct client *c = &s->clients[i];
        memset(bytes, 'a' + (int)i, PART);
        assert_int_equal(buffer_size(&c->got), PART + 3);
        assert_memory_equal(buffer_data(&c->got), bytes, PART);
    }
    free(bytes);
}

static bool last_ended(struct scene *s)
{
    return s->clients[CLIENTS - 1].ended;
}

static void one_connection_too_many_is_closed(void **state)
{
    struct scene *s = *state;

    for (unsigned i = 0; i < CLIENTS; i++) {
        connect_client(s, i, false);
    }
    spin(s, last_ended, "the one too many is closed");
    assert_false(s->clients[0].ended);
    send_text(&s->clients[0], "x", 1);
    spin(s, first_got_some, "the others go on");
}

/* Who does not read is not written to without end, and loses nothing. */
static void a_slow_reader_holds_up_its_own_writer(void **state)
{
    enum { WHOLE = 24 * 1024 * 1024 };
    struct scene *s = *state;
    struct client *c = connect_client(s, 0, true);
    char *bytes = malloc(WHOLE);
    unsigned before;

    for (unsigned i = 0; i < WHOLE; i++) {
        bytes[i] = (char)(i * 2654435761U >> 13);
    }
    send_text(c, bytes, WHOLE / 2);
    send_text(c, bytes + WHOLE / 2, WHOLE / 2);
    spin_ms(s, 500);
    before = c->writing;
    assert_true(before > 0); /* the tunnel took some of it, and no more */
    spin_ms(s, 200);
    assert_int_equal(c->writing, before);
    connect_client(s, 1, false);
    send_text(&s->clients[1], "x", 1);
    shut(&s->clients[1]);
    while (!s->clients[1].ended) {
        uv_run(&s->loop, UV_RUN_ONCE); /* others go on meanwhile */
    }
    uv_read_start((uv_stream_t *)&c->pipe, on_client_alloc, on_client_read);
    shut(c);
    spin(s, first_ended, "all of it");
    assert_int_equal(buffer_size(&c->got), WHOLE + 3);
    assert_memory_equal(buffer_data(&c->got), bytes, WHOLE);
    free(bytes);
}

static void a_server_that_ends_ends_the_keeper_with_its_words(void **state)
{
    struct scene *s = scene_new();

    *state = s;
    begin(s, json_pack("[s, s, s]", "/usr/bin/python3", "-c",
                       "import sys; print('no such option'); sys.exit(3)"));
    spin(s, is_exited, "the keeper ends");
    assert_int_equal(s->status, 1);
    spin_ms(s, 100);
    assert_non_null(strstr(s->words, "no such option"));
    assert_non_null(strstr(s->words, "the Kernel Gateway ended with exit code 3"));
    assert_false(s->ready);
}

static void a_server_that_is_not_there_is_named(void **state)
{
    struct scene *s = scene_new();

    *state = s;
    begin(s, json_pack("[s]", "/nonexistent/gateway"));
    spin(s, is_exited, "the keeper ends");
    spin_ms(s, 100);
    assert_non_null(strstr(s->words, "/nonexistent/gateway: No such file"));
}

/* ---- the near end ---- */

static void its_socket_has_no_name(void **state)
{
    struct scene *s = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(address);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    snprintf(to.sun_path, sizeof(to.sun_path), "%s", tunnel_path(s->tunnel));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(getpeername(fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    *strrchr(address.sun_path, '/') = '\0';
    assert_int_equal(access(address.sun_path, F_OK), -1);
    close(fd);
}

static void another_process_is_turned_away(void **state)
{
    struct scene *s = *state;
    char command[256];

    snprintf(command, sizeof(command),
             "/usr/bin/python3 -c \"import socket,sys\n"
             "s=socket.socket(socket.AF_UNIX)\n"
             "s.settimeout(10)\n"
             "s.connect('/proc/%d/fd/%s')\n"
             "sys.exit(len(s.recv(1)))\"",
             (int)getpid(), strrchr(tunnel_path(s->tunnel), '/') + 1);
    FILE *other = popen(command, "r"); // NOLINT(cert-env33-c): a fixed command of our own
    assert_non_null(other);
    spin_ms(s, 1500);
    assert_int_equal(pclose(other), 0);
    assert_int_equal(buffer_size(&s->sent), 0);
}

/* ---- a far end that lies ---- */

static void feed(struct scene *s, unsigned kind, uint32_t number, const void *payload, size_t size)
{
    char *frame = malloc(9 + size);
    uint32_t words[2] = {(uint32_t)size, number};

    memcpy(frame, &words[0], 4);
    frame[4] = (char)kind;
    memcpy(frame + 5, &words[1], 4);
    if (size) {
        memcpy(frame + 9, payload, size);
    }
    tunnel_feed(s->tunnel, frame, 9 + size);
    free(frame);
}

static bool first_open(struct scene *s)
{
    return s->clients[0].open && buffer_size(&s->sent) >= 9;
}

enum { DATA = 3, END, CLOSE, MORE, READY };

static void a_frame_that_is_none_breaks_it_off(void **state)
{
    struct scene *s = *state;
    feed(s, 99, 0, NULL, 0);
    assert_string_equal(s->broken, "it sent a frame that is none");
    feed(s, 98, 0, NULL, 0); /* told once */
}

static void a_connection_that_never_was_breaks_it_off(void **state)
{
    struct scene *s = *state;
    feed(s, DATA, 7, "x", 1);
    assert_string_equal(s->broken, "it sent a frame that is none");
}

static void a_length_past_the_cap_breaks_it_off(void **state)
{
    struct scene *s = *state;
    tunnel_feed(s->tunnel, "\xff\xff\xff\xff\x03\0\0\0\0", 9);
    assert_string_equal(s->broken, "it sent a frame that is too long");
}

static void more_than_the_window_breaks_it_off(void **state)
{
    struct scene *s = *state;
    char *piece = calloc(1, TUNNEL_PIECE);

    connect_client(s, 0, true);
    spin(s, first_open, "a connection");
    for (unsigned i = 0; i < 200 && !s->broken[0]; i++) {
        feed(s, DATA, 1, piece, TUNNEL_PIECE);
    }
    assert_string_equal(s->broken, "it sent more than it was allowed to");
    free(piece);
}

static void a_grant_of_what_was_not_sent_breaks_it_off(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, MORE, 1, "\1\0\0\0", 4);
    assert_string_equal(s->broken, "it took what it was not sent");
}

static void bytes_after_the_end_break_it_off(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, END, 1, NULL, 0);
    feed(s, DATA, 1, "x", 1);
    assert_string_equal(s->broken, "it sent more than it was allowed to");
}

static void frames_for_a_connection_that_is_closed_are_passed_over(void **state)
{
    struct scene *s = *state;
    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    feed(s, CLOSE, 1, NULL, 0);
    feed(s, DATA, 1, "x", 1);
    feed(s, MORE, 1, "\1\0\0\0", 4);
    feed(s, CLOSE, 1, NULL, 0);
    spin(s, first_ended, "the end");
    feed(s, READY, 0, NULL, 0);
    assert_true(s->ready);
    assert_string_equal(s->broken, "");
}

static void a_frame_may_come_byte_by_byte(void **state)
{
    struct scene *s = *state;
    static const char frames[] = "\3\0\0\0\3\1\0\0\0abc\0\0\0\0\7\0\0\0\0";

    connect_client(s, 0, false);
    spin(s, first_open, "a connection");
    for (size_t i = 0; i < sizeof(frames) - 1; i++) {
        tunnel_feed(s->tunnel, frames + i, 1);
    }
    spin(s, first_got_some, "bytes");
    assert_memory_equal(buffer_data(&s->clients[0].got), "abc", 3);
    assert_true(s->ready);
}

static void nobody_is_let_in_when_the_stream_has_ended(void **state)
{
    struct scene *s = *state;
    tunnel_ended(s->tunnel);
    connect_client(s, 0, false);
    spin(s, first_ended, "the end");
    assert_int_equal(buffer_size(&s->sent), 0);
}

#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define ALONE(test) cmocka_unit_test_setup_teardown(test, set_up_alone, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_KEEPER(both_directions_end_one_after_the_other),
        WITH_KEEPER(many_connections_do_not_mix),
        WITH_KEEPER(one_connection_too_many_is_closed),
        WITH_KEEPER(a_slow_reader_holds_up_its_own_writer),
        cmocka_unit_test_teardown(a_server_that_ends_ends_the_keeper_with_its_words, tear_down),
        cmocka_unit_test_teardown(a_server_that_is_not_there_is_named, tear_down),
        ALONE(its_socket_has_no_name),
        ALONE(another_process_is_turned_away),
        ALONE(a_frame_that_is_none_breaks_it_off),
        ALONE(a_connection_that_never_was_breaks_it_off),
        ALONE(a_length_past_the_cap_breaks_it_off),
        ALONE(more_than_the_window_breaks_it_off),
        ALONE(a_grant_of_what_was_not_sent_breaks_it_off),
        ALONE(bytes_after_the_end_break_it_off),
        ALONE(frames_for_a_connection_that_is_closed_are_passed_over),
        ALONE(a_frame_may_come_byte_by_byte),
        ALONE(nobody_is_let_in_when_the_stream_has_ended),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
