#ifndef CELLBLOCK_ENVIRONMENT_H
#define CELLBLOCK_ENVIRONMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/base/error.h"

/*
 * A named, configured way to make an executor. Filled from the config file and the command line by
 * mcp/config.c; read-only afterwards, and it outlives every place and executor made from it.
 * Defaults are in environment_init and schemas/config.schema.json (a unit test compares them).
 */
enum network {
    NETWORK_NONE, /* an own, empty network: only its own loopback */
    NETWORK_ALL,  /* the host's network, nothing held back */
};

enum isolation {
    ISOLATION_AUTO,     /* bwrap, or a refusal that says why: never anything less */
    ISOLATION_BWRAP,    /* bubblewrap outside, namespaces, seccomp and Landlock inside */
    ISOLATION_LANDLOCK, /* no namespaces: Landlock, seccomp, rlimits */
    ISOLATION_NONE,     /* nothing at all; only when said outright */
};

enum cells {
    CELLS_AUTO,   /* forked where nested namespaces work, else solo; the walls are the same */
    CELLS_FORKED, /* from the zygote */
    CELLS_SOLO,   /* a bwrap of its own each */
};

enum mode {
    MODE_STATEFUL,
    MODE_EPHEMERAL,
};

struct environment {
    char *name;    /* "default" when no config names one */
    char *backend; /* a registry row's name, aliases resolved */
    enum mode mode;
    char *python; /* path of the interpreter as the user gave it, NULL: found by the backend */
    json_t *env;  /* object of strings: added to the sandbox's environment; never NULL */
    enum network network;
    enum isolation isolation;
    enum cells cells;
    uint64_t memory_mib; /* of one process, and of the whole sandbox */
    uint64_t disk_mib;   /* everything the sandbox can write, /dev/shm (64 MiB) apart */
    unsigned processes;
    double timeout_seconds;     /* of a run that names none */
    double max_timeout_seconds; /* the most that a run may name */
    double idle_timeout_seconds;
    double max_lifetime_seconds;
    unsigned pool;  /* fresh sandboxes kept ready, 0 … 16 */
    json_t *shares; /* array of {type, source, dest, read_only} for every new session; never NULL */
};

/* The defaults of design section 3: timeout 50 s (3600 at most), 1024 MiB, disk 1024 MiB, 256
 * processes, no network, idle 30 min, lifetime 24 h, a pool of 2. -ENOMEM. */
int environment_init(struct environment *env, const char *name, const char *backend);
void environment_deinit(struct environment *env);

/* Words to values and back: "none"/"all", "auto"/"bwrap"/…, "auto"/"forked"/"solo",
 * "stateful"/"ephemeral". The parsers answer 0, or -1 with an ERROR_INVALID (ERROR_UNSUPPORTED for
 * a network policy that is known and not built) that lists what is allowed. */
int network_parse(const char *word, enum network *ret, struct error *err);
int isolation_parse(const char *word, enum isolation *ret, struct error *err);
int cells_parse(const char *word, enum cells *ret, struct error *err);
int mode_parse(const char *word, enum mode *ret, struct error *err);
const char *network_name(enum network v);
const char *isolation_name(enum isolation v);
const char *cells_name(enum cells v);
const char *mode_name(enum mode v);

#endif
