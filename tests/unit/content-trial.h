#ifndef CELLBLOCK_TESTS_CONTENT_TRIAL_H
#define CELLBLOCK_TESTS_CONTENT_TRIAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "mcp/content.h"
#include "mcp/mime.h"
#include "mcp/text.h"

/* A run's content, filled by hand, and its result taken apart. */

#define PNG                                                                                        \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg" \
    "gg=="

void print_out(struct content *c, const char *text);
void show(struct content *c, enum display_kind kind, json_t *data, const char *display_id);
void clear_output(struct content *c, bool wait);

/* The result of a run that was `ok`, or as `outcome` says; `c` is freed. */
json_t *finish_with(struct content *c, const struct outcome *outcome);
json_t *finish(struct content *c);
json_t *block_at(const json_t *result, size_t index);
size_t block_count(const json_t *result);
const char *part_of(const json_t *block);
int seq_of(const json_t *block);
const char *text_at(const json_t *result, size_t index, const char *part);
json_t *outcome_of(const json_t *result);
const char *only_text(const char *bytes, size_t size, char *space);

#endif
