#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cmocka_all.h"
#include "tests/unit/grpc-trial.h"

/*
 * gRPC over TLS: h2_front.py stands before the server of HTTP/2, with a certificate that the
 * openssl program makes anew.
 */

enum { MIB = 1024 * 1024 };

static const char make_certificates[] =
    "set -e; cd \"$1\"; exec 2>log\n"
    "key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key; }\n"
    "key ca; openssl req -x509 -new -key ca.key -subj /CN=ca -days 2 -out ca.pem\n"
    "key good; echo subjectAltName=DNS:localhost,IP:127.0.0.1 > ext\n"
    "openssl req -new -key good.key -subj /CN=good -out good.csr\n"
    "openssl x509 -req -in good.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\\n"
    "  -extfile ext -out good.pem\n";

static const struct h2_step echo[] = {{H2_HEAD, SERVED_HEAD}, {H2_ECHO}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_step large[] = {
    {H2_HEAD, SERVED_HEAD}, {H2_MESSAGES, NULL, 2, MIB}, {H2_TRAILERS, SERVED_OK}};
static const struct h2_route routes[] = {{"/a", echo}, {"/large", large}, {NULL}};

struct front {
    char folder[64], ca[80];
    pid_t pid;
    int in; /* it ends with it */
    int with_alpn, without;
};

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

static int set_up(void **state)
{
    struct front *front = calloc(1, sizeof(*front));
    int status;

    strcpy(front->folder, "/tmp/grpc-tls-XXXXXX");
    assert_non_null(mkdtemp(front->folder));
    snprintf(front->ca, sizeof(front->ca), "%s/ca.pem", front->folder);
    char *make[] = {"sh", "-c", (char *)make_certificates, "sh", front->folder, NULL};
    assert_true(waitpid(run(make, 0, 2), &status, 0) > 0 && status == 0);
    *state = front;
    return 0;
}

static int tear_down(void **state)
{
    struct front *front = *state;
    int status;
    char *clean[] = {"rm", "-r", front->folder, NULL};
    assert_true(waitpid(run(clean, 0, 1), &status, 0) > 0);
    free(front);
    return 0;
}

static int read_port(FILE *file)
{
    char word[16] = "";
    assert_int_equal(fscanf(file, "%15s", word), 1);
    return (int)strtol(word, NULL, 10);
}

/* Stands before the server on `port`. */
static void front_start(struct front *front, int port)
{
    const char *root = getenv("CELLBLOCK_SOURCE_ROOT");
    char script[512], number[16];
    int in[2], out[2];

    snprintf(script, sizeof(script), "%s/tests/unit/h2_front.py", root ? root : ".");
    snprintf(number, sizeof(number), "%d", port);
    char *serve[] = {"python3", script, front->folder, number, NULL};
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    front->pid = run(serve, in[0], out[1]);
    front->in = in[1];
    close(in[0]);
    close(out[1]);
    FILE *file = fdopen(out[0], "r");
    front->with_alpn = read_port(file);
    front->without = read_port(file);
    fclose(file);
}

static void front_end(struct front *front)
{
    int status;
    close(front->in);
    assert_int_equal(waitpid(front->pid, &status, 0), front->pid);
}

/* A channel to SCHEME://127.0.0.1:PORT; the server's own port when `port` is 0. */
static struct grpc_trial *start(struct front *front, const char *scheme, const int *port,
                                const char *ca_file)
{
    struct grpc_trial *t = calloc(1, sizeof(*t));
    char url[64];

    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->server = h2_server_new(&t->loop, routes);
    front_start(front, t->server->port);
    snprintf(url, sizeof(url), "%s://127.0.0.1:%d", scheme, port ? *port : t->server->port);
    grpc_trial_start_at(t, url, ca_file);
    return t;
}

static void end(struct front *front, struct grpc_trial *t)
{
    grpc_trial_end(t);
    front_end(front);
    free(t);
}

static void test_right(void **state)
{
    struct front *front = *state;
    struct grpc_trial *t = start(front, "https", &front->with_alpn, front->ca);
    struct grpc_request request = {.method = "/large"};
    for (int i = 0; i < 20; i++) {
        grpc_trial_call(t, i % 5 ? NULL : &request);
        if (i >= 10) {
            grpc_trial_run(t);
        }
    }
    grpc_trial_run(t);
    for (int i = 0; i < 20; i++) {
        assert_ended(&t->told[i], GRPC_OK, false, "");
        assert_int_equal(t->told[i].bytes, i % 5 ? 3 : 2 * MIB);
    }
    assert_int_equal(t->server->connections, 1);
    end(front, t);
}

/* Nothing of ours, no token, is sent to a server that does not agree on HTTP/2. */
static void test_no_agreement(void **state)
{
    struct front *front = *state;
    struct grpc_trial *t = start(front, "https", &front->without, front->ca);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[0], GRPC_UNAVAILABLE, true, "does not agree to speak h2");
    assert_int_equal(t->server->requests, 0);
    end(front, t);
}

static void test_unknown_authority(void **state)
{
    struct front *front = *state;
    struct grpc_trial *t = start(front, "https", &front->with_alpn, NULL);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[0], GRPC_UNAVAILABLE, true, "authority that is not trusted here");
    assert_int_equal(t->server->requests, 0);
    end(front, t);
}

/* TLS to a server without, and the other way round. */
static void test_wrong_scheme(void **state)
{
    struct front *front = *state;
    struct grpc_trial *t = start(front, "http", &front->with_alpn, NULL);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[0], GRPC_UNAVAILABLE, true, "");
    end(front, t);
    t = start(front, "https", NULL, front->ca);
    grpc_trial_call(t, NULL);
    grpc_trial_run(t);
    assert_ended(&t->told[0], GRPC_UNAVAILABLE, true, "no TLS connection");
    end(front, t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_no_agreement),
        cmocka_unit_test(test_unknown_authority),
        cmocka_unit_test(test_wrong_scheme),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
