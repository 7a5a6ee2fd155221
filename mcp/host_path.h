#ifndef CELLBLOCK_MCP_HOST_PATH_H
#define CELLBLOCK_MCP_HOST_PATH_H

#include <jansson.h>

#include "backends/base/error.h"
#include "backends/share.h"
#include "mcp/config.h"

/*
 * Host paths that a client names. They must lie under a --share-root or a root that the client
 * offers. The path is opened once (O_PATH), where the descriptor really leads (/proc/self/fd) is
 * what is checked, and the descriptor is what is used: symlinks are followed before the check, and
 * a swap afterwards changes nothing.
 *
 * `roots`: the client's, an array of absolute paths (may be NULL). 0 and *ret_fd (O_PATH |
 * O_CLOEXEC) and *ret_path (to be freed: where it leads), or -1: ERROR_NOT_FOUND, ERROR_REFUSED
 * naming the roots there are, or with none the flag to add (--share-root), ERROR_INVALID for a path
 * that is relative, too long, or neither a file nor a directory.
 */
int host_path_open(const struct config *config, const json_t *roots, const char *path, int *ret_fd,
                   char **ret_path, bool *ret_is_directory, struct error *err);

/* The same for something new: the folder that `path` is to be made in must be there and pass the
 * check. *ret_name points at its name, the last part of `path`: neither empty nor "." nor "..". */
int host_path_open_parent(const struct config *config, const json_t *roots, const char *path,
                          int *ret_fd, char **ret_path, const char **ret_name, struct error *err);

#endif
