#ifndef CELLBLOCK_JUPYTER_GATEWAY_H
#define CELLBLOCK_JUPYTER_GATEWAY_H

#include "backends/base/net/websocket.h"
#include "backends/kernels/occupant.h"

/*
 * The jupyter kernel in a container (or a sandbox elsewhere): a Kernel Gateway that listens on the
 * container's own loopback, reached through the container's stream (tunnel.h), with one session of
 * ours on it. Its token is made for it and sent over the stream: it is in no argument list, and
 * nothing that the engine keeps has it.
 *
 * A worker is a kernel of the session. What the gateway's end means, the container's end tells, and
 * its last words are the container's (its stderr).
 */
struct gateway_options {
    struct websocket_context *websockets; /* borrowed */
    json_t *env;                          /* of the kernels, object of strings; borrowed */
    uint64_t memory_mib;                  /* of one process */
    uint64_t disk_mib;  /* of all files in /workspace; 0: the place itself holds them to it */
    unsigned processes; /* of the whole place, with ours; 0: likewise */
    const char *tag;    /* as in jupyter.h; NULL: it ends with the stream */
    json_t *where; /* the session that is there already, with its gateway; NULL: they are made */
    const char *token;   /* of the gateway; NULL: a new one */
    double keep_seconds; /* with a tag: so long it goes on without a stream */
    const char *python;  /* the interpreter that has the gateway */
    /* All NULL in a container of ours. Elsewhere: */
    const char *where_it_is; /* for people; NULL: "container" */
    /* It listens for everybody, and is reached there and not through the stream, which then only
     * starts, watches and ends it: "https://host:port". Its token opens it. */
    const char *url;
    const char *ca_file; /* of that; NULL: the system's */
};

enum {
    GATEWAY_PORT = 8888,
    GATEWAY_DISK_STATUS = 97,      /* the stream's process ended so: past disk_mib, */
    GATEWAY_PROCESSES_STATUS = 98, /* or past processes; it said how many there were */
    GATEWAY_READY_MS = 60 * 1000,  /* the container runs → the gateway answers */
    GATEWAY_PROBE_MS = 50,
    GATEWAY_ASK_MS = 5000,
    GATEWAY_LOOK_MS = 100, /* between two looks whether what was left still runs something */
    GATEWAY_LOOKS = 100,
    GATEWAY_LOST_MS = 2000,   /* the server is gone: the container's end, which says why, is waited
                               * for */
    GATEWAY_THREADS = 18,     /* that the gateway and an idle kernel have, beyond the code's own */
    GATEWAY_STACKS_MIB = 128, /* that a kernel's own threads have, for the most part never used */
};

/* The argv of the container's first process, NULL-terminated; `python` is borrowed. */
void gateway_command(const char *python, const char *argv[6]);
/* The stream is open. NULL with `err`. */
struct occupant *gateway_new(uv_loop_t *loop, struct byte_stream *stream,
                             const struct gateway_options *options,
                             const struct occupant_events *events, void *data, struct error *err);

#endif
