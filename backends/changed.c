#include "backends/changed.h"

#include <stdlib.h>
#include <string.h>

/* One part between slashes: something, and neither the folder itself nor the one above. */
static bool is_part(const char *part, size_t size)
{
    return size > 0 && !(size == 1 && part[0] == '.') &&
           !(size == 2 && part[0] == '.' && part[1] == '.');
}

/* Strings of JSON are UTF-8 already; what is left is where they lead. */
static bool is_path(const char *path, size_t size)
{
    size_t part;

    if (size == 0 || size > CHANGED_PATH_CAP || strlen(path) != size) {
        return false;
    }
    for (;; path += part + 1) {
        part = strcspn(path, "/");
        if (!is_part(path, part)) {
            return false;
        }
        if (!path[part]) {
            return true;
        }
    }
}

static bool is_named(const struct changed *changed, const char *path)
{
    for (unsigned i = 0; i < changed->count; i++) {
        const char *known = changed->files[i].path;

        if (known && strcmp(known, path) == 0) {
            return true;
        }
    }
    return false;
}

/* False: it is none, or finds no room. */
static bool take_file(const json_t *said, struct changed *changed)
{
    const json_t *name = json_array_get(said, 0), *size = json_array_get(said, 1);
    const char *path = json_string_value(name);
    const json_t *mtime = json_array_get(said, 2);
    struct changed_file file = {.image = json_is_true(json_array_get(said, 3))};

    if (changed->count == CHANGED_CAP || !path || !is_path(path, json_string_length(name)) ||
        !json_is_integer(size) || json_integer_value(size) < 0 || !json_is_integer(mtime) ||
        is_named(changed, path)) {
        return false;
    }
    file.path = strdup(path);
    file.size = (uint64_t)json_integer_value(size);
    file.mtime_ns = json_integer_value(mtime);
    if (!file.path) {
        return false;
    }
    changed->files[changed->count++] = file;
    return true;
}

void changed_parse(const json_t *said, struct changed *ret)
{
    const json_t *files = json_object_get(said, "files");
    json_int_t more = json_integer_value(json_object_get(said, "more"));
    size_t count = json_array_size(files);

    ret->partial = json_is_true(json_object_get(said, "partial"));
    if (count > 0) {
        ret->files = calloc(CHANGED_CAP, sizeof(*ret->files));
    }
    for (size_t i = 0; i < count && ret->files && ret->count < CHANGED_CAP; i++) {
        (void)take_file(json_array_get(files, i), ret);
    }
    ret->more = count - ret->count;
    if (more > 0) {
        ret->more += (uint64_t)(more < CHANGED_MORE_CAP ? more : CHANGED_MORE_CAP);
    }
    if (ret->more > CHANGED_MORE_CAP) {
        ret->more = CHANGED_MORE_CAP;
    }
}

void changed_deinit(struct changed *changed)
{
    for (unsigned i = 0; i < changed->count; i++) {
        free(changed->files[i].path);
    }
    free(changed->files);
    *changed = (struct changed){0};
}
