#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/base/strings.h"
#include "backends/docker/internal.h"
#include "backends/remote/process.h"

/*
 * Containers of servers that are gone. Every container says whose it is: the host, the boot, the
 * process id and when that process was started. Only a server of this host, seen from the same pid
 * namespace, can be judged; any other is left alone, however old.
 */
enum { BOOT_SIZE = 640 };

/* "BOOT NAMESPACE START" of a process of this host. */
static void boot_of(const struct process_home *home, long pid, char space[BOOT_SIZE])
{
    (void)snprintf(space, BOOT_SIZE, "%.64s %.63s %llu", home->boot, home->pids,
                   process_start(pid));
}

json_t *orphans_labels(const char *server)
{
    struct process_home home;
    char pid[24], boot[BOOT_SIZE];

    process_home(&home);
    boot_of(&home, (long)getpid(), boot);
    (void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    return json_pack("{s:s, s:s, s:s, s:s}", "cellblock.server", server, "cellblock.pid", pid,
                     "cellblock.boot", boot, "cellblock.host", home.host);
}

static const char *label(json_t *labels, const char *name)
{
    const char *text = json_string_value(json_object_get(labels, name));
    return text ? text : "";
}

bool orphans_is_dead(json_t *labels)
{
    struct process_home home;
    char me[BOOT_SIZE], now[BOOT_SIZE];
    const char *boot = label(labels, "cellblock.boot");
    const char *space = strchr(boot, ' ');
    const char *mark = strrchr(boot, ' ');
    char *end;
    long pid = strtol(label(labels, "cellblock.pid"), &end, 10);

    process_home(&home);
    boot_of(&home, (long)getpid(), me);
    if (!home.host[0] || strcmp(home.host, label(labels, "cellblock.host")) != 0 || pid <= 0 ||
        *end || !space || mark == space) {
        return false;
    }
    if (strncmp(boot, me, (size_t)(space - boot) + 1) != 0) {
        return true; /* the machine has been started anew since */
    }
    if (strncmp(boot, me, (size_t)(mark - boot) + 1) != 0) {
        return false; /* another pid namespace: nobody here can tell */
    }
    boot_of(&home, pid, now);
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
    if (place->orphans.looked || place->crates.closing) {
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
