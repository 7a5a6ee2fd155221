#ifndef CELLBLOCK_DOCKER_CONTEXT_H
#define CELLBLOCK_DOCKER_CONTEXT_H

#include <stdbool.h>

#include "backends/base/error.h"
#include "backends/environment.h"

/*
 * Where the engine is. Looked for in this order, as Docker's own client does it, and then Podman's:
 *
 *   1. the environment's `host`
 *   2. DOCKER_HOST
 *   3. the docker context: DOCKER_CONTEXT, or currentContext of ~/.docker/config.json
 *      (DOCKER_CONFIG names another folder); its address and TLS files are in contexts/
 *   4. the usual sockets: /var/run/docker.sock, $XDG_RUNTIME_DIR/docker.sock,
 *      ~/.docker/run/docker.sock, then Podman's $XDG_RUNTIME_DIR/podman/podman.sock and
 *      /run/podman/podman.sock: the first that somebody listens on
 *
 * What is named in 1 to 3 is used or refused, never passed over. DOCKER_TLS_VERIFY and
 * DOCKER_CERT_PATH hold for a tcp address of 1 and 2. ssh:// is refused: it needs an ssh client;
 * the message says how a socket is forwarded instead.
 */
struct endpoint {
    char *base;            /* "http://docker", "https://host:2376" */
    char *unix_socket;     /* NULL: TCP */
    char *ca, *cert, *key; /* PEM files; NULL: none */
    char *certs;           /* the folder that they are looked for in; NULL: none */
    bool of_context;       /* and it is a docker context's */
    bool insecure;         /* a context that says SkipTLSVerify */
    bool remote;           /* maybe another machine: our paths mean nothing there */
    char *name;            /* for people: "unix:///run/docker.sock (DOCKER_HOST)" */
};

enum { CONTEXT_FILE_CAP = 1024 * 1024 };

/* 0, or -1 with an error that says what was tried and what would start an engine. A unix socket of
 * 4 is connected to for a moment; nothing else blocks. */
int endpoint_find(const struct environment *env, struct endpoint *ret, struct error *err);
/* The address alone: "unix:///path", "tcp://host:port", "http://…", "https://…"; `origin` is who
 * named it. Whether TLS is used is the caller's to add. */
int endpoint_parse(const char *address, const char *origin, struct endpoint *ret,
                   struct error *err);
void endpoint_deinit(struct endpoint *endpoint);
/* What to look at when no TLS connection comes about: whether TLS is used, by which files. To be
 * freed; NULL where TLS has no part. */
char *endpoint_advice(const struct endpoint *endpoint);

/* ~/.docker, or DOCKER_CONFIG; NULL without a home. To be freed. */
char *docker_config_folder(void);
/* A small JSON file; NULL when it is absent or no JSON (then `err` says so). */
json_t *docker_config_load(const char *folder, const char *name, struct error *err);

#endif
