/* The tools of the toolset `files`, over an executor that answers what the test says. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "mcp/text.h"
#include "mcp/tools/files/files_tools.h"
#include "tool-trial.h"

static int set_up_files(void **state)
{
    fake_files_clear();
    fake_files.there = true;
    return set_up(state);
}

static int tear_down_files(void **state)
{
    fake_files_clear();
    return tear_down(state);
}

static const char *block_text(const json_t *result, size_t index)
{
    const json_t *block = json_array_get(json_object_get(result, "content"), index);

    return json_string_value(json_object_get(block, "text"));
}

/* What a call in the legacy era says, block by block. */
static json_t *said(struct server *s, const struct tool *tool, json_t *arguments)
{
    json_t *result = answer_of(s, ERA_LEGACY, tool, arguments);

    if (!json_is_object(result) || json_is_true(json_object_get(result, "isError"))) {
        fail_msg("%s failed: %s", tool->name,
                 json_is_string(result) ? json_string_value(result) : block_text(result, 0));
    }
    assert_non_null(session_of(result));
    return result;
}

static void set_read(const char *bytes, size_t size, uint64_t of)
{
    fake_files.reply.bytes = (char *)bytes;
    fake_files.reply.size = size;
    fake_files.reply.entry = (struct file_entry){.type = FILE_REGULAR, .size = of, .mode = 0644};
}

/* ---- read_file ---- */

static void reads_a_small_file(void **state)
{
    json_t *result;

    set_read("grün\n", 6, 6);
    result = said(*state, &read_file_tool, json_pack("{ss}", "path", "a.txt"));
    assert_int_equal(fake_files.asked.op, FILE_READ);
    assert_string_equal(fake_files.asked.path, "a.txt");
    assert_int_equal(json_array_size(json_object_get(result, "content")), 1);
    assert_string_equal(part(result, "file"), "grün\n");
    json_decref(result);
}

static void says_how_to_go_on(void **state)
{
    json_t *result;

    set_read("abcdef", 6, 100);
    result = said(*state, &read_file_tool,
                  json_pack("{ss si si}", "path", "a", "offset", 10, "length", 6));
    assert_int_equal(fake_files.asked.offset, 10);
    assert_int_equal(fake_files.asked.length, 6);
    assert_string_equal(part(result, "note"),
                        "Bytes 10 to 16 of 100. To go on, pass \"offset\": 16.");
    json_decref(result);
    set_read("yz", 2, 100);
    result = said(*state, &read_file_tool, json_pack("{ss si}", "path", "a", "offset", 98));
    assert_string_equal(part(result, "note"), "Bytes 98 to 100, the end of the file.");
    json_decref(result);
    set_read(NULL, 0, 100);
    result = said(*state, &read_file_tool, json_pack("{ss si}", "path", "a", "offset", 200));
    assert_null(part(result, "file"));
    assert_says(part(result, "note"), "past it, which has 100 bytes");
    json_decref(result);
    set_read(NULL, 0, 0);
    result = said(*state, &read_file_tool, json_pack("{ss}", "path", "a"));
    assert_string_equal(part(result, "note"), "The file is empty.");
    json_decref(result);
}

static void cuts_text_at_a_character(void **state)
{
    json_t *result;

    set_read("ab\xc3", 3, 10);
    result = said(*state, &read_file_tool, json_pack("{ss si}", "path", "a", "length", 3));
    assert_string_equal(part(result, "file"), "ab");
    assert_says(part(result, "note"), "\"offset\": 2");
    json_decref(result);
}

static void text_of_control_characters_fits_too(void **state)
{
    enum { MANY = 38000 };
    char *bytes = calloc(1, MANY);
    json_t *result;

    memset(bytes, 1, MANY); /* each is \u0001 in a result */
    set_read(bytes, MANY, MANY);
    result = said(*state, &read_file_tool, json_pack("{ss}", "path", "a"));
    assert_in_range(strlen(part(result, "file")), 6000, 6400);
    assert_says(part(result, "note"), "To go on, pass");
    json_decref(result);
    free(bytes);
}

static void as_much_text_as_is_asked_for_outright(void **state)
{
    enum { MANY = 1024 * 1024 };
    char *bytes = calloc(1, MANY);
    json_t *result;

    memset(bytes, 'a', MANY);
    set_read(bytes, 38000, MANY);
    result = said(*state, &read_file_tool, json_pack("{ss}", "path", "a"));
    assert_int_equal(fake_files.asked.length, 38000);
    assert_int_equal(strlen(part(result, "file")), 38000);
    json_decref(result);
    set_read(bytes, MANY, MANY);
    result = said(*state, &read_file_tool, json_pack("{ss si}", "path", "a", "length", 2 * MANY));
    assert_int_equal(fake_files.asked.length, MANY);
    assert_int_equal(strlen(part(result, "file")), MANY);
    assert_null(part(result, "note"));
    json_decref(result);
    free(bytes);
}

static void what_is_no_text_is_said_so(void **state)
{
    struct server *s = *state;

    set_read("ab\xff\xfe", 4, 4);
    assert_call_fails(s, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", "a"),
                      "byte 2 of 4 belongs to no character. Pass \"encoding\": \"base64\"");
    set_read("ab\xc3", 3, 3);
    assert_call_fails(s, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", "a"),
                      "byte 2 of 3");
    set_read("\xbc\xbd"
             "c",
             3, 9);
    assert_call_fails(s, ERA_LEGACY, &read_file_tool,
                      json_pack("{ss si}", "path", "a", "offset", 5), "the next one begins at 7");
}

static void reads_base64(void **state)
{
    json_t *result;

    set_read("\0\xff"
             "a",
             3, 3);
    result = said(
        *state, &read_file_tool,
        json_pack("{ss ss sI}", "path", "a", "encoding", "base64", "length", (json_int_t)1 << 40));
    assert_int_equal(fake_files.asked.length, 1024 * 1024);
    assert_string_equal(part(result, "file"), "AP9h");
    json_decref(result);
}

#define PNG_START "\x89PNG\r\n\x1a\n0123"

static void shows_an_image(void **state)
{
    struct server *s = *state;
    const json_t *block;
    json_t *result;

    set_read(PNG_START, 12, 12);
    result = said(s, &read_file_tool, json_pack("{ss}", "path", "a.png"));
    block = json_array_get(json_object_get(result, "content"), 0);
    assert_string_equal(json_string_value(json_object_get(block, "type")), "image");
    assert_string_equal(json_string_value(json_object_get(block, "mimeType")), "image/png");
    assert_string_equal(json_string_value(json_object_get(block, "data")), "iVBORw0KGgowMTIz");
    assert_int_equal(fake_files.count, 1);
    json_decref(result);
    /* Its beginning is read, then all of it. */
    set_read(PNG_START, 12, 400000);
    result = said(s, &read_file_tool, json_pack("{ss}", "path", "a.png"));
    assert_int_equal(fake_files.count, 3);
    assert_int_equal(fake_files.asked.length, 500 * 1000);
    json_decref(result);
    /* Too large, or asked for as text: no text. */
    set_read(PNG_START, 12, 600000);
    assert_call_fails(s, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", "a"), "no UTF-8");
    set_read(PNG_START, 12, 12);
    assert_call_fails(s, ERA_LEGACY, &read_file_tool,
                      json_pack("{ss ss}", "path", "a", "encoding", "utf-8"), "no UTF-8");
}

/* ---- write_file ---- */

static void writes_text_and_bytes(void **state)
{
    struct server *s = *state;
    json_t *result;

    fake_files.reply.entry.mode = 0755;
    result = said(s, &write_file_tool,
                  json_pack("{ss ss ss}", "path", "b", "content", "hi\n", "mode", "0755"));
    assert_int_equal(fake_files.asked.op, FILE_WRITE);
    assert_int_equal(fake_files.asked.mode, 0755);
    assert_false(fake_files.asked.append);
    assert_int_equal(fake_files.asked.size, 3);
    assert_memory_equal(fake_files.asked.bytes, "hi\n", 3);
    assert_string_equal(part(result, "note"), "Wrote 3 bytes to b (mode 755).");
    json_decref(result);
    fake_files.reply.entry.size = 9;
    result = said(s, &write_file_tool,
                  json_pack("{ss ss ss sb}", "path", "b", "content", "AP9h\nAA==\n", "encoding",
                            "base64", "append", 1));
    assert_int_equal(fake_files.asked.mode, -1);
    assert_true(fake_files.asked.append);
    assert_int_equal(fake_files.asked.size, 4);
    assert_memory_equal(fake_files.asked.bytes,
                        "\0\xff"
                        "a\0",
                        4);
    assert_string_equal(part(result, "note"), "Appended 4 bytes to b, which has 9 now.");
    json_decref(result);
}

static void bad_base64_is_told_where(void **state)
{
    static const struct {
        const char *content, *says;
    } wrong[] = {
        {"AP9!", "character 3"},     {"A=9h", "character 1"},       {"AP9hA", "breaks off after 5"},
        {"AA==AP9h", "character 4"}, {"AP9", "breaks off after 3"}, {"AB==", "character 3"},
        {"====", "character 0"},     {"AP 9h", "character 2"},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_call_fails(
            *state, ERA_LEGACY, &write_file_tool,
            json_pack("{ss ss ss}", "path", "b", "content", wrong[i].content, "encoding", "base64"),
            wrong[i].says);
    }
    assert_int_equal(fake_files.count, 0);
}

static void too_much_is_refused(void **state)
{
    char *much = malloc(FILE_WRITE_CAP + 2);

    memset(much, 'x', FILE_WRITE_CAP + 1);
    much[FILE_WRITE_CAP + 1] = '\0';
    assert_call_fails(*state, ERA_MODERN, &write_file_tool,
                      json_pack("{ss ss}", "path", "b", "content", much), "8388609 bytes");
    assert_int_equal(fake_counts.executors, 0);
    free(much);
}

/* ---- list_files, stat_file ---- */

static void lists_a_line_an_entry(void **state)
{
    struct file_entry entries[] = {
        {.name = "a\nb", .type = FILE_REGULAR, .size = 12, .mode = 0644},
        {.name = "l\xff",
         .type = FILE_SYMLINK,
         .size = 1,
         .mode = 0777,
         .target = "x\t",
         .mtime_ns = INT64_C(1700000000) * 1000000000},
        {.name = "p", .type = FILE_OTHER, .mode = 0600, .mtime_ns = INT64_MIN},
    };
    json_t *result;

    fake_files.reply.entries = entries;
    fake_files.reply.count = 3;
    result = said(*state, &list_files_tool, json_pack("{sb}", "recursive", 1));
    assert_string_equal(fake_files.asked.path, ".");
    assert_true(fake_files.asked.recursive);
    assert_string_equal(part(result, "list"),
                        "type\tmode\tsize\tmodified\tname\n"
                        "file\t644\t12\t1970-01-01T00:00:00Z\ta\\nb\n"
                        "symlink\t777\t1\t2023-11-14T22:13:20Z\tl\\xff\t-> x\\t\n"
                        "other\t600\t0\t1677-09-21T00:12:43Z\tp\n");
    json_decref(result);
}

static void a_long_list_has_pages(void **state)
{
    enum { COUNT = 3000 };
    struct file_entry *entries = calloc(COUNT, sizeof(*entries));
    size_t offset = 0, pages = 0;

    for (int i = 0; i < COUNT; i++) {
        entries[i].name = calloc(1, 16);
        snprintf(entries[i].name, 16, "file-%05d", i);
    }
    fake_files.reply.entries = entries;
    fake_files.reply.count = COUNT;
    while (offset < COUNT) {
        char first[64], last[64];
        json_t *result = said(*state, &list_files_tool,
                              json_pack("{ss sI}", "path", "/d", "offset", (json_int_t)offset));
        const char *text = part(result, "list"), *next = strstr(text, "\"offset\": ");

        snprintf(first, sizeof(first), "name\nfile\t0\t0\t1970-01-01T00:00:00Z\tfile-%05zu\n",
                 offset);
        assert_says(text, first);
        assert_true(strlen(text) < 40000);
        offset = next ? strtoul(next + strlen("\"offset\": "), NULL, 10) : COUNT;
        snprintf(last, sizeof(last), "file-%05zu\n", offset - 1);
        assert_says(text, last);
        pages++;
        json_decref(result);
    }
    assert_in_range(pages, 3, 5);
    fake_files.reply.more = true;
    json_decref(said(*state, &list_files_tool, json_pack("{si si}", "offset", 9, "limit", 2)));
    for (int i = 0; i < COUNT; i++) {
        free(entries[i].name);
    }
    free(entries);
}

static void tells_of_one_file(void **state)
{
    json_t *result;

    fake_files.reply.entry = (struct file_entry){.type = FILE_DIRECTORY, .mode = 01777};
    result = said(*state, &stat_file_tool, json_pack("{ss}", "path", "/tmp"));
    assert_int_equal(fake_files.asked.op, FILE_STAT);
    assert_string_equal(part(result, "list"), "directory\t1777\t0\t1970-01-01T00:00:00Z\t/tmp");
    json_decref(result);
}

/* ---- the others ---- */

static void passes_on_what_is_asked(void **state)
{
    struct server *s = *state;
    json_t *two = json_pack("{ss ss sb}", "source", "a", "dest", "b", "replace", 1);

    json_decref(said(s, &make_directory_tool, json_pack("{ss}", "path", "d")));
    assert_int_equal(fake_files.asked.op, FILE_MKDIR);
    assert_int_equal(fake_files.asked.mode, -1);
    json_decref(said(s, &remove_file_tool, json_pack("{ss}", "path", "d")));
    assert_int_equal(fake_files.asked.op, FILE_REMOVE);
    assert_false(fake_files.asked.recursive);
    json_decref(said(s, &remove_file_tool, json_pack("{ss sb}", "path", "d", "recursive", 1)));
    assert_true(fake_files.asked.recursive);
    json_decref(said(s, &copy_file_tool, json_incref(two)));
    assert_int_equal(fake_files.asked.op, FILE_COPY);
    assert_true(fake_files.asked.replace && fake_files.asked.recursive);
    assert_string_equal(fake_files.asked.path, "a");
    assert_string_equal(fake_files.asked.dest, "b");
    json_decref(said(s, &move_file_tool, two));
    assert_int_equal(fake_files.asked.op, FILE_MOVE);
}

static void errors_come_through(void **state)
{
    fake_files.error = ERROR_NOT_FOUND;
    assert_call_fails(*state, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", "a"),
                      "no such luck");
    assert_call_fails(*state, ERA_LEGACY, &read_file_tool,
                      json_pack("{so}", "path", json_stringn("a\0b", 3)), "path holds a NUL");
    assert_call_fails(*state, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", ""),
                      "path: empty");
    assert_int_equal(fake_files.count, 1);
}

/* ---- sessions ---- */

static void only_what_brings_in_makes_a_session(void **state)
{
    struct server *s = *state;
    json_t *result;

    assert_call_fails(s, ERA_MODERN, &read_file_tool, json_pack("{ss}", "path", "a"),
                      "session is missing");
    assert_call_fails(s, ERA_MODERN, &move_file_tool,
                      json_pack("{ss ss}", "source", "a", "dest", "b"), "session is missing");
    assert_int_equal(fake_counts.executors, 0);
    result = answer_of(s, ERA_MODERN, &write_file_tool,
                       json_pack("{ss ss}", "path", "a", "content", ""));
    assert_says(block_text(result, 1), session_of(result));
    json_decref(result);
    assert_int_equal(fake_counts.executors, 1);
}

static void an_ephemeral_environment_keeps_no_files(void **state)
{
    struct server *s = *state;

    s->config.default_environment = s->pointers[1];
    assert_call_fails(s, ERA_LEGACY, &read_file_tool, json_pack("{ss}", "path", "a"),
                      "\"fresh\" is ephemeral");
    assert_call_fails(s, ERA_MODERN, &write_file_tool,
                      json_pack("{ss ss}", "path", "a", "content", ""), "within one run_code");
    assert_int_equal(fake_files.count, 0);
}

static void a_backend_may_lack_files(void **state)
{
    struct server *s = *state;

    free(s->environments[0].backend);
    s->environments[0].backend = strdup("plain");
    assert_call_fails(s, ERA_LEGACY, &list_files_tool, json_object(),
                      "not supported by backend \"plain\"");
}

static void a_reset_ends_what_is_going(void **state)
{
    struct server *s = *state;
    struct call call;

    call_init(&call, s, ERA_LEGACY, json_pack("{ss}", "path", "a"));
    read_file_tool.start(&call);
    assert_int_equal(call.answers, 0);
    json_decref(answer_of(s, ERA_LEGACY, &reset_session_tool, json_object()));
    assert_int_equal(call.answers, 1);
    assert_says(part(call.result, "note"), "closed");
    call_deinit(&call);
}

/* ---- upload, download: what is refused before anything is asked for ---- */

static void host_paths_are_checked_first(void **state)
{
    struct server *s = *state;

    assert_call_fails(s, ERA_MODERN, &upload_tool,
                      json_pack("{ss ss}", "source", "/etc/passwd", "dest", "p"),
                      "source /etc/passwd is not under a folder that may be shared");
    assert_call_fails(s, ERA_MODERN, &download_tool,
                      json_pack("{ss ss}", "source", "p", "dest", "/etc/p"),
                      "dest's folder /etc is not under a folder that may be shared");
    assert_call_fails(s, ERA_MODERN, &upload_tool,
                      json_pack("{ss ss}", "source", s->file, "dest", "p/.."),
                      "does not end in a name");
    assert_call_fails(s, ERA_LEGACY, &download_tool,
                      json_pack("{ss ss}", "source", "p", "dest", s->file), "is there already");
    assert_int_equal(fake_files.count, 0);
    assert_int_equal(fake_counts.executors, 0);
}

static const char *in_root(struct server *s, char space[128], const char *name)
{
    snprintf(space, 128, "%s/%s", s->root, name);
    return space;
}

/* A folder with these entries, each file of which is "abc". */
static void set_tree(struct file_entry *entries, size_t count)
{
    set_read("abc", 3, 3);
    fake_files.reply.entry.type = FILE_DIRECTORY;
    fake_files.reply.entries = entries;
    fake_files.reply.count = count;
}

static void names_that_lead_out_are_refused(void **state)
{
    static const char *const names[] = {"../x",      "/x",   "..", ".",  "",
                                        "a/../../x", "a//x", "a/", "a/."};
    struct server *s = *state;
    char space[128];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct file_entry entry = {.name = (char *)names[i], .type = FILE_REGULAR, .mode = 0644};

        set_tree(&entry, 1);
        assert_call_fails(s, ERA_LEGACY, &download_tool,
                          json_pack("{ss ss}", "source", "d", "dest", in_root(s, space, "new")),
                          "no download can have");
        assert_int_equal(access(in_root(s, space, "new"), F_OK), -1);
        assert_int_equal(access(in_root(s, space, "x"), F_OK), -1);
    }
}

static void a_listing_that_makes_no_sense_is_refused(void **state)
{
    struct file_entry twice[] = {{.name = (char *)"a", .type = FILE_REGULAR},
                                 {.name = (char *)"a", .type = FILE_REGULAR}};
    struct file_entry orphan = {.name = (char *)"no/parent", .type = FILE_REGULAR};
    struct file_entry below_a_file[] = {{.name = (char *)"a", .type = FILE_REGULAR},
                                        {.name = (char *)"a/b", .type = FILE_DIRECTORY}};
    struct file_entry huge = {.name = (char *)"a", .type = FILE_REGULAR, .size = UINT64_C(1) << 40};
    struct server *s = *state;
    char space[128];
    json_t *arguments = json_pack("{ss ss}", "source", "d", "dest", in_root(s, space, "new"));

    set_tree(twice, 2);
    assert_call_fails(s, ERA_LEGACY, &download_tool, json_incref(arguments), "File exists");
    set_tree(&orphan, 1);
    assert_call_fails(s, ERA_LEGACY, &download_tool, json_incref(arguments), "No such file");
    set_tree(below_a_file, 2);
    assert_call_fails(s, ERA_LEGACY, &download_tool, json_incref(arguments), "Not a directory");
    set_tree(&huge, 1);
    assert_call_fails(s, ERA_LEGACY, &download_tool, arguments, "256 MiB");
    assert_int_equal(access(in_root(s, space, "new"), F_OK), -1);
}

static void a_folder_is_downloaded(void **state)
{
    struct file_entry entries[] = {{.name = (char *)"a", .type = FILE_REGULAR, .mode = 07777},
                                   {.name = (char *)"d", .type = FILE_DIRECTORY},
                                   {.name = (char *)"d/b", .type = FILE_REGULAR, .mode = 0600},
                                   {.name = (char *)"l", .type = FILE_SYMLINK}};
    struct server *s = *state;
    char dest[128], space[128], bytes[8] = "";
    struct stat st;
    FILE *file;

    set_tree(entries, 4);
    json_decref(said(s, &download_tool,
                     json_pack("{ss ss}", "source", "d/", "dest", in_root(s, dest, "new"))));
    assert_string_equal(fake_files.asked.path, "d/d/b");
    file = fopen(in_root(s, space, "new/d/b"), "re");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, sizeof(bytes), file), 3);
    fclose(file);
    assert_string_equal(bytes, "abc");
    assert_int_equal(lstat(in_root(s, space, "new/a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(lstat(in_root(s, space, "new/l"), &st), -1);
    unlink(in_root(s, space, "new/d/b"));
    unlink(in_root(s, space, "new/a"));
    rmdir(in_root(s, space, "new/d"));
    assert_int_equal(rmdir(dest), 0);
}

static void a_cancelled_download_leaves_nothing(void **state)
{
    struct server *s = *state;
    struct call call;
    char space[128];

    set_read("abc", 3, 3);
    call_init(&call, s, ERA_LEGACY,
              json_pack("{ss ss}", "source", "a", "dest", in_root(s, space, "new")));
    download_tool.start(&call);
    call.roots_done(call.roots_data, NULL, NULL);
    call.roots_done = NULL;
    call.cancelled(call.cancelled_data);
    turn(&call);
    assert_int_equal(call.answers, 1);
    assert_true(json_is_true(json_object_get(call.result, "isError")));
    assert_int_equal(access(space, F_OK), -1);
    call_deinit(&call);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_files, tear_down_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_a_small_file),
        TEST(says_how_to_go_on),
        TEST(cuts_text_at_a_character),
        TEST(as_much_text_as_is_asked_for_outright),
        TEST(text_of_control_characters_fits_too),
        TEST(what_is_no_text_is_said_so),
        TEST(reads_base64),
        TEST(shows_an_image),
        TEST(writes_text_and_bytes),
        TEST(bad_base64_is_told_where),
        TEST(too_much_is_refused),
        TEST(lists_a_line_an_entry),
        TEST(a_long_list_has_pages),
        TEST(tells_of_one_file),
        TEST(passes_on_what_is_asked),
        TEST(errors_come_through),
        TEST(only_what_brings_in_makes_a_session),
        TEST(an_ephemeral_environment_keeps_no_files),
        TEST(a_backend_may_lack_files),
        TEST(a_reset_ends_what_is_going),
        TEST(host_paths_are_checked_first),
        TEST(names_that_lead_out_are_refused),
        TEST(a_listing_that_makes_no_sense_is_refused),
        TEST(a_folder_is_downloaded),
        TEST(a_cancelled_download_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
