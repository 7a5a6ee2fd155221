#ifndef CELLBLOCK_COMMAND_H
#define CELLBLOCK_COMMAND_H

#include "backends/place.h"

/* Any command that carries a byte stream to a process elsewhere. What the program knows of it
 * without its module. */
enum {
    COMMAND_CAPABILITIES = CAP_STATEFUL | CAP_EPHEMERAL | CAP_SHELL | CAP_COPY | CAP_STDIN |
                           CAP_NETWORK_ALL | CAP_MEMORY_LIMIT | CAP_DISK_LIMIT | CAP_PROCESS_LIMIT |
                           CAP_INTERRUPT | CAP_EXIT_STATUS | CAP_KEEPS_FILES | CAP_USAGE |
                           CAP_FILES | CAP_COMMANDS | CAP_SIGNAL | CAP_STDIN_STREAM |
                           CAP_STDIN_CODE,
};

#endif
