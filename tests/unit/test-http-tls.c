#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/http-trial.h"

/* The TLS server is tls_peer.py, with certificates that the openssl program makes anew. */

enum port { GOOD, TLS_1_2, OTHER_NAME, EXPIRED, WANTS_CLIENT, PORTS };

enum file { CA, STRANGER, CLIENT, CLIENT_KEY, GOOD_KEY, FILES };

struct peer {
    char folder[64];
    char *files[FILES];
    int ports[PORTS];
    pid_t pid;
    int in; /* the server ends with it */
};

static const char make_certificates[] =
    "set -e; cd \"$1\"; exec 2>log\n"
    "key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key; }\n"
    "ca() { key $1; openssl req -x509 -new -key $1.key -subj /CN=$1 -days 2 -out $1.pem; }\n"
    "sign() { key $1; echo \"subjectAltName=$2\" > $1.ext\n"
    "  openssl req -new -key $1.key -subj /CN=$1 -out $1.csr\n"
    "  openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $3 \\\n"
    "    -extfile $1.ext -out $1.pem; }\n"
    "ca ca; ca stranger\n"
    "sign good DNS:localhost,IP:127.0.0.1 2\n"
    "sign other DNS:other.example 2\n"
    "sign expired IP:127.0.0.1 -1\n"
    "sign client DNS:client 2\n";

static pid_t run(char *const argv[], int in, int out)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in, 0);
        dup2(out, 1);
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void read_ports(struct peer *peer, int fd)
{
    FILE *f = fdopen(fd, "r");
    assert_non_null(f);
    for (int i = 0; i < PORTS; i++) {
        char word[16] = "";
        assert_int_equal(fscanf(f, "%15s", word), 1);
        peer->ports[i] = (int)strtol(word, NULL, 10);
        assert_true(peer->ports[i] > 0);
    }
    fclose(f);
}

static int set_up(void **state)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    static const char *const names[FILES] = {"ca.pem", "stranger.pem", "client.pem", "client.key",
                                             "good.key"};
    const char *root = getenv("CELLBLOCK_SOURCE_ROOT");
    char script[512];
    int in[2], out[2], status;

    strcpy(peer->folder, "/tmp/tls-peer-XXXXXX");
    assert_non_null(mkdtemp(peer->folder));
    for (int i = 0; i < FILES; i++) {
        assert_true(asprintf(&peer->files[i], "%s/%s", peer->folder, names[i]) > 0);
    }
    char *make[] = {"sh", "-c", (char *)make_certificates, "sh", peer->folder, NULL};
    assert_int_equal(waitpid(run(make, 0, 2), &status, 0) > 0 && status == 0, 1);

    snprintf(script, sizeof(script), "%s/tests/unit/tls_peer.py", root ? root : ".");
    char *serve[] = {"python3", script, peer->folder, NULL};
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    peer->pid = run(serve, in[0], out[1]);
    peer->in = in[1];
    close(in[0]);
    close(out[1]);
    read_ports(peer, out[0]);
    *state = peer;
    return 0;
}

static int tear_down(void **state)
{
    struct peer *peer = *state;
    int status;
    char *clean[] = {"rm", "-r", peer->folder, NULL};
    close(peer->in);
    assert_int_equal(waitpid(peer->pid, &status, 0), peer->pid);
    assert_true(waitpid(run(clean, 0, 1), &status, 0) > 0);
    for (int i = 0; i < FILES; i++) {
        free(peer->files[i]);
    }
    free(peer);
    return 0;
}

/* GET of one port; what was told is looked at before trial_end. */
static struct trial_told *get(struct trial *t, const struct peer *peer, enum port port,
                              const char *host)
{
    char base[64];
    snprintf(base, sizeof(base), "https://%s:%d", host, peer->ports[port]);
    trial_start_at(t, base, NULL);
    trial_get(t, "/a?token=SECRET");
    trial_run(t);
    return &t->told[0];
}

static void test_right(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    struct peer *peer = *state;
    for (int i = 0; i < 4; i++) {
        struct trial t = {.options.ca_file = peer->files[CA], .options.quick_ack = true};
        assert_told(get(&t, peer, i < 2 ? GOOD : TLS_1_2, hosts[i % 2]), 200, "nobody");
        trial_end(&t);
    }
}

static void test_wrong_name(void **state)
{
    struct peer *peer = *state;
    struct trial t = {.options.ca_file = peer->files[CA]};
    struct trial u = {.options.ca_file = peer->files[CA], .options.insecure = true};
    assert_told_error(get(&t, peer, OTHER_NAME, "127.0.0.1"), ERROR_REFUSED, "for another name",
                      "GET https://127.0.0.1", NULL);
    trial_end(&t);
    assert_told(get(&u, peer, OTHER_NAME, "127.0.0.1"), 200, "nobody");
    trial_end(&u);
}

static void test_unknown_authority(void **state)
{
    struct peer *peer = *state;
    struct trial t = {.options.ca_file = peer->files[STRANGER]}, u = {0};
    assert_told_error(get(&t, peer, GOOD, "localhost"), ERROR_REFUSED,
                      "authority that is not trusted here", "PEM file", NULL);
    trial_end(&t);
    assert_told_error(get(&u, peer, GOOD, "localhost"), ERROR_REFUSED,
                      "authority that is not trusted here", NULL);
    trial_end(&u);
}

static void test_expired(void **state)
{
    struct peer *peer = *state;
    struct trial t = {.options.ca_file = peer->files[CA]};
    assert_told_error(get(&t, peer, EXPIRED, "127.0.0.1"), ERROR_REFUSED, "not valid now", NULL);
    trial_end(&t);
}

static void test_client_certificate(void **state)
{
    struct peer *peer = *state;
    struct trial t = {.options = {.ca_file = peer->files[CA],
                                  .cert_file = peer->files[CLIENT],
                                  .key_file = peer->files[CLIENT_KEY]}};
    struct trial u = {.options.ca_file = peer->files[CA]};
    struct trial_told *told;
    assert_told(get(&t, peer, WANTS_CLIENT, "localhost"), 200, "client");
    trial_end(&t);
    /* The server's alert may be overtaken by its reset. */
    told = get(&u, peer, WANTS_CLIENT, "localhost");
    assert_told_error(told, told->err.kind == ERROR_LOST ? ERROR_LOST : ERROR_REFUSED,
                      "a client certificate", NULL);
    trial_end(&u);
}

static void test_files_that_are_none(void **state)
{
    struct peer *peer = *state;
    struct trial t = {.options.ca_file = "/nonexistent/ca.pem"};
    struct trial u = {.options = {.ca_file = peer->files[CA],
                                  .cert_file = peer->files[CLIENT],
                                  .key_file = peer->files[GOOD_KEY]}};
    assert_told_error(get(&t, peer, GOOD, "localhost"), ERROR_INVALID, "PEM files", NULL);
    trial_end(&t);
    assert_told_error(get(&u, peer, GOOD, "localhost"), ERROR_INVALID, "PEM files", NULL);
    trial_end(&u);
}

/* TLS to a server without, and the other way round. */
static void test_wrong_scheme(void **state)
{
    static const struct hostile_step script[] = {
        {HOSTILE_SEND, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"}, {HOSTILE_CUT}};
    const struct hostile_step *const scripts[] = {script, NULL};
    struct hostile_options options = {.tcp = true, .scripts = scripts};
    struct peer *peer = *state;
    struct trial t = {.options.connect_timeout_ms = 500}, u = {0};
    char base[64];

    snprintf(base, sizeof(base), "http://127.0.0.1:%d", peer->ports[GOOD]);
    trial_start_at(&u, base, NULL);
    trial_get(&u, "/");
    trial_run(&u);
    assert_int_equal(u.told[0].err.kind, ERROR_LOST);
    trial_end(&u);

    trial_start_at(&t, "http://127.0.0.1", NULL); /* for its loop */
    t.server = hostile_new(&t.loop, &options);
    snprintf(base, sizeof(base), "https%s", t.server->base + 4);
    struct http_options to = {.base = base, .connect_timeout_ms = 500};
    struct error err = {0};
    struct http *http = http_new(&t.loop, &to, &err), *first = t.http;
    t.http = http;
    trial_get(&t, "/");
    trial_run(&t);
    /* A server that waits for a line end, as ours, says nothing; others answer in plain words. */
    assert_true(t.told[0].err.kind == ERROR_LOST || t.told[0].err.kind == ERROR_TIMEOUT);
    http_close(first, NULL, NULL);
    trial_end(&t);
}

/* --- streams ------------------------------------------------------------------------------ */

struct flow {
    uv_loop_t loop;
    struct http *http;
    struct http_stream *stream;
    int opens, ends, closes;
    size_t got, wrong, size;
    char last[4];
    size_t limit; /* the server ends it after so many bytes; 0: all */
    bool shut;
    struct error err;
};

static void on_open(void *data)
{
    struct flow *f = data;
    char *bytes = malloc(f->size);
    f->opens++;
    for (size_t i = 0; i < f->size; i++) {
        bytes[i] = (char)(i % 251);
    }
    for (size_t at = 0, n; at < f->size; at += n) {
        n = f->size - at < 70001 ? f->size - at : 70001;
        int r = http_stream_write(f->stream, bytes + at, n);
        assert_true(r == 0 || (f->limit && r == -EPIPE));
    }
    free(bytes);
    if (f->shut) {
        http_stream_shutdown(f->stream);
    }
}

static void on_bytes(void *data, const char *bytes, size_t size)
{
    struct flow *f = data;
    for (size_t i = 0; i < size; i++) {
        size_t at = f->got + i;
        if (at >= 5 && at < 5 + f->size) {
            f->wrong += (unsigned char)bytes[i] != (at - 5) % 251;
        } else if (at >= 5 + f->size && at < 8 + f->size) {
            f->last[at - 5 - f->size] = bytes[i];
        }
    }
    f->got += size;
}

static void on_end(void *data, long status, const struct error *err)
{
    struct flow *f = data;
    (void)status;
    f->ends++;
    if (err) {
        error_copy(&f->err, err);
    }
}

static void on_closed(void *data)
{
    ((struct flow *)data)->closes++;
}

/* Runs it until it ends, or for so many turns. */
static void flow(struct flow *f, const struct peer *peer, enum port port, int turns)
{
    static const struct http_stream_events events = {on_open, on_bytes, on_end};
    struct error err = {0};
    char base[64], path[64] = "/until-shut";

    snprintf(base, sizeof(base), "https://127.0.0.1:%d", peer->ports[port]);
    if (!f->shut) {
        snprintf(path, sizeof(path), "/up/%zu", f->limit ? f->limit : f->size);
    }
    struct http_options options = {.base = base, .ca_file = peer->files[CA], .quick_ack = true};
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->http = http_new(&f->loop, &options, &err);
    f->stream = http_stream_open(f->http, "POST", path, "{}", 2, &events, f, &err);
    assert_non_null(f->stream);
    assert_close_on_exec();
    for (int i = 0; i < turns && f->ends == 0; i++) {
        uv_run(&f->loop, UV_RUN_ONCE);
    }
}

static void end_flow(struct flow *f)
{
    http_stream_close(f->stream, on_closed, f);
    http_close(f->http, on_closed, f);
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(f->closes, 2);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    error_clear(&f->err);
}

static void test_stream(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct flow f = {.size = i % 2 ? 10 << 20 : 1};
        flow(&f, *state, i < 2 ? GOOD : TLS_1_2, 1000000);
        if (f.err.message) {
            fail_msg("%s", f.err.message);
        }
        assert_int_equal(f.opens, 1);
        assert_int_equal(f.got, 5 + f.size + 3);
        assert_int_equal(f.wrong, 0);
        assert_string_equal(f.last, "bye");
        end_flow(&f);
    }
}

/* The server goes while we write: an end as any other, and no SIGPIPE. */
static void test_stream_cut(void **state)
{
    struct flow f = {.size = 10 << 20, .limit = 5};
    signal(SIGPIPE, SIG_DFL);
    flow(&f, *state, GOOD, 1000000);
    assert_int_equal(f.opens, 1);
    assert_int_equal(f.ends, 1);
    assert_int_equal(http_stream_write(f.stream, "x", 1), -EPIPE);
    assert_int_equal(http_stream_queued(f.stream), 0);
    end_flow(&f);
}

/* The server sees the end of what we send, and ends the stream. */
static void test_stream_shut(void **state)
{
    struct flow f = {.size = 100000, .shut = true};
    flow(&f, *state, GOOD, 1000000);
    assert_int_equal(f.got, 5);
    assert_int_equal(f.ends, 1);
    end_flow(&f);
}

static void test_stream_wrong_name(void **state)
{
    struct flow f = {0};
    flow(&f, *state, OTHER_NAME, 1000000);
    assert_int_equal(f.opens, 0);
    assert_int_equal(f.err.kind, ERROR_REFUSED);
    assert_non_null(strstr(f.err.message, "for another name"));
    end_flow(&f);
}

static void test_stream_closed_in_each_phase(void **state)
{
    for (int turns = 0; turns < 20; turns++) {
        struct flow f = {.size = 100000};
        flow(&f, *state, GOOD, turns);
        end_flow(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_wrong_name),
        cmocka_unit_test(test_unknown_authority),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_wrong_scheme),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_cut),
        cmocka_unit_test(test_stream_shut),
        cmocka_unit_test(test_stream_wrong_name),
        cmocka_unit_test(test_stream_closed_in_each_phase),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
