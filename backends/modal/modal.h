#ifndef CELLBLOCK_MODAL_MODAL_H
#define CELLBLOCK_MODAL_MODAL_H

#include "backends/place.h"

/* Sandboxes of Modal. What the program knows of it without its module, which serves both rows. */
enum {
    MODAL_EPHEMERAL_CAPABILITIES = CAP_EPHEMERAL | CAP_SHELL | CAP_COPY | CAP_MOUNT_COPY |
                                   CAP_CLOUD | CAP_STDIN | CAP_NETWORK_NONE | CAP_NETWORK_ALL |
                                   CAP_NETWORK_HOSTS | CAP_MEMORY_LIMIT | CAP_DISK_LIMIT |
                                   CAP_PROCESS_LIMIT | CAP_INTERRUPT | CAP_EXIT_STATUS | CAP_USAGE |
                                   CAP_FILES | CAP_COMMANDS | CAP_SIGNAL | CAP_STDIN_STREAM,
    MODAL_CAPABILITIES = MODAL_EPHEMERAL_CAPABILITIES | CAP_STATEFUL | CAP_KEEPS_FILES |
                         CAP_KERNELSPECS | CAP_REATTACH | CAP_SNAPSHOT | CAP_SNAPSHOT_MEMORY,
};

#endif
