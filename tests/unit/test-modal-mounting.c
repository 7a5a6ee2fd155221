/* A mount on its way to the service: what is asked and sent, and how often (gRPC is fake-grpc.c).
 * Blobs need a store: tests/modal/test_mounts.py. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.pb-c.h"
#include "backends/modal/mounting.h"
#include "fake-grpc.h"

enum { TURNS = 10000, FILES = 150, LATE = 1 };

struct trial {
    uv_loop_t loop;
    struct modal_client *client;
    struct modal_mounting *mounting;
    struct mount_store store;
    struct share *share;
    char folder[64];
    bool closed;
    /* How the service is. */
    const char *hold; /* is not answered */
    unsigned late;    /* so many puts are taken, and not there yet */
    const char *gives;
    bool has_all;
    /* What came of it. */
    unsigned told, lines;
    size_t listed, asked;
    char id[32];
    struct error err;
};

static void serve_existence(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__MountBatchedCheckExistenceResponse answer =
        MODAL__CLIENT__MOUNT_BATCHED_CHECK_EXISTENCE_RESPONSE__INIT;
    static char *missing[MODAL_MOUNT_BATCH], hashes[MODAL_MOUNT_BATCH][65];
    Modal__Client__MountBatchedCheckExistenceRequest *asked =
        modal__client__mount_batched_check_existence_request__unpack(NULL, call->size,
                                                                     call->message);

    assert_in_range(asked->n_sha256_hex_hashes, 1, MODAL_MOUNT_BATCH);
    t->asked += asked->n_sha256_hex_hashes;
    for (size_t i = 0; i < asked->n_sha256_hex_hashes; i++) {
        assert_int_equal(strlen(asked->sha256_hex_hashes[i]), 64);
        memcpy(hashes[i], asked->sha256_hex_hashes[i], 65);
        missing[i] = hashes[i];
    }
    answer.missing_sha256_hex_hashes = missing;
    answer.n_missing_sha256_hex_hashes = t->has_all ? 0 : asked->n_sha256_hex_hashes;
    reply->answers[0] = &answer.base;
    modal__client__mount_batched_check_existence_request__free_unpacked(asked, NULL);
}

static void serve_put(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__MountPutFileResponse answer =
        MODAL__CLIENT__MOUNT_PUT_FILE_RESPONSE__INIT;
    Modal__Client__MountPutFileRequest *asked =
        modal__client__mount_put_file_request__unpack(NULL, call->size, call->message);

    assert_int_equal(asked->data_oneof_case,
                     MODAL__CLIENT__MOUNT_PUT_FILE_REQUEST__DATA_ONEOF_DATA);
    assert_int_equal(strlen(asked->sha256_hex), 64);
    answer.exists = t->late == 0;
    t->late -= t->late > 0;
    reply->answers[0] = &answer.base;
    modal__client__mount_put_file_request__free_unpacked(asked, NULL);
}

static void serve_mount(struct trial *t, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__MountGetOrCreateResponse answer =
        MODAL__CLIENT__MOUNT_GET_OR_CREATE_RESPONSE__INIT;
    Modal__Client__MountGetOrCreateRequest *asked =
        modal__client__mount_get_or_create_request__unpack(NULL, call->size, call->message);

    assert_int_equal(
        asked->object_creation_type,
        MODAL__CLIENT__OBJECT_CREATION_TYPE__OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP);
    assert_string_equal(asked->app_id, "ap-1");
    t->listed = asked->n_files;
    for (size_t i = 0; i < asked->n_files; i++) {
        assert_memory_equal(asked->files[i]->filename, "/data/in/", 9);
        assert_int_equal(asked->files[i]->mode, 0640);
    }
    answer.mount_id = (char *)t->gives;
    reply->answers[0] = &answer.base;
    modal__client__mount_get_or_create_request__free_unpacked(asked, NULL);
}

static void serve(void *data, const struct fake_call *call, struct fake_reply *reply)
{
    static Modal__Client__AuthTokenGetResponse token = MODAL__CLIENT__AUTH_TOKEN_GET_RESPONSE__INIT;
    struct trial *t = data;

    token.token = "a.b.c";
    if (strcmp(call->method, "AuthTokenGet") == 0) {
        reply->answers[0] = &token.base;
    } else if (strcmp(call->method, "MountBatchedCheckExistence") == 0) {
        serve_existence(t, call, reply);
    } else if (strcmp(call->method, "MountPutFile") == 0) {
        serve_put(t, call, reply);
    } else {
        assert_string_equal(call->method, "MountGetOrCreate");
        serve_mount(t, call, reply);
    }
    reply->hold = t->hold && strcmp(call->method, t->hold) == 0;
}

static void on_line(void *data, const char *line)
{
    struct trial *t = data;

    assert_memory_equal(line, "mounting /data/in: ", 19);
    t->lines++;
}

static void on_done(void *data, const char *id, const struct error *err)
{
    struct trial *t = data;

    t->told++;
    assert_true((id == NULL) == (err != NULL));
    if (err) {
        error_clear(&t->err);
        error_copy(&t->err, err);
    } else {
        (void)snprintf(t->id, sizeof(t->id), "%s", id);
    }
    modal_mounting_free(t->mounting);
    t->mounting = NULL;
}

static void put_file(const struct trial *t, unsigned number, const char *text)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%u", t->folder, number);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static void begin(struct trial *t, unsigned files)
{
    struct modal_credentials who = {.server_url = "http://localhost:1",
                                    .token_id = "ak-1",
                                    .token_secret = "as-1",
                                    .environment = "dev"};
    char text[32];

    t->gives = t->gives ? t->gives : "mo-1";
    (void)snprintf(t->folder, sizeof(t->folder), "/tmp/cellblock-mounting-XXXXXX");
    assert_non_null(mkdtemp(t->folder));
    for (unsigned i = 0; i < files; i++) {
        (void)snprintf(text, sizeof(text), "content %u", i / 2); /* two of each */
        put_file(t, i, text);
    }
    t->share =
        share_new(SHARE_MOUNT, open(t->folder, O_PATH | O_CLOEXEC), t->folder, "/data/in", true);
    assert_non_null(t->share);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    fake_grpc_begin(serve, t);
    t->client = modal_client_new(&t->loop, &who, NULL);
    assert_non_null(t->client);
}

static void start(struct trial *t)
{
    const struct modal_mounting_order order = {.client = t->client,
                                               .store = &t->store,
                                               .app_id = "ap-1",
                                               .share = t->share,
                                               .on_line = on_line,
                                               .done = on_done,
                                               .data = t};
    unsigned before = t->told;

    t->mounting = modal_mounting_start(&order);
    assert_non_null(t->mounting);
    assert_int_equal(t->told, before);
}

/* Until it is told. */
static void run(struct trial *t)
{
    unsigned before = t->told;

    start(t);
    for (unsigned i = 0; i < TURNS && t->told == before; i++) {
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    }
    assert_int_equal(t->told, before + 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static void on_closed(void *data)
{
    ((struct trial *)data)->closed = true;
}

static void end(struct trial *t)
{
    modal_client_close(t->client, on_closed, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_true(t->closed);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    mount_store_deinit(&t->store);
    share_free(t->share);
    error_clear(&t->err);
    (void)nftw(t->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void what_is_missing_is_sent_once(void **state)
{
    struct trial t = {0};

    (void)state;
    begin(&t, FILES);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_NONE);
    assert_string_equal(t.id, "mo-1");
    assert_int_equal(t.asked, FILES / 2);
    assert_int_equal(fake_count("MountBatchedCheckExistence"), 2);
    assert_int_equal(fake_count("MountPutFile"), FILES / 2);
    assert_int_equal(t.listed, FILES);
    assert_true(t.lines > 0);

    /* Nothing has changed: the same mount, and no call. */
    t.gives = "mo-2";
    run(&t);
    assert_string_equal(t.id, "mo-1");
    assert_int_equal(fake_count("MountGetOrCreate"), 1);

    put_file(&t, 0, "another");
    t.asked = 0;
    run(&t);
    assert_string_equal(t.id, "mo-2");
    assert_int_equal(fake_count("MountPutFile") - FILES / 2, t.asked); /* all are young */
    end(&t);
}

static void what_the_service_has_is_not_sent(void **state)
{
    struct trial t = {.has_all = true};

    (void)state;
    begin(&t, 3);
    run(&t);
    assert_string_equal(t.id, "mo-1");
    assert_int_equal(fake_count("MountPutFile"), 0);
    end(&t);
}

static void a_file_that_is_not_there_yet_is_put_again(void **state)
{
    struct trial t = {.late = LATE};

    (void)state;
    begin(&t, 1);
    run(&t);
    assert_string_equal(t.id, "mo-1");
    assert_int_equal(fake_count("MountPutFile"), 1 + LATE);
    end(&t);
}

static void a_mount_without_an_id_is_none(void **state)
{
    struct trial t = {.gives = ""};

    (void)state;
    begin(&t, 1);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_LOST);
    assert_int_equal(t.store.count, 0);
    end(&t);
}

static void what_cannot_be_read_is_told(void **state)
{
    struct trial t = {0};

    (void)state;
    begin(&t, 0);
    run(&t);
    assert_int_equal(t.err.kind, ERROR_INVALID);
    assert_int_equal(fake_count("MountGetOrCreate"), 0);
    end(&t);
}

static void who_leaves_is_told_nothing(void **state)
{
    static const char *const calls[] = {"MountBatchedCheckExistence", "MountPutFile",
                                        "MountGetOrCreate"};

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct trial t = {.hold = calls[i]};

        begin(&t, FILES);
        start(&t);
        for (unsigned n = 0; n < TURNS && fake_count(calls[i]) == 0; n++) {
            (void)uv_run(&t.loop, UV_RUN_ONCE);
        }
        assert_true(fake_count(calls[i]) > 0);
        modal_mounting_free(t.mounting);
        end(&t);
        assert_int_equal(t.told, 0);
    }
}

/* At each turn of the loop until then: while a thread walks, or hashes. */
static void who_leaves_early_is_told_nothing(void **state)
{
    (void)state;
    for (unsigned turns = 0; turns < 6; turns++) {
        struct trial t = {.hold = "MountBatchedCheckExistence"};

        begin(&t, 3);
        start(&t);
        for (unsigned n = 0; n < turns; n++) {
            (void)uv_run(&t.loop, UV_RUN_NOWAIT);
        }
        modal_mounting_free(t.mounting);
        modal_mounting_free(NULL);
        end(&t);
        assert_int_equal(t.told, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_sent_once),
        cmocka_unit_test(what_the_service_has_is_not_sent),
        cmocka_unit_test(a_file_that_is_not_there_yet_is_put_again),
        cmocka_unit_test(a_mount_without_an_id_is_none),
        cmocka_unit_test(what_cannot_be_read_is_told),
        cmocka_unit_test(who_leaves_is_told_nothing),
        cmocka_unit_test(who_leaves_early_is_told_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
