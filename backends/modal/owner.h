#ifndef CELLBLOCK_MODAL_OWNER_H
#define CELLBLOCK_MODAL_OWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "api.pb-c.h"

/*
 * Whose a sandbox is: tags that tell the host, its boot, the pid namespace, and the process with
 * the time when it was started. So a later server of the same host can tell whether the one that
 * made it is gone; any other sandbox is left alone, however old.
 */
enum {
    OWNER_TAG_SIZE = 64, /* the service takes 63 characters of [A-Za-z0-9._-] */
};

enum owner_tag {
    OWNER_SANDBOX,
    OWNER_HOST,
    OWNER_BOOT,
    OWNER_PIDS,
    OWNER_PROCESS,
    OWNER_TAGS,
    OWNER_KEPT = OWNER_TAGS, /* of those that outlive us alone */
    OWNER_UNTIL,
    OWNER_TAGS_MAX,
};

#define OWNER_TAG_SANDBOX "cellblock-sandbox" /* of which there is one in the world */
#define OWNER_TAG_HOST "cellblock-host"
#define OWNER_TAG_BOOT "cellblock-boot"
#define OWNER_TAG_PIDS "cellblock-pids"
#define OWNER_TAG_PROCESS "cellblock-process"
#define OWNER_TAG_KEPT "cellblock-kept"   /* a word that is made of its session's tag */
#define OWNER_TAG_UNTIL "cellblock-until" /* seconds since 1970 */

struct owner_tags {
    char space[OWNER_TAGS_MAX][OWNER_TAG_SIZE];
    const char *list[2 * OWNER_TAGS_MAX + 1]; /* name, value, …, NULL */
};

/* Of this process, and this sandbox of it. */
void owner_tags(struct owner_tags *ret, const char *sandbox);
/* It outlives this process, so many seconds at most. */
void owner_keep(struct owner_tags *t, const char *word, double seconds);
/* The value of a tag, or "". */
const char *owner_tag(Modal__Client__SandboxTag *const *tags, size_t count, const char *name);
/* Is the server that these tags name on this host, and gone? */
bool owner_is_dead(Modal__Client__SandboxTag *const *tags, size_t count);
/* Does it outlive its server, and is its time not over? */
bool owner_is_kept(Modal__Client__SandboxTag *const *tags, size_t count);

#endif
