#include "tests/unit/tunnel-trial.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

/* What listens at the far end: gives back what it gets, and says END when no more comes. Ends with
 * the keeper. */
static const char echo_server[] =
    "import os,socket,sys,threading,time\n"
    "s=socket.create_server(('127.0.0.1',int(sys.argv[1])),backlog=64)\n"
    "for n in socket.SO_RCVBUF,socket.SO_SNDBUF: s.setsockopt(socket.SOL_SOCKET,n,1<<18)\n"
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

/* ---- the loop ---- */

static void on_limit(uv_timer_t *timer)
{
    ((struct scene *)timer->data)->late = true;
}

void spin(struct scene *s, bool (*until)(struct scene *s), const char *what)
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

void spin_ms(struct scene *s, unsigned ms)
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

static void on_gone(void *data)
{
    ((struct scene *)data)->gone = true;
}

static const struct tunnel_events events = {on_ready, on_gone, on_broken};

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
    if (n > 0 && !s->closed) {
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

void read_on(struct client *c)
{
    uv_read_start((uv_stream_t *)&c->pipe, on_client_alloc, on_client_read);
}

static void on_client_open(uv_connect_t *request, int status)
{
    struct client *c = request->data;
    assert_int_equal(status, 0);
    c->open = true;
    if (!c->hold) {
        read_on(c);
    }
}

struct client *connect_client(struct scene *s, unsigned index, bool hold)
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

void send_text(struct client *c, const char *bytes, size_t size)
{
    uv_write_t *request = malloc(sizeof(*request) + size);
    uv_buf_t buf = uv_buf_init((char *)(request + 1), (unsigned)size);

    memcpy(request + 1, bytes, size);
    assert_int_equal(uv_write(request, (uv_stream_t *)&c->pipe, &buf, 1, on_sent), 0);
}

void shut(struct client *c)
{
    assert_int_equal(uv_shutdown(&c->shutdown, (uv_stream_t *)&c->pipe, NULL), 0);
}

/* ---- set up, tear down ---- */

static bool is_ready(struct scene *s)
{
    return s->ready;
}

bool is_exited(struct scene *s)
{
    return s->exited;
}

static bool is_closed(struct scene *s)
{
    return s->closed;
}

bool first_ended(struct scene *s)
{
    return s->clients[0].ended;
}

bool first_got_some(struct scene *s)
{
    return s->clients[0].count > 0;
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

struct scene *scene_new(void)
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

void begin(struct scene *s, json_t *argv)
{
    int port = free_port();
    json_t *config =
        json_pack("{s:{s:s}, s:i, s:i}", "env", "TUNNEL", "1", "data", 1 << 30, "port", port);

    if (argv) {
        json_array_append_new(argv, json_sprintf("%d", port));
        json_object_set_new(config, "argv", argv);
    }
    s->stream.write = stream_write;
    spawn(s);
    open_tunnel(s);
    assert_int_equal(tunnel_open(s->tunnel, config), 0);
    json_decref(config);
}

/* With an echo server at the far end. */
int set_up(void **state)
{
    struct scene *s = scene_new();

    begin(s, json_pack("[s, s, s]", "/usr/bin/python3", "-c", echo_server));
    spin(s, is_ready, "the server listens");
    *state = s;
    return 0;
}

/* Nobody at the far end but the test itself. */
int set_up_alone(void **state)
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

int tear_down(void **state)
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
