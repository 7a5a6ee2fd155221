#ifndef CELLBLOCK_JUPYTER_H
#define CELLBLOCK_JUPYTER_H

#include "backends/place.h"

/* Kernels of a Jupyter server at a URL, or of one that is started here. What the program knows of
 * it without its module. */
enum {
    JUPYTER_CAPABILITIES = CAP_STATEFUL | CAP_EPHEMERAL | CAP_SHELL | CAP_COPY | CAP_STDIN |
                           CAP_NETWORK_ALL | CAP_INTERRUPT | CAP_KEEPS_FILES | CAP_KERNELSPECS |
                           CAP_USAGE | CAP_FILES | CAP_COMMANDS | CAP_SIGNAL | CAP_STDIN_STREAM |
                           CAP_REATTACH,
};

#endif
