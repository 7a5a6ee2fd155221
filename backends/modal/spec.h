#ifndef CELLBLOCK_MODAL_SPEC_H
#define CELLBLOCK_MODAL_SPEC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "backends/base/error.h"
#include "backends/environment.h"
#include "backends/modal/resources.h"
#include "backends/share.h"

/*
 * What a sandbox is made with: the request of SandboxCreateV2, or of SandboxCreate (V1) where the
 * environment has something that only those have.
 *
 * What every sandbox has, whatever the environment says: a name of ours and tags that tell whose it
 * is, an end of its own (timeout_secs, and idle_timeout_secs), a network policy that is said
 * outright, and memory that is both reserved and (with a little to spare) the limit. Values of
 * secrets travel in the request (V2) or as a secret of the service (V1), never in argv.
 */
enum {
    MODAL_GATEWAY_PORT = 8888,
    MODAL_ARGV_MAX = 64 * 1024,     /* of all words of an argv together, with their ends */
    MODAL_LIFETIME_MAX = 86400,     /* seconds: the service gives a sandbox no more */
    MODAL_LIFETIME_SPARE = 60,      /* a sandbox outlives the longest run by so much */
    MODAL_PROBE_INTERVAL_MS = 100,  /* as the official client */
    MODAL_PROBE_TIMEOUT_SECS = 300, /* likewise */
    MODAL_MEMORY_SPARE = 64, /* MiB, of our own program: who is past the limit of code is stopped by
                              * it, and keeps the sandbox, which the service would end */
};

/* Shares that a sandbox is made with, as the service knows them (brought.h). */
struct modal_bucket {
    const struct share *share; /* of type cloud */
    const char *secret_id;     /* NULL: none */
};

struct modal_brought {
    const struct modal_bucket *buckets;
    unsigned bucket_count;
    const char *const *mount_ids;
    unsigned mount_count;
};

struct modal_spec {
    const struct environment *env;
    const struct modal_ids *ids;
    const char *name;           /* unique in the app while the sandbox lives; NULL: none */
    const char *const *tags;    /* ours: name, value, name, value, …, NULL; besides env->tags */
    const char *const *argv;    /* its first process; NULL-ended */
    const json_t *command;      /* what that is instead, array of texts; NULL or empty: it is not */
    unsigned timeout_secs;      /* modal_spec_lifetime */
    unsigned idle_timeout_secs; /* 0: none */
    const struct modal_brought *brought; /* NULL: nothing */
    /* Variables of the first process that nobody else is to read (the gateway's token): name,
     * value, …, NULL; or NULL. V1 takes them as the id of a secret that was made of them. */
    const char *const *variables;
    const char *variables_secret_id; /* V1 only; NULL: there are none */
    bool jupyter;                    /* port 8888 is reached through an encrypted tunnel */
};

/*
 * Refused before anything is asked of the service, with the name of the setting: what its own
 * client refuses (ports or who may reach them with the network cut, a relative workdir, a list of
 * GPUs, names of variables outside [A-Za-z_][A-Za-z0-9_]*, a volume at two paths, one that is
 * mounted at /, /root or /tmp, limits below what is reserved, names it does not take).
 */
int modal_spec_check(const struct environment *env, struct error *err);
/* Is this the id of a snapshot with memory? They are told with what is to be found in them:
 * "sn-Ab12.17", where 17 is the supervisor's process. */
bool memory_is_id(const char *id);
/* How long a start waits for the readiness probe, in seconds; 0: there is none. */
unsigned modal_spec_probe_seconds(const struct environment *env);
/* GPUs and network file systems are V1's alone. */
bool modal_spec_needs_v1(const struct environment *env);
/* Is the kernel Jupyter's (behind the tunnel), and not the runner? */
bool modal_spec_is_jupyter(const struct environment *env);
/* Seconds until the service ends it by itself: of one for a single run (`ephemeral`), as long as it
 * may be kept ready and the longest run that may be asked for; else max_lifetime_seconds. With
 * MODAL_LIFETIME_SPARE added, and at most MODAL_LIFETIME_MAX. */
unsigned modal_spec_lifetime(const struct environment *env, bool ephemeral);

/* The filled Modal__Client__SandboxCreateV2Request, or …SandboxCreateRequest when the environment
 * needs V1. To be freed with protobuf_c_message_free_unpacked(m, NULL); wipe what was packed of it
 * when it has variables. NULL when out of memory. */
ProtobufCMessage *modal_spec_message(const struct modal_spec *spec);

#endif
