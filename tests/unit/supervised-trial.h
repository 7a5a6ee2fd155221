#ifndef CELLBLOCK_TESTS_SUPERVISED_TRIAL_H
#define CELLBLOCK_TESTS_SUPERVISED_TRIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/base/buffer.h"
#include "backends/kernel.h"
#include "backends/kernels/runner/frame_supervisor.h"
#include "backends/kernels/runner/supervised.h"
#include "backends/kernels/runner/supervised_internal.h"

/* The runner over a byte stream: a real python3 at the far end, or nobody but the test. */

enum { LIMIT_MS = 20 * 1000, STALL_MS = 2200, TEXT_SIZE = 8192 };

struct host {
    uv_loop_t loop;
    uv_process_t process;
    uv_pipe_t in, out;
    uv_timer_t limit;
    bool spawned, ended, timed_out;
    struct byte_stream stream;
    struct supervised *supervised;
    struct kernel *kernel;
    char space[65536];
    char sent[TEXT_SIZE]; /* by a host without a process */
    size_t sent_size;
    bool start_at_once, attach_later;
    int greetings, workers, exits, brokens, readies, replies, puts, progresses, leftovers, samples;
    struct link *link;
    struct machine_exit exit;
    struct changed changed; /* of that exit */
    char exit_message[TEXT_SIZE], broken[TEXT_SIZE], output[TEXT_SIZE], put_error[TEXT_SIZE];
    char leftover[TEXT_SIZE];
    enum error_kind put_kind;
    size_t output_total;
    struct kernel_reply reply;
    bool closing, closed;
};

extern const struct kernel_events kernel_events;

int real_write(struct byte_stream *stream, const void *bytes, size_t size);
void spawn(struct host *h, char **argv);
struct host *host_new(const struct supervised_options *options);

/* With the real far side. `before`: a shell script that it comes after, or NULL. */
struct host *host_with_python(const struct supervised_options *options, const char *before);
void on_limit(uv_timer_t *timer);

/* Until `*what` is at least `want`. */
void wait_for(struct host *h, const int *what, int want);

/* Everything is closed, and the process has ended by itself. */
void host_free(struct host *h);
void begin(struct host *h, const char *code);
void run(struct host *h, const char *code);

#endif
