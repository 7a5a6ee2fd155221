#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"

/*
 * Containers of servers that are gone. Every container says whose it is: the host, the boot, the
 * process id and when that process was started. Only a server of this host, seen from the same pid
 * namespace, can be judged; any other is left alone, however old.
 */
enum { TEXT_CAP = 512 };

/* What a server is told from another one by. */
struct who {
    char host[TEXT_CAP];
    char boot[TEXT_CAP]; /* boot id, pid namespace and start of the process */
    long pid;
};

static bool read_text(const char *path, char space[TEXT_CAP])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, space, TEXT_CAP - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    space[n > 0 ? n : 0] = '\0';
    space[strcspn(space, "\n")] = '\0';
    return n > 0;
}

/* In clock ticks since the boot; 0 when there is no such process. */
static unsigned long long start_of(long pid)
{
    char path[64];
    char text[TEXT_CAP];
    char *at;
    char *rest = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    if (!read_text(path, text) || !(at = strrchr(text, ')'))) {
        return 0;
    }
    /* The third field is the state, the twenty-second the start. */
    at = strtok_r(at + 1, " ", &rest);
    if (!at || *at == 'Z' || *at == 'X') {
        return 0;
    }
    for (int field = 3; at && field < 22; field++) {
        at = strtok_r(NULL, " ", &rest);
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

static void boot_of(long pid, char space[TEXT_CAP])
{
    char boot[TEXT_CAP];
    char names[64] = "";
    ssize_t n = readlink("/proc/self/ns/pid", names, sizeof(names) - 1);

    names[n > 0 ? n : 0] = '\0';
    if (!read_text("/proc/sys/kernel/random/boot_id", boot)) {
        boot[0] = '\0';
    }
    (void)snprintf(space, TEXT_CAP, "%.64s %s %llu", boot, names, start_of(pid));
}

static void who_am_i(struct who *ret)
{
    *ret = (struct who){.pid = (long)getpid()};
    if (gethostname(ret->host, sizeof(ret->host) - 1) < 0) {
        ret->host[0] = '\0';
    }
    boot_of(ret->pid, ret->boot);
}

json_t *orphans_labels(const char *server)
{
    struct who me;
    char pid[24];

    who_am_i(&me);
    (void)snprintf(pid, sizeof(pid), "%ld", me.pid);
    return json_pack("{s:s, s:s, s:s, s:s}", "cellblock.server", server, "cellblock.pid", pid,
                     "cellblock.boot", me.boot, "cellblock.host", me.host);
}

static const char *label(json_t *labels, const char *name)
{
    const char *text = json_string_value(json_object_get(labels, name));
    return text ? text : "";
}

bool orphans_is_dead(json_t *labels)
{
    struct who me;
    char now[TEXT_CAP];
    const char *boot = label(labels, "cellblock.boot");
    const char *space = strchr(boot, ' ');
    const char *mark = strrchr(boot, ' ');
    char *end;
    long pid = strtol(label(labels, "cellblock.pid"), &end, 10);

    who_am_i(&me);
    if (!me.host[0] || strcmp(me.host, label(labels, "cellblock.host")) != 0 || pid <= 0 || *end ||
        !space || mark == space) {
        return false;
    }
    if (strncmp(boot, me.boot, (size_t)(space - boot) + 1) != 0) {
        return true; /* the machine has been started anew since */
    }
    if (strncmp(boot, me.boot, (size_t)(mark - boot) + 1) != 0) {
        return false; /* another pid namespace: nobody here can tell */
    }
    boot_of(pid, now);
    return strcmp(boot, now) != 0;
}

/* ---- sweeping ---- */

static void on_removed(void *data, long status, json_t *reply, const struct error *err)
{
    struct docker_place *place = data;

    (void)reply;
    if (!err || status == 404 || status == 409) {
        place->orphans.removed++;
    } else {
        free(place->orphans.failed);
        place->orphans.failed = strdup(err->message);
    }
}

static void sweep_one(struct docker_place *place, json_t *container)
{
    const char *id = json_string_value(json_object_get(container, "Id"));
    json_t *labels = json_object_get(container, "Labels");

    if (!id || strspn(id, "0123456789abcdef") != strlen(id) || !orphans_is_dead(labels) ||
        kept_is_alive(labels)) {
        return;
    }
    place->orphans.found++;
    engine_call(place->engine,
                &(struct engine_call){.method = "DELETE",
                                      .path = string_format("/containers/%s?force=1&v=1", id),
                                      .timeout_ms = REMOVE_MS,
                                      .done = on_removed,
                                      .data = place});
}

static void on_listed(void *data, long status, json_t *reply, const struct error *err)
{
    struct docker_place *place = data;
    size_t index;
    json_t *container;

    (void)status;
    if (err) {
        place->orphans.looked = false; /* the next time */
        return;
    }
    json_array_foreach(reply, index, container)
    {
        sweep_one(place, container);
    }
}

void orphans_sweep(struct docker_place *place)
{
    if (place->orphans.looked || place->boxes.closing) {
        return;
    }
    place->orphans.looked = true;
    engine_call(
        place->engine,
        &(struct engine_call){.method = "GET",
                              .path = string_format("/containers/json?all=1&filters="
                                                    "%%7B%%22label%%22%%3A%%5B%%22cellblock.server"
                                                    "%%22%%5D%%7D"),
                              .done = on_listed,
                              .data = place});
}
