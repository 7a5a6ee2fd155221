#ifndef CELLBLOCK_LOCAL_INTERPRETER_H
#define CELLBLOCK_LOCAL_INTERPRETER_H

#include <stdbool.h>
#include <uv.h>

#include "backends/base/error.h"
#include "backends/local/user.h"

/*
 * Which python runs in the cells: the one that was asked for, or the first of PATH's python3 and
 * /usr/bin/python3 that the sandbox's user can run. What is found is asked what it really is (its
 * own sys.executable and prefixes): a shim is not the interpreter.
 */
enum interpreter_module {
    MODULE_CTYPES = 1u << 0,
    MODULE_IPYTHON = 1u << 1,
    MODULE_PIP = 1u << 2,
    MODULE_PANDAS = 1u << 3,
    MODULE_MATPLOTLIB = 1u << 4,
};

struct interpreter {
    char *executable;     /* absolute */
    char *version;        /* "3.11.2" */
    char *implementation; /* "CPython" */
    char **folders;   /* NULL-terminated: its own, to be made visible; those under /usr left out */
    unsigned modules; /* of enum interpreter_module */
};

struct interpreter_search;

/*
 * Looks for it; `found` is called exactly once, never before this returns, with an interpreter to
 * be freed by interpreter_free, or with NULL and the reasons why each candidate was not taken.
 * `wanted` may be NULL.
 */
struct interpreter_search *
interpreter_find(uv_loop_t *loop, const char *wanted, const struct sandbox_user *user,
                 void (*found)(void *data, struct interpreter *it, const struct error *err),
                 void *data);

/* Makes the search end soon, with an error. */
void interpreter_search_cancel(struct interpreter_search *search);

void interpreter_free(struct interpreter *it);

/* The first executable file of that name on PATH, absolute (to be freed), or NULL. `nth` counts
 * further ones. */
char *find_program(const char *name, unsigned nth);

#endif
