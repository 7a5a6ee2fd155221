#ifndef CELLBLOCK_TESTS_RUNNER_TRIAL_H
#define CELLBLOCK_TESTS_RUNNER_TRIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/kernel.h"
#include "backends/kernels/runner/frame.h"
#include "backends/kernels/runner/runner_message.h"

/* A runner kernel on a link of the test's own, and what it told. */

#define GREETING                                                                                   \
    "{\"cellblock\":1,\"python\":\"3.11.2\",\"implementation\":\"CPython\",\"ipython\":\"8.5.0\"}"

struct host {
    struct link link;
    struct kernel *kernel;
    char ready[256], broken[256], log[4096], note[8192];
    char etype[512], *evalue, *traceback;
    int replies, drains, acks;
    struct kernel_reply reply;
    struct buffer sent;
    int send_result;
    bool detach_in_reply;
    int fd, out_fd, err_fd; /* of the real worker */
};

struct host *host_of(struct link *link);
void on_output(void *data, enum stream stream, const char *bytes, size_t size);

extern const struct kernel_events events;

int setup(void **state);
int teardown(void **state);
void feed(struct host *h, int type, const char *payload);
int start(struct host *h, const char *id);
void greeted(struct host *h);

#endif
