#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"

#include "backends/base/buffer.h"
#include "backends/base/net/websocket.h"

enum { LIMIT_MS = 20000, KEEP_CAP = 64 * 1024 * 1024, LINE = 256 };

/* The server of websocket_server.py, one for all tests. */
struct server {
    char folder[64];
    pid_t pid;
    int in, out;
    int plain, tls, wrong, silent; /* ports */
    int tls6, wrong6;              /* of ::1; 0 where there is no IPv6 */
};

/* A websocket on a loop of its own, and what it told. */
struct client {
    struct server *server;
    uv_loop_t loop;
    struct websocket_context *context;
    struct websocket *ws;
    struct buffer kept; /* the newest message */
    uint64_t bytes;     /* of all messages */
    long status;
    struct error err;
    unsigned opened, messages, ended, closed, context_closed;
    unsigned close_at; /* after so many messages it is closed within on_message */
    unsigned pause_at; /* likewise paused */
    bool binary;       /* the newest message */
    bool close_in_open, close_in_end;
    char subprotocol[64];
};

/* ---- the server's process ---- */

static void read_line(int fd, char line[LINE])
{
    size_t size = 0;
    while (size < LINE - 1 && read(fd, line + size, 1) == 1 && line[size] != '\n') {
        size++;
    }
    line[size] = '\0';
}

static int start_server(void **state)
{
    struct server *s = calloc(1, sizeof(*s));
    char script[512], line[LINE];
    int in[2], out[2];
    strcpy(s->folder, "/tmp/test-websocket-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    const char *root = getenv("CELLBLOCK_SOURCE_ROOT");
    snprintf(script, sizeof(script), "%s/tests/unit/websocket_server.py", root ? root : ".");
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execlp("python3", "python3", "-S", "-E", script, s->folder, NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = out[0];
    read_line(s->out, line);
    char *at = line;
    s->plain = (int)strtol(at, &at, 10);
    s->tls = (int)strtol(at, &at, 10);
    s->wrong = (int)strtol(at, &at, 10);
    s->silent = (int)strtol(at, &at, 10);
    s->tls6 = (int)strtol(at, &at, 10);
    s->wrong6 = (int)strtol(at, &at, 10);
    *state = s;
    return s->silent > 0 ? 0 : -1;
}

static int stop_server(void **state)
{
    struct server *s = *state;
    char command[256];
    close(s->in);
    close(s->out);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf %s", s->folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed name of our own
    free(s);
    return 0;
}

/* The server has to say this line; others before it are skipped. */
static void assert_server_says(struct server *s, const char *want)
{
    char line[LINE] = "?";
    while (line[0] && strcmp(line, want) != 0) {
        read_line(s->out, line);
    }
    assert_string_equal(line, want);
}

/* Has the server said this by now? All that it has said is read. */
static bool hear(struct server *s, const char *what)
{
    char space[4096] = "";
    bool said = false;
    fcntl(s->out, F_SETFL, O_NONBLOCK);
    for (ssize_t n; (n = read(s->out, space, sizeof(space))) > 0;) {
        said = said || memmem(space, (size_t)n, what, strlen(what));
    }
    fcntl(s->out, F_SETFL, 0);
    return said;
}

/* ---- the client ---- */

static void on_closed(void *data)
{
    ((struct client *)data)->closed++;
}

static void on_context_closed(void *data)
{
    ((struct client *)data)->context_closed++;
}

static void close_client(struct client *c)
{
    websocket_close(c->ws, on_closed, c);
    c->ws = NULL;
}

static void on_open(void *data, const char *subprotocol)
{
    struct client *c = data;
    assert_int_equal(c->opened + c->messages + c->ended + c->closed, 0);
    c->opened++;
    snprintf(c->subprotocol, sizeof(c->subprotocol), "%s", subprotocol);
    if (c->close_in_open) {
        close_client(c);
    }
}

static void on_message(void *data, bool binary, const char *bytes, size_t size)
{
    struct client *c = data;
    assert_non_null(c->ws);
    assert_int_equal(c->opened, 1);
    assert_int_equal(c->ended + c->closed, 0);
    c->messages++;
    c->bytes += size;
    c->binary = binary;
    buffer_reset(&c->kept);
    assert_int_equal(buffer_append(&c->kept, bytes, size), 0);
    if (c->messages == c->pause_at) {
        websocket_pause(c->ws, true);
    }
    if (c->messages == c->close_at) {
        close_client(c);
    }
}

static void on_end(void *data, long status, const struct error *err)
{
    struct client *c = data;
    assert_non_null(c->ws);
    assert_int_equal(c->ended + c->closed, 0);
    assert_non_null(err);
    assert_int_not_equal(err->kind, ERROR_NONE);
    c->ended++;
    c->status = status;
    error_copy(&c->err, err);
    if (c->close_in_end) {
        close_client(c);
    }
}

static const struct websocket_events events = {on_open, on_message, on_end};

static void set_up(struct client *c, struct server *server)
{
    struct error err = {0};
    *c = (struct client){.server = server};
    assert_int_equal(uv_loop_init(&c->loop), 0);
    buffer_init(&c->kept, KEEP_CAP);
    c->context = websocket_context_new(&c->loop, &err);
    if (!c->context) {
        fail_msg("%s", err.message);
    }
}

/* Opens to ws://127.0.0.1:PORT/PATH, the plain port unless the options have a URL. */
static void begin(struct client *c, struct server *server, const char *path,
                  struct websocket_options options)
{
    char url[4096];
    struct error err = {0};
    set_up(c, server);
    if (!options.url) {
        snprintf(url, sizeof(url), "ws://127.0.0.1:%d/%s", server->plain, path);
        options.url = url;
    }
    c->ws = websocket_open(c->context, &options, &events, c, &err);
    if (!c->ws) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(c->opened + c->ended, 0); /* nothing before it has returned */
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void free_tick(uv_handle_t *handle)
{
    free(handle);
}

/* Turns the loop until *count is `want`, or for `limit_ms`. */
static void turn(struct client *c, const unsigned *count, unsigned want, unsigned limit_ms)
{
    uv_timer_t *tick = malloc(sizeof(*tick));
    const char *preload = getenv("LD_PRELOAD");
    bool valgrind = preload && strstr(preload, "vgpreload");
    unsigned patience = valgrind && limit_ms == LIMIT_MS ? 10 : 1;
    uint64_t end = uv_hrtime() + limit_ms * 1000000ull * patience;
    uv_timer_init(&c->loop, tick);
    uv_timer_start(tick, on_tick, 5, 5);
    while (*count < want && uv_hrtime() < end) {
        uv_run(&c->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)tick, free_tick);
}

static void wait_for(struct client *c, const unsigned *count, unsigned want)
{
    turn(c, count, want, LIMIT_MS);
    if (*count != want) {
        fail_msg("%u instead of %u; the end: %s", *count, want,
                 c->err.message ? c->err.message : "none");
    }
}

static void rest(struct client *c, unsigned ms)
{
    unsigned never = 0;
    turn(c, &never, 1, ms);
}

/* Closes all of it; nothing may be left in the loop. */
static void finish(struct client *c)
{
    if (c->ws) {
        close_client(c);
    }
    wait_for(c, &c->closed, 1);
    websocket_context_close(c->context, on_context_closed, c);
    uint64_t began = uv_hrtime();
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_true(uv_hrtime() - began < LIMIT_MS * 1000000ull);
    assert_int_equal(c->context_closed, 1);
    assert_int_equal(uv_loop_close(&c->loop), 0);
    buffer_deinit(&c->kept);
    error_clear(&c->err);
}

static void send_text(struct client *c, const char *text)
{
    assert_int_equal(websocket_send(c->ws, false, text, strlen(text)), 0);
}

static void assert_kept(struct client *c, bool binary, const char *bytes, size_t size)
{
    assert_int_equal(c->binary, binary);
    assert_int_equal(buffer_size(&c->kept), size);
    if (size > 0) {
        assert_memory_equal(buffer_data(&c->kept), bytes, size);
    }
}

static char pattern_at(size_t i)
{
    return (char)(i % 251);
}

/* The server's pattern() of this size. */
static void assert_pattern(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != pattern_at(i)) {
            fail_msg("byte %zu of %zu is wrong", i, size);
        }
    }
}

/* ---- what works ---- */

static void test_echo(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, "");
    send_text(&c, "hello");
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "hello", 5);
    assert_int_equal(websocket_send(c.ws, true, "\0\1\2", 3), 0);
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, true, "\0\1\2", 3);
    assert_int_equal(websocket_send(c.ws, true, NULL, 0), 0);
    wait_for(&c, &c.messages, 3);
    assert_kept(&c, true, "", 0);
    finish(&c);
    assert_server_says(*state, "close 1000");
    assert_int_equal(c.ended, 0);
}

static void test_unix_socket(void **state)
{
    struct client c;
    struct server *server = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/socket", server->folder);
    begin(&c, server, NULL,
          (struct websocket_options){
              .url = "ws://docker/headers?a=b%20c", .unix_socket = path, .quick_ack = true});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_append(&c.kept, "", 1), 0);
    assert_non_null(strstr(buffer_data(&c.kept), "host: docker\n"));
    finish(&c);
}

static void test_headers(void **state)
{
    const char *const headers[] = {"Authorization: token 1234", "Cookie: a=b", NULL};
    struct client c;
    char host[64];
    struct server *server = *state;
    begin(&c, server, "headers", (struct websocket_options){.headers = headers});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_append(&c.kept, "", 1), 0);
    const char *text = buffer_data(&c.kept);
    snprintf(host, sizeof(host), "host: 127.0.0.1:%d\n", server->plain);
    assert_non_null(strstr(text, host));
    assert_non_null(strstr(text, "authorization: token 1234\n"));
    assert_non_null(strstr(text, "cookie: a=b"));
    assert_null(strstr(text, "origin"));
    finish(&c);
}

static void test_a_name_is_resolved(void **state)
{
    struct client c;
    struct server *server = *state;
    char url[64];
    snprintf(url, sizeof(url), "ws://localhost:%d/echo", server->plain);
    begin(&c, server, NULL, (struct websocket_options){.url = url});
    wait_for(&c, &c.opened, 1); /* also where the name has an IPv6 address that refuses */
    finish(&c);
}

static void test_subprotocols(void **state)
{
    const char *jupyter = "v1.kernel.websocket.jupyter.org";
    struct client c;
    begin(&c, *state, "subprotocol", (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, jupyter);
    finish(&c);
    begin(&c, *state, "echo", (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.opened, 1);
    assert_string_equal(c.subprotocol, "");
    finish(&c);
    begin(&c, *state, "subprotocol?choose=other",
          (struct websocket_options){.subprotocol = jupyter});
    wait_for(&c, &c.ended, 1);
    assert_int_equal(c.opened, 0);
    finish(&c);
}

/* Goes on to the next message, and pauses there. */
static void next_message(struct client *c)
{
    c->pause_at = c->messages + 1;
    websocket_pause(c->ws, false);
    wait_for(c, &c->messages, c->pause_at);
}

static void test_fragments(void **state)
{
    struct client c;
    begin(&c, *state, "fragments", (struct websocket_options){0});
    c.pause_at = 1;
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "one two drei \xf0\x9f\x90\x8d", 17);
    next_message(&c);
    assert_true(c.binary);
    assert_int_equal(buffer_size(&c.kept), 300003);
    assert_pattern(buffer_data(&c.kept), 300000);
    assert_memory_equal(buffer_data(&c.kept) + 300000, "end", 3);
    next_message(&c);
    assert_kept(&c, false, "", 0);
    websocket_pause(c.ws, false);
    assert_server_says(*state, "pong between");
    finish(&c);
}

static void test_byte_by_byte(void **state)
{
    struct client c;
    begin(&c, *state, "bytewise", (struct websocket_options){0});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_size(&c.kept), 200);
    assert_pattern(buffer_data(&c.kept), 200);
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, true, "x", 1);
    finish(&c);
}

static void test_answer_and_message_in_one_write(void **state)
{
    struct client c;
    begin(&c, *state, "coalesced", (struct websocket_options){0});
    wait_for(&c, &c.messages, 2);
    assert_kept(&c, false, "and again", 9);
    finish(&c);
}

static void test_slow_and_large_heads(void **state)
{
    struct client c;
    begin(&c, *state, "slow-head", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    finish(&c);
    begin(&c, *state, "large-head", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    finish(&c);
}

static void test_pings_are_answered(void **state)
{
    struct client c;
    begin(&c, *state, "ping", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    rest(&c, 100);
    assert_server_says(*state, "pong are you there");
    finish(&c);
}

static void test_ten_megabytes_in(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=10000000&count=2", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    wait_for(&c, &c.messages, 2);
    print_message("20 MB came in %llu ms\n", (unsigned long long)((uv_hrtime() - began) / 1000000));
    assert_int_equal(buffer_size(&c.kept), 10000000);
    assert_pattern(buffer_data(&c.kept), 10000000);
    finish(&c);
}

static void test_much_out_in_order(void **state)
{
    enum { SIZE = 5000000, COUNT = 100 };
    struct client c;
    char want[64];
    char *bytes = malloc(SIZE);
    begin(&c, *state, "sink", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = pattern_at(i);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i % 10);
        send_text(&c, text);
    }
    assert_int_equal(websocket_send(c.ws, true, bytes, SIZE), 0);
    send_text(&c, "sum");
    wait_for(&c, &c.messages, 1);
    snprintf(want, sizeof(want), "%d %d ", COUNT + 1, COUNT + SIZE);
    assert_memory_equal(buffer_data(&c.kept), want, strlen(want));
    /* The digest of the ten digits, ten times, and the pattern. */
    assert_memory_equal(buffer_data(&c.kept) + strlen(want),
                        "b4f33022921c9819e059dbcb20b4df210c740aa5", 40);
    free(bytes);
    finish(&c);
}

static void test_the_queue_has_a_cap(void **state)
{
    enum { SIZE = 16 * 1024 * 1024 };
    struct client c;
    char *bytes = calloc(1, SIZE);
    unsigned sent = 0;
    begin(&c, *state, "deaf", (struct websocket_options){0});
    assert_int_equal(websocket_send(c.ws, false, "early", 5), -EPIPE);
    wait_for(&c, &c.opened, 1);
    int r = 0;
    while (sent < 100 && (r = websocket_send(c.ws, true, bytes, SIZE)) == 0) {
        sent++;
    }
    assert_int_equal(r, -ENOBUFS);
    assert_int_equal(sent, WEBSOCKET_QUEUE_CAP / SIZE);
    free(bytes);
    rest(&c, 50);
    uint64_t began = uv_hrtime();
    finish(&c); /* what the peer does not take does not hold us for ever */
    assert_true(uv_hrtime() - began < 4000000000ull);
}

static void test_pause(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=20000", (struct websocket_options){0});
    c.pause_at = 10;
    wait_for(&c, &c.messages, 10);
    rest(&c, 300);
    assert_int_equal(c.messages, 10);
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 20000);
    assert_int_equal(c.bytes, 20000 * 1000ull);
    finish(&c);
}

/* The peer feels it: it cannot have sent all when nothing is read. */
static void test_pause_holds_the_peer_back(void **state)
{
    struct client c;
    struct server *server = *state;
    hear(server, "");
    begin(&c, server, "big?size=1000000&count=30", (struct websocket_options){0});
    c.pause_at = 1;
    wait_for(&c, &c.messages, 1);
    rest(&c, 500);
    assert_false(hear(server, "sent"));
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 30);
    assert_server_says(server, "sent");
    finish(&c);
}

static void test_closed_while_paused(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=20000", (struct websocket_options){0});
    c.pause_at = 10;
    wait_for(&c, &c.messages, 10);
    uint64_t began = uv_hrtime();
    finish(&c);
    assert_true(uv_hrtime() - began < 4000000000ull);
    assert_int_equal(c.messages, 10);
}

/* Without TCP_QUICKACK each of the server's small writes waits 40 ms for our acknowledgement. */
static unsigned exchange_ms(struct server *server, bool quick)
{
    enum { TURNS = 10 };
    struct client c;
    begin(&c, server, "two-writes", (struct websocket_options){.quick_ack = quick});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    for (unsigned i = 1; i <= TURNS; i++) {
        send_text(&c, "ask");
        wait_for(&c, &c.messages, 2 * i);
    }
    uint64_t took = (uv_hrtime() - began) / 1000000 / TURNS;
    finish(&c);
    return (unsigned)took;
}

static void test_quick_acknowledgements(void **state)
{
    unsigned slow = exchange_ms(*state, false);
    unsigned quick = exchange_ms(*state, true);
    print_message("an exchange with small writes: %u ms, with quick_ack %u ms\n", slow, quick);
    assert_true(quick < 15);
    assert_true(slow > 2 * quick);
}

/* ---- TLS ---- */

static void begin_tls(struct client *c, struct server *server, const char *host, int port, bool ca,
                      bool insecure)
{
    char url[128], file[128];
    snprintf(url, sizeof(url), "wss://%s:%d/echo", host, port);
    snprintf(file, sizeof(file), "%s/good.pem", server->folder);
    begin(
        c, server, NULL,
        (struct websocket_options){.url = url, .ca_file = ca ? file : NULL, .insecure = insecure});
}

static void assert_tls_works(struct server *server, const char *host, int port, bool ca,
                             bool insecure)
{
    struct client c;
    begin_tls(&c, server, host, port, ca, insecure);
    wait_for(&c, &c.opened, 1);
    send_text(&c, "secret");
    wait_for(&c, &c.messages, 1);
    assert_kept(&c, false, "secret", 6);
    finish(&c);
}

static void assert_ends(struct client *c, enum error_kind kind, const char *part)
{
    wait_for(c, &c->ended, 1);
    assert_int_equal(c->err.kind, kind);
    if (!strstr(c->err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, c->err.message);
    }
    finish(c);
}

static void test_tls(void **state)
{
    struct server *server = *state;
    assert_tls_works(server, "localhost", server->tls, true, false);
    assert_tls_works(server, "127.0.0.1", server->tls, true, false);
    assert_tls_works(server, "localhost", server->wrong, false, true);
}

static void test_tls_refused(void **state)
{
    struct server *server = *state;
    struct client c;
    begin_tls(&c, server, "localhost", server->tls, false, false);
    assert_ends(&c, ERROR_LOST, "self-signed certificate");
    begin_tls(&c, server, "localhost", server->wrong, true, false);
    assert_ends(&c, ERROR_LOST, "certificate");
}

static void test_tls_with_a_wrong_name(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128], file[128];
    snprintf(url, sizeof(url), "wss://localhost:%d/echo", server->wrong);
    snprintf(file, sizeof(file), "%s/wrong.pem", server->folder);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "hostname mismatch");
    snprintf(url, sizeof(url), "wss://127.0.0.1:%d/echo", server->wrong);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "IP address mismatch");
}

static void test_tls_to_an_ipv6_address(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128], file[128];
    if (server->tls6 == 0) {
        skip();
    }
    assert_tls_works(server, "[::1]", server->tls6, true, false);
    snprintf(url, sizeof(url), "wss://[::1]:%d/echo", server->wrong6);
    snprintf(file, sizeof(file), "%s/wrong.pem", server->folder);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .ca_file = file});
    assert_ends(&c, ERROR_LOST, "IP address mismatch");
}

static void test_tls_large_messages(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[128];
    snprintf(url, sizeof(url), "wss://localhost:%d/big?size=3000000", server->tls);
    begin(&c, server, NULL, (struct websocket_options){.url = url, .insecure = true});
    wait_for(&c, &c.messages, 1);
    assert_pattern(buffer_data(&c.kept), 3000000);
    assert_int_equal(websocket_send(c.ws, true, buffer_data(&c.kept), 3000000), 0);
    wait_for(&c, &c.messages, 2);
    assert_int_equal(buffer_size(&c.kept), 3000000);
    assert_pattern(buffer_data(&c.kept), 3000000);
    finish(&c);
}

static void test_tls_where_there_is_none(void **state)
{
    struct server *server = *state;
    struct client c;
    begin_tls(&c, server, "localhost", server->plain, true, false);
    assert_ends(&c, ERROR_LOST, "handshake");
    begin_tls(&c, server, "localhost", server->tls, true, false);
    c.close_in_end = true;
    close_client(&c); /* in the middle of its own handshake */
    finish(&c);
}

static void test_a_ca_file_that_is_none(void **state)
{
    struct server *server = *state;
    struct client c;
    struct error err = {0};
    struct websocket_options options = {.url = "wss://localhost/", .ca_file = "/nonexistent.pem"};
    set_up(&c, server);
    assert_null(websocket_open(c.context, &options, &events, &c, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "/nonexistent.pem"));
    error_clear(&err);
    c.closed = 1;
    finish(&c);
}

/* ---- refused and cut, phase by phase ---- */

static void assert_path_ends(struct server *server, const char *path, enum error_kind kind,
                             long status, const char *part)
{
    struct client c;
    begin(&c, server, path, (struct websocket_options){.message_cap = 1000000});
    wait_for(&c, &c.ended, 1);
    if (c.status != status) {
        fail_msg("%s: status %ld: %s", path, c.status, c.err.message);
    }
    assert_ends(&c, kind, part);
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static void test_nobody_listens(void **state)
{
    struct client c;
    char url[64];
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", free_port());
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    assert_ends(&c, ERROR_LOST, "Connection refused");
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    c.close_in_end = true;
    assert_ends(&c, ERROR_LOST, "Connection refused");
    begin(&c, *state, NULL,
          (struct websocket_options){.url = "ws://docker/", .unix_socket = "/nonexistent/socket"});
    assert_ends(&c, ERROR_LOST, "/nonexistent/socket: No such file");
    begin(&c, *state, NULL, (struct websocket_options){.url = "ws://nowhere.invalid/"});
    wait_for(&c, &c.ended, 1);
    assert_non_null(strstr(c.err.message, "nowhere.invalid"));
    finish(&c);
}

/* A listener whose queue is full: the kernel answers no SYN. */
static void test_no_connection_in_time(void **state)
{
    enum { FILLERS = 4 };
    struct client c;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fillers[FILLERS];
    char url[64];
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&at, size);
    }
    usleep(20000);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/", ntohs(at.sin_port));
    begin(&c, *state, NULL, (struct websocket_options){.url = url, .connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no connection within 200 ms");
    begin(&c, *state, NULL, (struct websocket_options){.url = url});
    rest(&c, 50);
    finish(&c); /* closed while it connects */
    assert_int_equal(c.ended, 0);
    for (int i = 0; i < FILLERS; i++) {
        close(fillers[i]);
    }
    close(fd);
}

static void test_no_handshake_in_time(void **state)
{
    struct server *server = *state;
    struct client c;
    char url[64];
    begin(&c, server, "no-answer", (struct websocket_options){.connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    begin(&c, server, "no-answer", (struct websocket_options){.connect_timeout_ms = 200});
    c.close_in_end = true;
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    snprintf(url, sizeof(url), "wss://127.0.0.1:%d/", server->silent); /* in TLS */
    begin(&c, server, NULL, (struct websocket_options){.url = url, .connect_timeout_ms = 200});
    assert_ends(&c, ERROR_TIMEOUT, "no answer to the WebSocket handshake within 200 ms");
    begin(&c, server, "no-answer", (struct websocket_options){0});
    rest(&c, 50);
    finish(&c); /* closed while it waits */
    assert_int_equal(c.ended, 0);
}

static void test_refused(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "status?is=401+Unauthorized", ERROR_REFUSED, 401, "HTTP 401 Unauthorized");
    assert_path_ends(s, "status?is=403+Forbidden", ERROR_REFUSED, 403, "HTTP 403 Forbidden");
    assert_path_ends(s, "status?is=404+Not+Found", ERROR_NOT_FOUND, 404, "HTTP 404 Not Found");
    assert_path_ends(s, "status?is=503+Busy", ERROR_LOST, 503, "HTTP 503 Busy");
    assert_path_ends(s, "status?is=302+Found", ERROR_LOST, 302, "HTTP 302 Found");
    assert_path_ends(s, "status?is=200+OK", ERROR_LOST, 200, "HTTP 200 OK");
}

static void test_a_handshake_that_is_wrong(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "wrong-accept", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "no-accept", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "no-http", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "endless-head", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=0", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=7", ERROR_LOST, 0, "handshake");
    assert_path_ends(s, "cut-head?at=60", ERROR_LOST, 0, "handshake");
}

static void test_cut(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "cut?at=first", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=head", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=length", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=payload", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=payload&reset=1", ERROR_LOST, 0, "was lost");
    assert_path_ends(s, "cut?at=first&joined=1", ERROR_LOST, 0, "in the middle of a message");
}

static void test_closed_by_the_peer(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "close?code=1000", ERROR_LOST, 0, "code 1000");
    assert_server_says(s, "answered 8 03e8");
    assert_path_ends(s, "close?code=4001&reason=kernel+gone", ERROR_LOST, 0,
                     "code 4001, kernel gone");
    assert_server_says(s, "answered 8 0fa16b65726e656c20676f6e65");
    assert_path_ends(s, "close", ERROR_LOST, 0, "code 1005");
}

static void test_too_long(void **state)
{
    struct server *s = *state;
    assert_path_ends(s, "too-long", ERROR_LIMIT, 0, "more than 1000000 bytes");
    assert_server_says(s, "close 1009");
    assert_path_ends(s, "too-long?size=1000001", ERROR_LIMIT, 0, "more than 1000000 bytes");
    assert_path_ends(s, "long-fragments", ERROR_LIMIT, 0, "more than 1000000 bytes");
}

static void test_frames_that_are_invalid(void **state)
{
    static const char *const what[] = {"opcode",    "rsv",       "continuation", "long-ping",
                                       "half-ping", "half-text", "length"};
    char path[64];
    for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
        snprintf(path, sizeof(path), "invalid?what=%s", what[i]);
        assert_path_ends(*state, path, ERROR_LOST, 0, "no valid frame");
    }
}

static void test_garbage(void **state)
{
    struct client c;
    for (int i = 0; i < 20; i++) {
        begin(&c, *state, "garbage", (struct websocket_options){.message_cap = 100000});
        turn(&c, &c.ended, 1, 50); /* what looks like a long frame is waited for */
        finish(&c);
    }
}

/* ---- silence ---- */

static void test_a_silent_peer_is_given_up(void **state)
{
    struct client c;
    begin(&c, *state, "pings-unanswered", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    assert_ends(&c, ERROR_LOST, "a ping was not answered");
    assert_true(uv_hrtime() - began > 1900000000ull);
    assert_server_says(*state, "got 9");
}

static void test_a_quiet_peer_is_kept(void **state)
{
    struct client c;
    begin(&c, *state, "counts-pings", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.opened, 1);
    rest(&c, 2500);
    assert_int_equal(c.ended, 0);
    assert_server_says(*state, "ping");
    assert_server_says(*state, "ping");
    finish(&c);
}

static void test_a_slow_frame_is_no_silence(void **state)
{
    struct client c;
    begin(&c, *state, "drip", (struct websocket_options){.ping_seconds = 1});
    wait_for(&c, &c.messages, 1);
    assert_int_equal(buffer_size(&c.kept), 60);
    finish(&c);
}

static void test_a_pause_is_no_silence(void **state)
{
    struct client c;
    begin(&c, *state, "big?size=1000&count=10", (struct websocket_options){.ping_seconds = 1});
    c.pause_at = 5;
    wait_for(&c, &c.messages, 5);
    rest(&c, 2500);
    assert_int_equal(c.ended, 0);
    websocket_pause(c.ws, false);
    wait_for(&c, &c.messages, 10);
    finish(&c);
}

/* ---- closing ---- */

static void test_closed_at_once(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    finish(&c);
    assert_int_equal(c.opened + c.ended, 0);
}

static void test_closed_in_callbacks(void **state)
{
    struct client c;
    begin(&c, *state, "echo", (struct websocket_options){0});
    c.close_in_open = true;
    wait_for(&c, &c.closed, 1);
    finish(&c);
    assert_server_says(*state, "close 1000");
    begin(&c, *state, "big?size=100&count=1000", (struct websocket_options){0});
    c.close_at = 3;
    wait_for(&c, &c.closed, 1);
    assert_int_equal(c.messages, 3);
    finish(&c);
    assert_server_says(*state, "close 1000");
    begin(&c, *state, "close?code=1001", (struct websocket_options){0});
    c.close_in_end = true;
    wait_for(&c, &c.closed, 1);
    finish(&c);
    assert_server_says(*state, "answered 8 03e9");
}

static void test_what_was_sent_goes_before_the_close(void **state)
{
    struct client c;
    begin(&c, *state, "sink", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    char *bytes = calloc(1, 5000000);
    assert_int_equal(websocket_send(c.ws, true, bytes, 5000000), 0);
    free(bytes);
    finish(&c);
    assert_server_says(*state, "close 1000");
}

static void test_a_peer_that_never_closes(void **state)
{
    struct client c;
    begin(&c, *state, "never-closes", (struct websocket_options){0});
    wait_for(&c, &c.opened, 1);
    uint64_t began = uv_hrtime();
    finish(&c);
    assert_true(uv_hrtime() - began < 4000000000ull);
    assert_server_says(*state, "got 8");
}

/* ---- several at once, and what is asked wrongly ---- */

static void test_several_on_one_context(void **state)
{
    enum { COUNT = 20 };
    struct server *server = *state;
    struct client c[COUNT];
    struct error err = {0};
    char url[128];
    set_up(&c[0], server);
    snprintf(url, sizeof(url), "ws://127.0.0.1:%d/big?size=10000&count=5", server->plain);
    const struct websocket_options options = {.url = url, .quick_ack = true};
    for (int i = 0; i < COUNT; i++) {
        if (i > 0) {
            c[i] = (struct client){0};
            buffer_init(&c[i].kept, KEEP_CAP);
        }
        c[i].ws = websocket_open(c[0].context, &options, &events, &c[i], &err);
        assert_non_null(c[i].ws);
    }
    for (int i = 0; i < COUNT; i++) {
        turn(&c[0], &c[i].messages, 5, LIMIT_MS);
        assert_int_equal(c[i].messages, 5);
    }
    for (int i = 1; i < COUNT; i++) {
        close_client(&c[i]);
        turn(&c[0], &c[i].closed, 1, LIMIT_MS);
        assert_int_equal(c[i].closed, 1);
        buffer_deinit(&c[i].kept);
    }
    finish(&c[0]);
}

static void assert_refused_options(struct client *c, struct websocket_options options,
                                   const char *part)
{
    struct error err = {0};
    assert_null(websocket_open(c->context, &options, &events, c, &err));
    assert_int_equal(err.kind, ERROR_INVALID);
    if (!strstr(err.message, part)) {
        fail_msg("\"%s\" is not in: %s", part, err.message);
    }
    error_clear(&err);
}

static void test_options_that_are_wrong(void **state)
{
    static const char *const urls[] = {
        "http://host/",
        "host/path",
        "ws://",
        "ws:///path",
        "ws://host:0/",
        "ws://host:x/",
        "ws://host:65536/",
        "ws://[::1/",
        "ws://ho st/",
        "ws://host/a\r\nb",
        "ws://u:p@host",
        "ws://host:/",
        "ws://host/#x",
        "",
        "ws://[::1]x/",
    };
    const char *const split[] = {"Name: a\r\nOther: b", NULL};
    const char *const no_colon[] = {"Name", NULL};
    struct client c;
    char *path = calloc(1, 3000);
    set_up(&c, *state);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        assert_refused_options(&c, (struct websocket_options){.url = urls[i]}, "websocket URL");
    }
    snprintf(path, 3000, "ws://host/%02500d", 0);
    assert_refused_options(&c, (struct websocket_options){.url = path}, "longer than 2000");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .headers = split},
                           "one line");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .headers = no_colon},
                           "one line");
    assert_refused_options(&c, (struct websocket_options){.url = "ws://h/", .subprotocol = "a\nb"},
                           "subprotocol");
    free(path);
    c.closed = 1;
    finish(&c);
}

static void test_a_context_that_was_never_used(void **state)
{
    struct client c;
    set_up(&c, *state);
    c.closed = 1;
    finish(&c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_a_name_is_resolved),
        cmocka_unit_test(test_subprotocols),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_answer_and_message_in_one_write),
        cmocka_unit_test(test_slow_and_large_heads),
        cmocka_unit_test(test_pings_are_answered),
        cmocka_unit_test(test_ten_megabytes_in),
        cmocka_unit_test(test_much_out_in_order),
        cmocka_unit_test(test_the_queue_has_a_cap),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_pause_holds_the_peer_back),
        cmocka_unit_test(test_closed_while_paused),
        cmocka_unit_test(test_quick_acknowledgements),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_tls_refused),
        cmocka_unit_test(test_tls_with_a_wrong_name),
        cmocka_unit_test(test_tls_to_an_ipv6_address),
        cmocka_unit_test(test_tls_large_messages),
        cmocka_unit_test(test_tls_where_there_is_none),
        cmocka_unit_test(test_a_ca_file_that_is_none),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_no_connection_in_time),
        cmocka_unit_test(test_no_handshake_in_time),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_a_handshake_that_is_wrong),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_closed_by_the_peer),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_frames_that_are_invalid),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_a_silent_peer_is_given_up),
        cmocka_unit_test(test_a_quiet_peer_is_kept),
        cmocka_unit_test(test_a_slow_frame_is_no_silence),
        cmocka_unit_test(test_a_pause_is_no_silence),
        cmocka_unit_test(test_closed_at_once),
        cmocka_unit_test(test_closed_in_callbacks),
        cmocka_unit_test(test_what_was_sent_goes_before_the_close),
        cmocka_unit_test(test_a_peer_that_never_closes),
        cmocka_unit_test(test_several_on_one_context),
        cmocka_unit_test(test_options_that_are_wrong),
        cmocka_unit_test(test_a_context_that_was_never_used),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
