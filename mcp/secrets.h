#ifndef CELLBLOCK_MCP_SECRETS_H
#define CELLBLOCK_MCP_SECRETS_H

#include <jansson.h>
#include <uv.h>

#include "backends/base/error.h"
#include "mcp/mask.h"

/*
 * Secrets by name: the config's table `secrets` says where the owner keeps each value and which
 * variable it becomes in a sandbox; environments and create_session only name them. A value is read
 * when a session first runs something, and is in no list, log, error or argv.
 *
 *     "secrets": {"openai": {"variable": "OPENAI_API_KEY", "file": "~/.config/openai.key"},
 *                 "github": {"variable": "GITHUB_TOKEN", "env": "GITHUB_TOKEN"},
 *                 "mail": {"variable": "MAIL_PASSWORD", "secret_tool": ["service", "mail"]}}
 *
 * A file is a regular one of the user that runs the server, which nobody else may read, and no
 * symbolic link. A line end at the end of a file, or of what secret-tool printed, is no part of the
 * value. A value has MASK_VALUE_MIN to MASK_VALUE_CAP bytes of UTF-8.
 */
enum {
    SECRETS_CAP = 256,         /* in the table */
    SECRETS_SESSION_CAP = 32,  /* of one session */
    SECRETS_TOOL_SECONDS = 20, /* for secret-tool: somebody may have to unlock the keyring */
};

/* The table, which has passed the config's schema: names, variables, one source each. */
int secrets_check_table(const json_t *table, struct error *err);

/* Names for one session: all are in the table (NULL: nothing is), each variable has one of them. */
int secrets_check_names(const json_t *table, const json_t *names, struct error *err);

/* The variable that the named one becomes; NULL when the table has none of that name. */
const char *secrets_variable(const json_t *table, const char *name);

/* Reading the values of `names`, which have been checked. */
struct secret_fetch;
/* `values` is {NAME: value}, taken by the callee; or NULL with an error. Wiped with wipe_texts.
 */
typedef void (*secret_done)(void *data, json_t *values, const struct error *err);

/* 0 with *ret_values when all are there at once; 1 when a helper was asked: `done` is called later,
 * exactly once, unless *ret_fetch is cancelled; -1 with an ERROR_REFUSED that says which is missing
 * and what its owner can do. */
int secret_fetch_start(uv_loop_t *loop, const json_t *table, const json_t *names, secret_done done,
                       void *data, struct secret_fetch **ret_fetch, json_t **ret_values,
                       struct error *err);
/* `done` is not called any more; the helper is killed. */
void secret_fetch_cancel(struct secret_fetch *fetch);

/* The same at once, in a loop of its own. NULL with an error. */
json_t *secrets_fetch_now(const json_t *table, const json_t *names, struct error *err);

/* {VARIABLE: value} into `env`, an object. -1 when out of memory. */
int secrets_to_env(const json_t *table, const json_t *values, json_t *env);

/* A mask of them; NULL when out of memory. */
struct mask *secrets_mask(const json_t *values);

#endif
