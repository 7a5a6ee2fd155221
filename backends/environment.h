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
    NETWORK_NONE,  /* an own, empty network: only its own loopback */
    NETWORK_ALL,   /* the host's network, nothing held back */
    NETWORK_HOSTS, /* environment.network_hosts and nothing else (CAP_NETWORK_HOSTS) */
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

enum kernel_choice {
    KERNEL_DEFAULT, /* the backend's own: the runner where it can */
    KERNEL_RUNNER,
    KERNEL_JUPYTER,
};

/* Settings of which a backend may know nothing: given outright they are then refused, never
 * ignored. */
enum setting {
    SETTING_APT_PACKAGES = 1u << 0,
    SETTING_CELLS = 1u << 1,
    SETTING_COMMAND = 1u << 2,
    SETTING_CPU = 1u << 3,
    SETTING_DISK_MIB = 1u << 4,
    SETTING_HEADERS = 1u << 5,
    SETTING_HOST = 1u << 6,
    SETTING_IMAGE = 1u << 7,
    SETTING_ISOLATION = 1u << 8,
    SETTING_KERNEL = 1u << 9,
    SETTING_KERNEL_ID = 1u << 10,
    SETTING_MEMORY_MIB = 1u << 11,
    SETTING_PACKAGES = 1u << 12,
    SETTING_POOL = 1u << 13,
    SETTING_PROCESSES = 1u << 14,
    SETTING_PYTHON = 1u << 15,
    SETTING_READ_ONLY_ROOT = 1u << 16,
    SETTING_RUNTIME = 1u << 17,
    SETTING_TOKEN = 1u << 18,
    SETTING_URL = 1u << 19,
    SETTING_USER = 1u << 20,
    SETTING_GPU = 1u << 21,
    SETTING_APP_NAME = 1u << 22,
    SETTING_CPU_LIMIT = 1u << 23,
    SETTING_DOCKERFILE_COMMANDS = 1u << 24,
    SETTING_MEMORY_LIMIT_MIB = 1u << 25,
    SETTING_MODAL_SECRETS = 1u << 26,
    SETTING_NETWORK_FILE_SYSTEMS = 1u << 27,
    SETTING_PORTS = 1u << 28,
    SETTING_REGION = 1u << 29,
    SETTING_SANDBOX_NAME = 1u << 30,
    SETTING_TAGS = 1ull << 31,
    SETTING_VOLUMES = 1ull << 32,
    SETTING_CLOUD = 1ull << 33,
    SETTING_CUSTOM_DOMAIN = 1ull << 34,
    SETTING_H2_PORTS = 1ull << 35,
    SETTING_INBOUND_CIDR_ALLOWLIST = 1ull << 36,
    SETTING_INCLUDE_OIDC_IDENTITY_TOKEN = 1ull << 37,
    SETTING_PROXY = 1ull << 38,
    SETTING_READINESS_PROBE = 1ull << 39,
    SETTING_REGISTRY_AUTH = 1ull << 40,
    SETTING_REGISTRY_SECRET = 1ull << 41,
    SETTING_SANDBOX_COMMAND = 1ull << 42,
    SETTING_UNENCRYPTED_PORTS = 1ull << 43,
    SETTING_SNAPSHOT = 1ull << 44,
    SETTING_MEMORY_SNAPSHOTS = 1ull << 45,
};

struct environment {
    char *name;     /* "default" when no config names one */
    char *title;    /* for people; NULL: none */
    char *backend;  /* a registry row's name, aliases resolved */
    uint64_t given; /* of enum setting: those that were given outright */
    enum kernel_choice kernel;
    bool memory_snapshots; /* modal: sandboxes are made so that their memory can be kept */
    bool own_server;       /* jupyter: starts a server of its own (alias local-jupyter) */
    char *snapshot; /* what its sandboxes begin with, which has what `image`, `packages` and so on
                     * name: an id at the backend (CAP_SNAPSHOT). Only of an environment that was
                     * derived for a session; NULL: none */
    char *image;    /* docker: what runs, or with the jupyter kernel what is built upon */
    json_t *packages, *apt_packages; /* arrays of strings; never NULL. Of an image that is built */
    double cpu;                      /* processors, 0: no limit of our own */
    char *runtime;                   /* docker: an OCI runtime the engine knows ("runsc"); modal:
                                      * "gvisor" or "vm" */
    char *user;          /* docker: who code runs as, "uid[:gid]" or a name of the image */
    bool read_only_root; /* docker: true unless told otherwise */
    char *host;          /* docker: the engine, as DOCKER_HOST has it; NULL: looked for */
    char *url, *token;   /* jupyter: the server */
    json_t *headers;     /* jupyter: object of strings, more request headers; never NULL */
    char *kernel_id;     /* jupyter: a kernel that is there already */
    json_t *command;     /* command: array of strings; never NULL, empty when not given */
    char *gpu;           /* a kind, or kind:count ("H100", "A10G:2"); NULL: none */
    double cpu_limit;    /* modal: the most, where `cpu` is what is reserved; 0: the service's */
    uint64_t memory_limit_mib;    /* modal: likewise; 0: memory_mib */
    char *app_name;               /* modal: the app that its sandboxes belong to; NULL: ours */
    char *sandbox_name;           /* modal: NULL: one of our own making */
    json_t *dockerfile_commands;  /* modal: array of strings; never NULL */
    json_t *modal_secrets;        /* modal: array of names of the service's secrets; never NULL */
    json_t *volumes;              /* modal: array of {name?, dest, read_only?, create?}; one without
                                   * a name lives as long as its place. Never NULL */
    json_t *network_file_systems; /* modal: array of {name, dest, create?}; never NULL */
    json_t *region;               /* modal: array of strings; never NULL */
    json_t *ports;                /* modal: array of integers, tunnels to them; never NULL */
    json_t *tags;                 /* modal: object of strings, of its sandboxes; never NULL */
    json_t *h2_ports;             /* modal: like `ports`, for HTTP/2; never NULL */
    json_t *unencrypted_ports;    /* modal: like `ports`, without TLS; never NULL */
    json_t *inbound_cidr_allowlist; /* modal: array of addresses and ranges that its ports are
                                     * reached from, empty: any; never NULL */
    json_t *sandbox_command;        /* modal: array of strings, the first process of a sandbox;
                                     * empty: one that only waits. Never NULL */
    json_t *readiness_probe;        /* modal: {port | command, interval_ms?, timeout_seconds?}: a
                                     * start waits for it; empty: for nothing. Never NULL */
    char *registry_secret;          /* modal: the name of the service's secret that opens the
                                     * registry of `image`; NULL: none */
    char *registry_auth;            /* modal: "aws", "gcp" or "static"; NULL: as the secret's
                                     * variables say */
    char *cloud;                    /* modal: whose machines ("aws"); NULL: any */
    char *proxy;                    /* modal: the name of a proxy of the service; NULL: none */
    char *custom_domain;            /* modal: what the tunnels' names are below; NULL: Modal's */
    bool identity_token;            /* modal: MODAL_IDENTITY_TOKEN is among its variables */
    enum mode mode;
    char *python;  /* path of the interpreter as the user gave it, NULL: found by the backend */
    char *workdir; /* absolute: where runs and commands begin, made when it is missing; NULL: as the
                    * backend has it, /workspace */
    json_t *env;   /* object of strings: added to the sandbox's environment; never NULL */
    json_t *secrets; /* array of names (mcp/secrets.h), for the runs' environment; never NULL */
    enum network network;
    json_t *network_hosts; /* names ("pypi.org", "*.example.org") and address ranges in CIDR's
                            * notation, each once; never NULL, empty but for NETWORK_HOSTS */
    enum isolation isolation;
    enum cells cells;
    uint64_t memory_mib; /* of one process, and of the whole sandbox */
    uint64_t disk_mib;   /* everything the sandbox can write, /dev/shm (64 MiB) apart */
    unsigned processes;
    double timeout_seconds;     /* of a run that names none */
    double max_timeout_seconds; /* the most that a run may name */
    double idle_timeout_seconds;
    double max_lifetime_seconds;
    bool keep;      /* its sessions outlive the server that made them (CAP_REATTACH) */
    unsigned pool;  /* fresh sandboxes kept ready, 0 … 16 */
    json_t *shares; /* array of {type, source, dest, read_only} for every new session; never NULL */
};

/* The defaults of design section 3: timeout 50 s (3600 at most), 1024 MiB, disk 1024 MiB, 256
 * processes, no network, idle 30 min, lifetime 24 h, a pool of 2. -ENOMEM. */
int environment_init(struct environment *env, const char *name, const char *backend);
void environment_deinit(struct environment *env);
/* A deep copy, to be changed before a place is opened with it. `to` is taken for empty. -ENOMEM,
 * and `to` is empty then. */
int environment_copy(struct environment *to, const struct environment *from);

/* Sets `network` and `network_hosts` from "none", "all", or a list: an array of strings, or one
 * string with commas in it. -1 as network_parse, and nothing has changed. */
int environment_set_network(struct environment *env, const json_t *value, struct error *err);
/* "none", "all", "pypi.org,10.0.0.0/8": to be freed; NULL when out of memory. */
char *environment_network(const struct environment *env);

/* Words to values and back: "none"/"all" (a list of hosts is NETWORK_HOSTS, "hosts"),
 * "auto"/"bwrap"/…, "auto"/"forked"/"solo", "stateful"/"ephemeral". The parsers answer 0, or -1
 * with an ERROR_INVALID (ERROR_UNSUPPORTED for a network policy that is known and not built) that
 * lists what is allowed. */
int network_parse(const char *word, enum network *ret, struct error *err);
int isolation_parse(const char *word, enum isolation *ret, struct error *err);
int cells_parse(const char *word, enum cells *ret, struct error *err);
int mode_parse(const char *word, enum mode *ret, struct error *err);
/* An address or a range of them, as network_hosts has them, and not a name. */
bool host_is_range(const char *host);
const char *network_name(enum network v);
const char *isolation_name(enum isolation v);
const char *cells_name(enum cells v);
const char *mode_name(enum mode v);
int kernel_parse(const char *word, enum kernel_choice *ret,
                 struct error *err); /* runner, jupyter */
const char *kernel_choice_name(enum kernel_choice v);

#endif
