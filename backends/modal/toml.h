#ifndef CELLBLOCK_MODAL_TOML_H
#define CELLBLOCK_MODAL_TOML_H

#include <jansson.h>
#include <stddef.h>

#include "backends/base/error.h"

/*
 * The part of TOML (toml.io, 1.0) that ~/.modal.toml is written in: tables of one level, with bare
 * and quoted keys, basic and literal strings of one line, true and false, decimal numbers,
 * comments. What else TOML has (lists, dates, inline tables, dotted keys, long strings) is refused,
 * with its line, and so is a key or table that comes twice.
 */
enum { TOML_SIZE_CAP = 1024 * 1024 };

/* An object of objects of texts, booleans and numbers: {"default": {"token_id": "ak-…"}}. Keys
 * before the first table are refused. NULL with an ERROR_INVALID "line 7: …", which quotes nothing
 * of the file: it is full of secrets. */
json_t *toml_read(const char *text, size_t size, struct error *err);
/* Wipes the texts in it and gives it up; NULL is allowed. */
void toml_wipe(json_t *tables);

#endif
