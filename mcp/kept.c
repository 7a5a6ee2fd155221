#include "mcp/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/strings.h"

enum {
    TRIES = 8,
    ENTRIES_CAP = 3 * KEPT_CAP, /* of the folder */
    NAME_SIZE = KEPT_ID_SIZE + 8,
    ID_CHARACTERS = 8,
};

struct kept_store {
    int folder; /* …/cellblock/sessions */
    unsigned char key[MAC_KEY_SIZE];
    char *path; /* of …/cellblock, for messages */
};

struct kept_hold {
    struct kept_store *store; /* of its own */
    int fd;
    char id[KEPT_ID_SIZE];
};

bool kept_is_id(const char *id)
{
    return strncmp(id, "s-", 2) == 0 &&
           strspn(id + 2, "abcdefghijklmnopqrstuvwxyz234567") == ID_CHARACTERS &&
           id[2 + ID_CHARACTERS] == '\0';
}

static void name_of(char name[NAME_SIZE], const char *id, const char *suffix)
{
    (void)snprintf(name, NAME_SIZE, "%s.%s", id, suffix);
}

/* ---- folders ---- */

static int not_ours(const char *path, const char *what, struct error *err)
{
    return error_set(err, ERROR_REFUSED,
                     "%s %s, so nothing in it can be trusted and no session is kept or attached; "
                     "make it a folder of your own (chmod 700), or set XDG_STATE_HOME to another",
                     path, what);
}

static int check_folder(int fd, const char *path, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return error_set_code(err, ERROR_INTERNAL, errno, "%s", path);
    }
    if (st.st_uid != geteuid()) {
        return not_ours(path, "belongs to another user", err);
    }
    return st.st_mode & (S_IWGRP | S_IWOTH) ? not_ours(path, "can be written to by others", err)
                                            : 0;
}

/* One step down, out of `parent`, which is closed. `path` is where it leads. */
static int step(int parent, const char *name, const char *path, bool make, bool ours,
                struct error *err)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (ours ? O_NOFOLLOW : 0);
    int fd, code;

    if (make) {
        (void)mkdirat(parent, name, 0700);
    }
    fd = openat(parent, name, flags);
    code = errno;
    close(parent);
    if (fd < 0 && (code == ELOOP || code == ENOTDIR) && ours) {
        return not_ours(path, "is no folder, or a symlink", err);
    }
    if (fd < 0) {
        return error_set_code(err, code == ENOENT ? ERROR_NOT_FOUND : ERROR_REFUSED, code, "%s",
                              path);
    }
    if (check_folder(fd, path, err) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The folder that ours is in, and its path. */
static int open_base(bool make, char **ret_path, struct error *err)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool given = state && state[0] == '/';
    int fd;

    if (!given && (!home || home[0] != '/')) {
        return error_set(err, ERROR_NOT_FOUND,
                         "neither XDG_STATE_HOME nor HOME is an absolute path: there is no place "
                         "for what is known of sessions that are kept");
    }
    *ret_path = given ? strdup(state) : string_format("%s/.local/state", home);
    if (!*ret_path) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "kept sessions");
    }
    if (given && make) {
        (void)mkdir(state, 0700);
    }
    fd = open(given ? state : home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_code(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_REFUSED, errno, "%s",
                              given ? state : home);
    }
    if (check_folder(fd, given ? state : home, err) < 0) {
        close(fd);
        return -1;
    }
    if (given) {
        return fd;
    }
    fd = step(fd, ".local", "~/.local", make, false, err);
    return fd < 0 ? -1 : step(fd, "state", "~/.local/state", make, false, err);
}

/* ---- the key ---- */

/* Whole from the first moment that it has its name. */
static int make_key(int folder)
{
    unsigned char key[MAC_KEY_SIZE];
    char name[64];
    int fd, r = -1;

    (void)snprintf(name, sizeof(name), "key.%d", (int)getpid());
    (void)unlinkat(folder, name, 0);
    fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    if (getrandom(key, sizeof(key), 0) == sizeof(key) &&
        write(fd, key, sizeof(key)) == sizeof(key) && fsync(fd) == 0 &&
        (linkat(folder, name, folder, "key", 0) == 0 || errno == EEXIST)) {
        r = 0;
    }
    close(fd);
    (void)unlinkat(folder, name, 0);
    explicit_bzero(key, sizeof(key));
    return r;
}

static int bad_key(const struct kept_store *store, const char *what, struct error *err)
{
    return error_set(err, ERROR_REFUSED,
                     "%s/key %s: it says who may attach to sessions that are kept, so it is not "
                     "used. Remove it (those sessions cannot be attached then), or make it yours "
                     "alone with chmod 600 if nobody else has read it",
                     store->path, what);
}

static int check_key(const struct kept_store *store, int fd, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return bad_key(store, "is no file", err);
    }
    if (st.st_uid != geteuid()) {
        return bad_key(store, "belongs to another user", err);
    }
    if (st.st_mode & (S_IRWXG | S_IRWXO)) {
        return bad_key(store, "can be read by others", err);
    }
    return st.st_size == MAC_KEY_SIZE ? 0 : bad_key(store, "is not 32 bytes long", err);
}

static int read_key(struct kept_store *store, int folder, bool make, struct error *err)
{
    int fd = openat(folder, "key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), r;

    if (fd < 0 && errno == ENOENT && make && make_key(folder) == 0) {
        fd = openat(folder, "key", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }
    if (fd < 0 && errno == ELOOP) {
        return bad_key(store, "is a symlink", err);
    }
    if (fd < 0) {
        return error_set_code(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_REFUSED, errno,
                              "%s/key", store->path);
    }
    r = check_key(store, fd, err);
    if (r == 0 && read(fd, store->key, MAC_KEY_SIZE) != MAC_KEY_SIZE) {
        r = bad_key(store, "cannot be read", err);
    }
    close(fd);
    return r;
}

/* ---- the store ---- */

static int open_in(struct kept_store *store, int base, bool make, struct error *err)
{
    int folder = step(base, "cellblock", store->path, make, true, err), copy;
    char *path;

    if (folder < 0) {
        return -1;
    }
    copy = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    path = string_format("%s/sessions", store->path);
    if (copy < 0 || !path || read_key(store, folder, make, err) < 0) {
        if (copy >= 0) {
            close(copy);
        }
        free(path);
        close(folder);
        return -1;
    }
    close(folder);
    store->folder = step(copy, "sessions", path, make, true, err);
    free(path);
    return store->folder < 0 ? -1 : 0;
}

struct kept_store *kept_store_open(bool make, struct error *err)
{
    struct kept_store *store = calloc(1, sizeof(*store));
    char *path = NULL;
    int base;

    if (!store) {
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "kept sessions");
        return NULL;
    }
    store->folder = -1;
    base = open_base(make, &path, err);
    store->path = path ? string_format("%s/cellblock", path) : NULL;
    free(path);
    if (base >= 0 && !store->path) {
        close(base);
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "kept sessions");
    }
    if (base < 0 || !store->path || open_in(store, base, make, err) < 0) {
        kept_store_free(store);
        return NULL;
    }
    return store;
}

void kept_store_free(struct kept_store *store)
{
    if (!store) {
        return;
    }
    if (store->folder >= 0) {
        close(store->folder);
    }
    explicit_bzero(store->key, sizeof(store->key));
    free(store->path);
    free(store);
}

/* "what", a NUL, and the text: one kind of signature never passes for another. */
static int sign(const struct kept_store *store, const char *what, const char *text,
                char ret[MAC_SIZE])
{
    size_t head = strlen(what) + 1, size = head + strlen(text);
    char *bytes = malloc(size + 1);

    if (!bytes) {
        return -1;
    }
    memcpy(bytes, what, head);
    memcpy(bytes + head, text, size - head + 1);
    mac_of(store->key, bytes, size, ret);
    free(bytes);
    return 0;
}

void kept_tag(const struct kept_store *store, const char *id, const char *nonce, char ret[MAC_SIZE])
{
    char text[256];

    (void)snprintf(text, sizeof(text), "tag/%s/%.64s", id, nonce);
    mac_of(store->key, text, strlen(text), ret);
}

/* ---- holding one ---- */

static pid_t pid_in(int fd)
{
    char text[16] = "";

    if (pread(fd, text, sizeof(text) - 1, 0) <= 0) {
        return 0;
    }
    return (pid_t)strtol(text, NULL, 10);
}

static int open_lock(const struct kept_store *store, const char *id, int flags)
{
    char name[NAME_SIZE];

    name_of(name, id, "lock");
    return openat(store->folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
}

/* The descriptor, or -1 with `err`; -2 when it was removed while we got it. */
static int try_lock(const struct kept_store *store, const char *id, struct error *err)
{
    int fd = open_lock(store, id, O_CREAT);
    char text[16];
    struct stat st;

    if (fd < 0) {
        return error_set_code(err, ERROR_REFUSED, errno, "%s/sessions/%s.lock", store->path, id);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        error_set(err, ERROR_REFUSED,
                  "session \"%s\" is in use by another cellblock, process %d: end that one, or go "
                  "on there",
                  id, (int)pid_in(fd));
        close(fd);
        return -1;
    }
    if (fstat(fd, &st) < 0 || st.st_nlink != 1) {
        close(fd);
        return -2;
    }
    (void)snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0) {
        error_set_code(err, ERROR_INTERNAL, errno, "%s/sessions/%s.lock", store->path, id);
        close(fd);
        return -1;
    }
    return fd;
}

/* The hold has a store of its own: it may outlive the one that it was made with. */
static struct kept_store *store_copy(const struct kept_store *store)
{
    struct kept_store *copy = malloc(sizeof(*copy));

    if (copy) {
        *copy = *store;
        copy->folder = fcntl(store->folder, F_DUPFD_CLOEXEC, 0);
        copy->path = strdup(store->path);
    }
    if (copy && (copy->folder < 0 || !copy->path)) {
        kept_store_free(copy);
        copy = NULL;
    }
    return copy;
}

struct kept_hold *kept_hold(struct kept_store *store, const char *id, struct error *err)
{
    struct kept_hold *hold = calloc(1, sizeof(*hold));
    int fd = -2;

    if (!hold || !(hold->store = store_copy(store))) {
        free(hold);
        error_set_code(err, ERROR_INTERNAL, ENOMEM, "a kept session");
        return NULL;
    }
    for (int i = 0; i < TRIES && fd == -2; i++) {
        fd = try_lock(store, id, err);
    }
    if (fd == -2) {
        error_set(err, ERROR_REFUSED, "session \"%s\" is being ended by another cellblock", id);
    }
    if (fd < 0) {
        kept_store_free(hold->store);
        free(hold);
        return NULL;
    }
    hold->fd = fd;
    (void)snprintf(hold->id, sizeof(hold->id), "%s", id);
    return hold;
}

void kept_forget(struct kept_hold *hold)
{
    char name[NAME_SIZE];

    name_of(name, hold->id, "json");
    (void)unlinkat(hold->store->folder, name, 0);
}

void kept_release(struct kept_hold *hold, bool gone)
{
    char name[NAME_SIZE];

    if (!hold) {
        return;
    }
    if (gone) {
        kept_forget(hold);
        name_of(name, hold->id, "lock");
        (void)unlinkat(hold->store->folder, name, 0);
    }
    close(hold->fd);
    kept_store_free(hold->store);
    free(hold);
}

/* ---- records ---- */

static int write_whole(int folder, const char *name, const char *text)
{
    size_t size = strlen(text);
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int r;

    if (fd < 0) {
        return -1;
    }
    r = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0 ? 0 : -1;
    if (close(fd) < 0) {
        r = -1;
    }
    return r;
}

/* The record with its signature, as text. */
static char *signed_text(const struct kept_store *store, const json_t *record)
{
    char *plain = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS), *text;
    json_t *whole = json_copy((json_t *)record);
    char mac[MAC_SIZE];

    if (!plain || !whole || sign(store, "record", plain, mac) < 0) {
        free(plain);
        json_decref(whole);
        return NULL;
    }
    json_object_set_new(whole, "mac", json_string(mac));
    text = json_dumps(whole, JSON_COMPACT | JSON_SORT_KEYS);
    free(plain);
    json_decref(whole);
    return text;
}

int kept_write(struct kept_hold *hold, const json_t *record, struct error *err)
{
    const struct kept_store *store = hold->store;
    char *text = signed_text(store, record);
    char name[NAME_SIZE], fresh[NAME_SIZE];
    int r;

    if (!text || strlen(text) > KEPT_RECORD_CAP) {
        r = error_set(err, ERROR_LIMIT, "session \"%s\" has too much to be recorded", hold->id);
        free(text);
        return r;
    }
    name_of(name, hold->id, "json");
    name_of(fresh, hold->id, "new");
    r = 0;
    if (write_whole(store->folder, fresh, text) < 0 ||
        renameat(store->folder, fresh, store->folder, name) < 0) {
        r = error_set_code(err, ERROR_INTERNAL, errno, "%s/sessions/%s", store->path, name);
        (void)unlinkat(store->folder, fresh, 0);
    }
    free(text);
    return r;
}

static char *read_text(const struct kept_store *store, const char *id)
{
    char name[NAME_SIZE], *text = NULL;
    struct stat st;
    ssize_t n = -1;
    int fd;

    name_of(name, id, "json");
    fd = openat(store->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= KEPT_RECORD_CAP) {
        text = malloc((size_t)st.st_size + 1);
        n = text ? read(fd, text, (size_t)st.st_size) : -1;
    }
    close(fd);
    if (n < 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

/* Did we write it, for this id? Its "mac" is taken off. */
static bool is_signed(const struct kept_store *store, json_t *record, const char *id)
{
    const char *own = json_string_value(json_object_get(record, "id"));
    json_t *given = json_incref(json_object_get(record, "mac"));
    char mac[MAC_SIZE], *plain;
    bool same;

    json_object_del(record, "mac");
    plain = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS);
    same = plain && own && strcmp(own, id) == 0 && sign(store, "record", plain, mac) == 0 &&
           mac_equal(mac, json_string_value(given));
    free(plain);
    json_decref(given);
    return same;
}

json_t *kept_read(const struct kept_store *store, const char *id, struct error *err)
{
    char *text = kept_is_id(id) ? read_text(store, id) : NULL;
    json_t *record = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;

    if (!text) {
        error_set(err, ERROR_NOT_FOUND, "no session \"%.64s\" was left", id);
    } else if (!json_is_object(record) || !is_signed(store, record, id)) {
        error_set(err, ERROR_REFUSED,
                  "%s/sessions/%s.json was not written by you, or was changed: it is not used. "
                  "Remove it",
                  store->path, id);
        json_decref(record);
        record = NULL;
    }
    free(text);
    return record;
}

/* Who has it? 0: nobody. */
static pid_t holder(const struct kept_store *store, const char *id)
{
    int fd = open_lock(store, id, 0);
    pid_t pid = 0;

    if (fd >= 0) {
        if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
            pid = pid_in(fd);
        }
        close(fd);
    }
    return pid;
}

json_t *kept_look(const struct kept_store *store, const char *id)
{
    json_t *record = kept_read(store, id, NULL);

    if (record) {
        json_object_set_new(record, "pid", json_integer(holder(store, id)));
    }
    return record;
}

static void list_one(const struct kept_store *store, const char *name, json_t *list)
{
    const char *dot = strrchr(name, '.');
    char id[KEPT_ID_SIZE] = "";
    json_t *record;

    if (!dot || strcmp(dot, ".json") != 0 || (size_t)(dot - name) >= sizeof(id)) {
        return;
    }
    memcpy(id, name, (size_t)(dot - name));
    record = kept_look(store, id);
    if (record) {
        json_array_append_new(list, record);
    }
}

json_t *kept_list(const struct kept_store *store)
{
    json_t *list = json_array();
    int fd = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir && fd >= 0) {
        close(fd);
    }
    for (int i = 0; dir && i < ENTRIES_CAP && (entry = readdir(dir)); i++) {
        if (json_array_size(list) < KEPT_CAP) {
            list_one(store, entry->d_name, list);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return list;
}

bool kept_exists(const char *id)
{
    struct kept_store *store = kept_is_id(id) ? kept_store_open(false, NULL) : NULL;
    json_t *record = store ? kept_read(store, id, NULL) : NULL;

    json_decref(record);
    kept_store_free(store);
    return record != NULL;
}
