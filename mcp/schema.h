#ifndef CELLBLOCK_MCP_SCHEMA_H
#define CELLBLOCK_MCP_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/base/error.h"

/*
 * JSON Schema (2020-12), the part of it that our own schemas use: type, properties, required,
 * additionalProperties (false or a schema), items, enum, const, minimum, maximum, exclusiveMinimum,
 * minLength, maxLength, minItems, maxItems, pattern (a POSIX extended expression; keep to what
 * ECMA-262 reads in the same way), $schema, $id, description, default, title, examples. A keyword
 * outside this list makes schema_get answer NULL, so no schema of ours promises what nobody checks.
 *
 * The schemas are files in schemas/, embedded at build time (tools/embed.py) and parsed at first
 * use.
 */

/* The parsed schema of an embedded file, "tools/run_code" for schemas/tools/run_code.json.
 * Borrowed; NULL when there is none. */
const json_t *schema_get(const char *name);

/* Frees what schema_get has parsed; for clean exits and valgrind. */
void schema_unload(void);

/* 0 when `schema` uses nothing but the keywords above, else -1 and an ERROR_INTERNAL naming the one
 * that it should not. schema_get does this for the embedded ones. */
int schema_verify(const json_t *schema, struct error *err);

/*
 * Checks `value`. 0, or -1 with an ERROR_INVALID for people: which field (a path such as
 * "timeout_seconds" or "environments.data.memory_mib"), what was given (shortened), what is
 * allowed, and for an unknown key or enum value the nearest right one. An optional property whose
 * value is null counts as left out when `null_is_absent` (strict-schema hosts send null).
 */
int schema_check(const json_t *schema, const json_t *value, bool null_is_absent, struct error *err);

/* The candidate that is nearest to `word` (edit distance, case and '_'/'-' free), or NULL when none
 * is near. `candidates` is NULL-terminated. */
const char *nearest_word(const char *word, const char *const *candidates);

/* "integer" → "a whole number", and so on; NULL for a word that is no JSON type. */
const char *schema_type_words(const char *type);

#endif
