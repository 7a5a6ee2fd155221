#ifndef CELLBLOCK_TEST_HARNESS_H
#define CELLBLOCK_TEST_HARNESS_H

#include <stdbool.h>
#include <uv.h>

#include "backends/executor.h"
#include "backends/place.h"

/*
 * What the contract's tests stand on: a loop, a place of the backend under test, an executor in it,
 * and records of what each run's callbacks said. Every callback checks what holds for all of them:
 * not before the start function has returned, not after completion, completion once.
 */
struct record {
    char out[65536], err[16384], result[4096], note[2048];
    char order[256]; /* "s" started, "o" stdout, "e" stderr, "r" result, "d" display, "." done */
    int done;
    enum cause cause;
    bool state_lost, has_exit_code;
    int exit_code, signal;
    char etype[128], evalue[1024];
    char full_path[256];
    struct full_output full[2];
    uint64_t duration_ms;
    int started; /* on_started was called */
    bool inside; /* the start function has not returned */
};

struct answer {
    int count;
    bool inside;
    enum error_kind kind;
    char message[1024];
};

struct bench {
    uv_loop_t loop;
    struct environment env;
    struct place *place;
    struct executor *e;
    int closed;
    char idle[4096];
    unsigned next_id;
};

/* Whether the place under test has the capability: with it a test expects the thing, without it the
 * refusal. */
bool has(const struct bench *b, enum capability capability);

int bench_setup(void **state);
int bench_teardown(void **state); /* everything closed, and uv_loop_close() == 0 */

struct executor *bench_executor(struct bench *b);
void bench_close(struct bench *b, struct executor *e);

/* Runs the loop until *flag, with a limit that fails the test. */
void until(struct bench *b, const int *flag);
/* Runs the loop for so long. */
void for_ms(struct bench *b, unsigned ms);

struct run_options {
    const char *language; /* "python" when NULL */
    const char *input;
    json_t *env;      /* taken */
    double seconds;   /* 20 when 0 */
    size_t code_size; /* of code with NULs */
};

/* Starts a run of `e`, which has to be accepted. */
struct run *begin(struct bench *b, struct executor *e, struct record *r, const char *code,
                  const struct run_options *options);
/* … and waits for its end, on the bench's own executor. */
void run(struct bench *b, struct record *r, const char *code);
void run_with(struct bench *b, struct record *r, const char *code,
              const struct run_options *options);
/* Runs and wants cause ok, with exactly this on stdout. */
void expect(struct bench *b, const char *code, const char *out);

void add_share(struct bench *b, struct executor *e, enum share_type type, const char *source,
               const char *dest, bool read_only, struct answer *a);

/* contract-files.c: the second half of the contract. How many of its tests failed. */
int contract_of_files(void);

#endif
