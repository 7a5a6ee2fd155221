#ifndef CELLBLOCK_BASE_ERROR_H
#define CELLBLOCK_BASE_ERROR_H

/*
 * The error that crosses the backend and tool boundary.
 *
 * Inside a module functions return 0 or a negative errno / UV_E* code. Where a caller has to
 * explain the failure to a person, the function takes a `struct error *` instead (or as well) and
 * the message says what was given, what was expected, and the next step. One switch in mcp/ maps
 * the kind to a JSON-RPC error, a tool error or an outcome.
 */

enum error_kind {
    ERROR_NONE = 0,
    ERROR_INVALID,     /* a value from outside is wrong; the message says what is allowed */
    ERROR_NOT_FOUND,   /* a session, path or program that is named does not exist */
    ERROR_REFUSED,     /* the owner's policy or a share root says no */
    ERROR_UNSUPPORTED, /* this backend (or this version) lacks it; names the ones that have it */
    ERROR_LIMIT,       /* a cap was reached: too many sessions, too much queued, too big */
    ERROR_TIMEOUT,     /* a start or a transfer did not finish in its own limit */
    ERROR_LOST,        /* the place went away */
    ERROR_INTERNAL,    /* ours: a system call failed that should not */
};

struct error {
    enum error_kind kind;
    char *message; /* owned, NULL when kind is ERROR_NONE */
};

/* Replaces what `err` holds. A NULL `err` is allowed everywhere and ignored. Returns -1, so that
 * `return error_set(...)` reads well in functions that answer 0 or -1. */
int error_set(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like error_set, and appends ": " and the text of the errno or UV_E* code `code` (its sign does
 * not matter). */
int error_set_code(struct error *err, enum error_kind kind, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " before the message that is there, on its way up. Returns -1. */
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Deep copy; `to` must be empty. */
void error_copy(struct error *to, const struct error *from);

/* Frees the message; `err` is empty afterwards. */
void error_clear(struct error *err);

#endif
