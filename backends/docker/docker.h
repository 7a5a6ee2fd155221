#ifndef CELLBLOCK_DOCKER_H
#define CELLBLOCK_DOCKER_H

#include "backends/place.h"

/* Containers of a Docker or Podman engine. What the program knows of it without its module. */
enum {
    DOCKER_CAPABILITIES = CAP_STATEFUL | CAP_EPHEMERAL | CAP_SHELL | CAP_COPY | CAP_MOUNT |
                          CAP_MOUNT_WRITE | CAP_STDIN | CAP_NETWORK_NONE | CAP_NETWORK_ALL |
                          CAP_MEMORY_LIMIT | CAP_DISK_LIMIT | CAP_PROCESS_LIMIT | CAP_INTERRUPT |
                          CAP_EXIT_STATUS | CAP_KEEPS_FILES | CAP_KERNELSPECS | CAP_USAGE |
                          CAP_FILES | CAP_COMMANDS | CAP_SIGNAL | CAP_STDIN_STREAM | CAP_REATTACH |
                          CAP_STDIN_CODE,
};

#endif
