#ifndef CELLBLOCK_KERNELS_JUPYTER_KERNEL_COMMAND_H
#define CELLBLOCK_KERNELS_JUPYTER_KERNEL_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "backends/executor.h"

/*
 * Runs as requests to a kernel; and commands in one with our helper: what its request says of one,
 * and what it is told while it goes on, by the control channel.
 */
struct session_kernel;

/* Is it for the session's Python kernel, and the helper in it? */
bool kernel_is_ours(const struct run_request *request);
/* Bytes that it makes a message of, about. */
size_t kernel_request_size(const struct run_request *request);
/* The content of an execute request: for a kernel with our helper, and for any other. */
json_t *kernel_helper_content(const struct run_request *request);
json_t *kernel_stranger_content(const struct run_request *request);
/* 0, or -1: the kernel takes nothing while a command goes on, and this one wants it. */
int kernel_check_command(const struct session_kernel *k, const struct run_request *request,
                         struct error *err);

/* 0, or -1: it asks for what a kernel without our helper cannot do. The rest of the refusals comes
 * from the server: an unknown kernelspec. */
int kernel_check_stranger(const struct run_request *request, struct error *err);

/* To the run that is going. 0, -ENOTSUP for a kernel that takes nothing then, -ENOMEM. */
int kernel_send_signal(struct session_kernel *k, const char *run, int number);
int kernel_send_stdin(struct session_kernel *k, const char *run, const char *bytes, size_t size,
                      bool eof);

#endif
