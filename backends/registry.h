#ifndef CELLBLOCK_REGISTRY_H
#define CELLBLOCK_REGISTRY_H

#include "backends/place.h"

/*
 * The table of backends: one row each, in alphabetical order, ended by a row without a name. A row
 * exists when its backend is built; an alias leads to the row that serves it.
 */
struct backend {
    const char *name;
    const char *summary;        /* one line, for `cellblock backends` */
    const char *const *aliases; /* NULL-terminated; case, '_' and '-' do not matter */
    const struct place_ops *ops;
    uint64_t settings;    /* of enum setting: those that it knows */
    const char *start;    /* what a fresh sandbox costs, in a few words for people */
    const char *packages; /* how a Python package gets into its sandboxes, for people; NULL where
                           * they have those of an interpreter of this machine */
    const char *module;   /* of place_ops without an open; NULL: as the name */
};

extern const struct backend backends[];

/* By name or alias. NULL and an ERROR_INVALID listing what there is (with the nearest name). */
const struct backend *backend_find(const char *name, struct error *err);

/* Sets env->backend to the row that the name or alias leads to, and what the alias stands for
 * besides: local-docker the jupyter kernel, local-jupyter a server of our own, modal-ephemeral the
 * mode. -1 with `err`. */
int backend_choose(const char *name, struct environment *env, struct error *err);

/* 0 when the row knows all settings that were given outright, or -1 with an ERROR_UNSUPPORTED that
 * names the first that it does not and who does. */
int backend_check_settings(const struct backend *backend, const struct environment *env,
                           struct error *err);

/* 0 when the backend can hold its sandboxes to the environment's list of hosts, or there is none;
 * -1 with an ERROR_UNSUPPORTED that names those that can. */
int backend_check_network(const struct backend *backend, const struct environment *env,
                          struct error *err);

/* "local, docker" of those with the capability, or "none of those built in"; to be freed. */
char *backends_with(enum capability capability);

/*
 * 0 when the place has the capability, or -1 with an ERROR_UNSUPPORTED that starts with `what` ("a
 * share of type mount") and says who has it: other backends, or this one with other settings.
 */
int place_needs(const struct place *place, enum capability needed, const char *what,
                struct error *err);

/* Is a mount there an uploaded copy of the moment (CAP_MOUNT_COPY), and not the source itself? */
static inline bool place_copies_mounts(const struct place *place)
{
    return (place_capabilities(place) & (CAP_MOUNT | CAP_MOUNT_COPY)) == CAP_MOUNT_COPY;
}

/* 0 when the place can have shares of this type, or -1 as place_needs does. */
int place_takes_share(const struct place *place, enum share_type type, bool read_only,
                      struct error *err);

#endif
