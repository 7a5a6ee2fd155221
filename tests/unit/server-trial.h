#ifndef CELLBLOCK_TESTS_SERVER_TRIAL_H
#define CELLBLOCK_TESTS_SERVER_TRIAL_H

#include "mcp/call.h"
#include "mcp/schema.h"
#include "tests/unit/wire.h"

/*
 * A fake tool: `code` says what it does. "echo" answers at once with its arguments; "hold" waits
 * until the test finishes it or it is cancelled; "deaf" does not listen to a cancel; "roots"
 * answers with the roots; "chat" sends three bursts of progress.
 */
enum { HELD_CAP = 512 };

struct held {
    struct call *calls[HELD_CAP];
    int count, cancelled;
};

/* The calls that wait; one for all tests. */
extern struct held held;

/* What "hold" and "chat" do when they are cancelled and when they begin. */
void on_cancelled(void *data);
void chat(struct call *call);
/* Answers the newest call that waits. */
void finish_held(const char *text);

extern const struct tool *const tools[];

#define MODERN                                                                                     \
    "'_meta':{'io.modelcontextprotocol/protocolVersion':'2026-07-28',"                             \
    "'io.modelcontextprotocol/clientCapabilities':{}}"

/* A server with the tool, that has been initialized as 2025-11-25 has it. */
void shake_hands(struct wire *w);
void send_call(struct wire *w, const char *id, const char *code, const char *meta);

/* The text of the answer's first block; also checks its id. Static until the next call. */
const char *answer_text(struct wire *w, json_int_t id);
void expect_error(struct wire *w, int code, const char *words);
int forget_schemas(void **state);

#endif
