#ifndef CELLBLOCK_MCP_JSONRPC_H
#define CELLBLOCK_MCP_JSONRPC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "backends/base/buffer.h"

/*
 * What a JSON-RPC 2.0 message is: parsing that takes nothing doubtful, classifying, and building
 * answers. Knows nothing about MCP's methods.
 *
 * The reader: jsonrpc_parse a line, then jsonrpc_classify the value (each element of it when it
 * is a batch). Every failure is a `struct fault`, ready to be sent with jsonrpc_fault.
 */
enum {
    MESSAGE_CAP = 16 * 1024 * 1024, /* bytes of one line */
    MESSAGE_DEPTH_CAP = 128,        /* objects and arrays within each other */
    FAULT_TEXT_SIZE = 512,
};

enum jsonrpc_code {
    JSONRPC_PARSE_ERROR = -32700,
    JSONRPC_INVALID_REQUEST = -32600,
    JSONRPC_METHOD_NOT_FOUND = -32601,
    JSONRPC_INVALID_PARAMS = -32602,
    JSONRPC_INTERNAL_ERROR = -32603,
    JSONRPC_UNSUPPORTED_VERSION = -32022, /* MCP 2026-07-28 */
    JSONRPC_RESOURCE_NOT_FOUND = -32002,  /* MCP before that; now it is -32602 */
};

struct fault {
    enum jsonrpc_code code;
    char text[FAULT_TEXT_SIZE]; /* what was given, what was expected; may end within a character */
    json_t *data;               /* owned, may be NULL */
};

/* Fills `fault` (no data). Returns -1. */
int fault_set(struct fault *fault, enum jsonrpc_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * One line without its newline. Refused: text that is not UTF-8 or no JSON, NUL bytes ("\u0000" in
 * a string is fine), keys that occur twice, more than MESSAGE_DEPTH_CAP levels, numbers that do not
 * fit. On failure NULL with `fault`, and *ret_id is the id that the request seems to have (to be
 * freed) or NULL, so that the client learns which of its requests failed.
 */
json_t *jsonrpc_parse(const char *line, size_t size, struct fault *fault, json_t **ret_id);

enum message_kind {
    MESSAGE_INVALID, /* `fault` says why; `id` when it has a usable one */
    MESSAGE_REQUEST,
    MESSAGE_NOTIFICATION,
    MESSAGE_RESPONSE,
};

/* Everything is borrowed from the value. */
struct message {
    enum message_kind kind;
    json_t *id;           /* string or integer; NULL for notifications */
    const char *method;   /* of requests and notifications; holds no NUL */
    const json_t *params; /* an object, or NULL when left out */
    const json_t *result; /* of a response; NULL when it is an error */
    struct fault fault;
};

void jsonrpc_classify(json_t *value, struct message *ret);

/* Is it an id that a request may have? Strings and integers are; null, fractions and the rest are
 * not. */
bool jsonrpc_is_id(const json_t *id);

/* The member at `key` of an object, if it is a string without NUL; else NULL. */
const char *json_text_member(const json_t *object, const char *key);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *json_text(const char *bytes, size_t size);

/* Messages. They take `..._owned` and only borrow ids. NULL when out of memory. */
json_t *jsonrpc_result(json_t *id, json_t *result_owned);
json_t *jsonrpc_fault(json_t *id_or_null, const struct fault *fault);
json_t *jsonrpc_notification(const char *method, json_t *params_owned);
json_t *jsonrpc_request(const char *id, const char *method, json_t *params_owned);

/* Appends the message as one line, newline included. All of it, or nothing and -ENOBUFS / -ENOMEM.
 */
int jsonrpc_encode(const json_t *message, struct buffer *out);

#endif
