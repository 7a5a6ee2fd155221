#include <stdlib.h>
#include <string.h>

#include "mcp/artifacts.h"
#include "tests/unit/cmocka_all.h"

/* --- a sandbox: every file has this content, or none --- */

struct executor {
    bool started;
    bool silent; /* what is asked waits */
    int asked;
    enum file_type type;
    size_t size; /* of every file */
    int64_t mtime_ns;
    bool touched; /* between two looks */
    enum error_kind error;
    file_done waiting;
    void *data;
};

static char content[ARTIFACT_READ_CAP + 1];

bool executor_started(const struct executor *e)
{
    return e->started;
}

static void answer(struct executor *e, const struct file_request *request, file_done done,
                   void *data)
{
    struct file_reply reply = {.entry = {.type = e->type, .size = e->size}};
    struct error err = {0};

    reply.entry.mtime_ns = e->mtime_ns;
    e->mtime_ns += e->touched;
    if (e->error != ERROR_NONE) {
        error_set(&err, e->error, "no such luck");
        done(data, NULL, &err);
        error_clear(&err);
        return;
    }
    if (request->op == FILE_READ) {
        reply.bytes = content;
        reply.size = e->size < request->length ? e->size : request->length;
    }
    done(data, &reply, NULL);
}

void executor_file(struct executor *e, const struct file_request *request, file_done done,
                   void *data)
{
    e->asked++;
    if (e->silent) {
        e->waiting = done;
        e->data = data;
    } else {
        answer(e, request, done, data);
    }
}

/* --- the table --- */

struct world {
    uv_loop_t loop;
    struct artifacts *a;
    struct executor executor;
    int changes, gone_on;
    /* of the last read */
    int reads;
    enum error_kind kind;
    char text[512];
    size_t size;
};

static void on_change(void *data)
{
    ((struct world *)data)->changes++;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    uv_loop_init(&w->loop);
    w->a = artifacts_new(&w->loop);
    artifacts_on_change(w->a, on_change, w);
    w->executor = (struct executor){.started = true, .type = FILE_REGULAR, .size = 5};
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    artifacts_stop(w->a);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    artifacts_free(w->a);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    free(w);
    return 0;
}

/* A run that changed `count` files, NAME0 … */
static json_t *add(struct world *w, const char *run, const char *name, unsigned count,
                   uint64_t *ret_left_out)
{
    struct artifact_origin origin = {"s-a", run, &w->executor};
    struct changed_file files[CHANGED_CAP];
    struct changed changed = {files, count, 0, false};
    uint64_t left_out;
    json_t *links;

    for (unsigned i = 0; i < count; i++) {
        files[i] = (struct changed_file){.size = 5};
        assert_true(asprintf(&files[i].path, "%s%u", name, i) > 0);
    }
    links = artifacts_add(w->a, &origin, &changed, ret_left_out ? ret_left_out : &left_out);
    for (unsigned i = 0; i < count; i++) {
        free(files[i].path);
    }
    return links;
}

static void on_read(void *data, const struct artifact_bytes *bytes, const struct error *err)
{
    struct world *w = data;

    w->reads++;
    w->kind = err ? err->kind : ERROR_NONE;
    w->size = bytes ? bytes->size : 0;
    snprintf(w->text, sizeof(w->text), "%s", err ? err->message : "");
}

static enum error_kind read_uri(struct world *w, const char *uri)
{
    int before = w->reads;

    artifacts_read(w->a, uri, on_read, w);
    assert_int_equal(w->reads, before + 1);
    return w->kind;
}

static void on_go(void *data)
{
    ((struct world *)data)->gone_on++;
}

static size_t listed(struct world *w)
{
    json_t *page, *cursor = NULL;
    size_t count = 0;
    bool memory;

    do {
        assert_int_equal(artifacts_list(w->a, json_string_value(cursor), &page, &memory), 0);
        json_decref(cursor);
        assert_true(json_array_size(json_object_get(page, "resources")) <= ARTIFACTS_PAGE);
        count += json_array_size(json_object_get(page, "resources"));
        cursor = json_incref(json_object_get(page, "nextCursor"));
        json_decref(page);
    } while (cursor);
    return count;
}

/* --- tests --- */

static void test_links_have_an_end(void **state)
{
    struct world *w = *state;
    uint64_t left_out;
    json_t *links = add(w, "r-1", "f", CHANGED_CAP, &left_out);
    char name[600];

    assert_int_equal(json_array_size(links), ARTIFACTS_OF_RUN);
    assert_int_equal(left_out, CHANGED_CAP - ARTIFACTS_OF_RUN);
    assert_string_equal(json_string_value(json_object_get(json_array_get(links, 0), "name")), "f0");
    assert_int_equal(w->changes, 1);
    json_decref(links);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    links = add(w, "r-2", name, ARTIFACTS_OF_RUN, &left_out);
    assert_in_range(json_array_size(links), 1, ARTIFACTS_LINK_BYTES / 1200);
    assert_int_equal(left_out + json_array_size(links), ARTIFACTS_OF_RUN);
    assert_true(json_dumpb(links, NULL, 0, 0) <= ARTIFACTS_LINK_BYTES);
    json_decref(links);
}

static void test_the_table_has_an_end(void **state)
{
    struct world *w = *state;
    char run[16];

    for (int i = 0; i < ARTIFACTS_CAP / CHANGED_CAP + 3; i++) {
        snprintf(run, sizeof(run), "r-%d-", i);
        json_decref(add(w, run, run, CHANGED_CAP, NULL));
    }
    assert_int_equal(listed(w), ARTIFACTS_CAP);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-0-/r-0-0"), ERROR_NOT_FOUND);
    assert_non_null(strstr(w->text, "dropped"));
    assert_int_equal(read_uri(w, "cellblock://s-a/r-9-/r-9-0"), ERROR_NONE);
    assert_int_equal(w->size, 5);
}

static void test_a_cursor_is_ours(void **state)
{
    static const char *const bad[] = {"", "r1", "r1-0000000000", "x1-0000000000",
                                      "rffffffffffffffffff-0000000000"};
    struct world *w = *state;
    json_t *page;
    bool memory;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(artifacts_list(w->a, bad[i], &page, &memory), -1);
        assert_false(memory);
    }
}

static void test_what_replaces_a_file_is_not_read(void **state)
{
    struct world *w = *state;

    json_decref(add(w, "r-1", "f", 1, NULL));
    w->executor.size = sizeof(content);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f0"), ERROR_LIMIT);
    assert_non_null(strstr(w->text, "read_file"));
    assert_int_equal(w->executor.asked, 1);
    w->executor.size = 5;
    w->executor.touched = true;
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f0"), ERROR_INVALID);
    w->executor.type = FILE_SYMLINK;
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f0"), ERROR_NOT_FOUND);
    assert_int_equal(w->executor.asked, 4);
    assert_int_equal(listed(w), 0);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/../../etc/passwd"), ERROR_NOT_FOUND);
    assert_int_equal(read_uri(w, "/etc/passwd"), ERROR_NOT_FOUND);
    assert_int_equal(w->executor.asked, 4);
}

static void test_a_rescue_keeps_the_newest(void **state)
{
    struct world *w = *state;
    const int room = ARTIFACTS_KEPT_BYTES / ARTIFACT_READ_CAP;

    w->executor.size = ARTIFACT_READ_CAP;
    for (int i = 0; i < 2; i++) {
        json_decref(add(w, i ? "r-2" : "r-1", "f", (unsigned)room - 4, NULL));
        assert_true(artifacts_rescue(w->a, &w->executor, on_go, w));
        assert_int_equal(w->gone_on, i + 1);
        uv_run(&w->loop, UV_RUN_NOWAIT);
    }
    w->executor.started = false;
    assert_int_equal(listed(w), room);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-2/f0"), ERROR_NONE);
    assert_int_equal(w->size, ARTIFACT_READ_CAP);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f11"), ERROR_NOT_FOUND);
    assert_non_null(strstr(w->text, "make room"));
}

static void test_a_rescue_has_an_end(void **state)
{
    struct world *w = *state;

    assert_false(artifacts_rescue(w->a, &w->executor, on_go, w));
    json_decref(add(w, "r-1", "f", 2, NULL));
    w->executor.silent = true;
    assert_true(artifacts_rescue(w->a, &w->executor, on_go, w));
    assert_int_equal(w->gone_on, 0);
    artifacts_stop(w->a);
    assert_int_equal(w->gone_on, 1);
    w->executor.error = ERROR_LOST;
    answer(&w->executor, NULL, w->executor.waiting, w->executor.data);
    assert_int_equal(w->gone_on, 1);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f0"), ERROR_NOT_FOUND);
    json_decref(add(w, "r-2", "f", 1, NULL));
    assert_false(artifacts_rescue(w->a, &w->executor, on_go, w));
}

static void test_a_lost_sandbox(void **state)
{
    struct world *w = *state;
    int before;

    json_decref(add(w, "r-1", "f", 1, NULL));
    before = w->changes;
    artifacts_lost(w->a, &w->executor);
    assert_int_equal(w->changes, before + 1);
    assert_int_equal(read_uri(w, "cellblock://s-a/r-1/f0"), ERROR_NOT_FOUND);
    json_decref(add(w, "r-2", "f", 1, NULL));
    w->executor.error = ERROR_LOST;
    assert_int_equal(read_uri(w, "cellblock://s-a/r-2/f0"), ERROR_LOST);
    w->executor.started = false;
    assert_int_equal(read_uri(w, "cellblock://s-a/r-2/f0"), ERROR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_links_have_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_table_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_cursor_is_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_replaces_a_file_is_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_rescue_keeps_the_newest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_rescue_has_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lost_sandbox, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
