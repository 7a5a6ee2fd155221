#ifndef CELLBLOCK_FILES_WIRE_H
#define CELLBLOCK_FILES_WIRE_H

#include <jansson.h>

#include "backends/files.h"

/*
 * Requests about files (files.h) as they go to a place that is reached by words only, where our
 * filing.py does them, and its answers, which may come from whatever has taken its place.
 *
 * A request is an object: {"op":"stat"|"list"|"read"|"write"|"mkdir"|"remove"|"copy"|"move",
 * "path":"…","dest":"…"|null,"offset":int,"length":int,"size":int,"append":bool,"recursive":bool,
 * "replace":bool,"mode":int,"limit":int}. Paths are bytes: each character stands for one of them,
 * U+0000 to U+00FF.
 *
 * An answer is bytes: one entry (none for REMOVE, as many as there are for LIST), and for READ what
 * was read after it. An entry, little-endian:
 *
 *   u8 type (enum file_type), u16 mode, u64 size, i64 mtime_ns, u16 bytes of the name, u16 bytes of
 *   the target; name, target
 *
 * Or it is an error: {"kind":"missing"|"refused"|"invalid"|"space"|"limit"|"internal","text":"…",
 * "dest":bool}, of the dest or of the path.
 */
enum { FILE_WIRE_ENTRY = 23 }; /* bytes of an entry, without name and target */

/* What is to be known of a request when its answer comes. */
struct file_asked {
    enum file_op op;
    char *path;
    char *dest;
    bool recursive;
    size_t limit;  /* entries of a LIST */
    size_t length; /* bytes of a READ */
};

/* 0 or -ENOMEM, and then there is nothing to deinit. */
int file_asked_init(struct file_asked *asked, const struct file_request *request);
void file_asked_deinit(struct file_asked *asked);

/* A copy of what a WRITE brings, to be freed; NULL and 0 for all else. 0 or -ENOMEM. */
int file_wire_content(const struct file_request *request, char **ret_bytes, size_t *ret_size);

/* The request as an object, NULL when out of memory. */
json_t *file_wire_request(const struct file_request *request);

/* The most bytes that an answer to it has. */
size_t file_wire_cap(const struct file_asked *asked);

/* Takes an answer apart. -EPROTO when it is none to what was asked, -ENOMEM; 0 and *ret, which is
 * to be deinited. */
int file_wire_reply(const struct file_asked *asked, const char *bytes, size_t size, bool more,
                    struct file_reply *ret);

/* Takes an error apart. -EPROTO when it is none. */
int file_wire_error(const struct file_asked *asked, const json_t *json, struct error *ret);

/* ---- answers that must not be given at once, for want of a sandbox ---- */

struct file_waiting {
    struct file_waiting *next;
    file_done done;
    void *data;
};

void file_wait(struct file_waiting **list, file_done done, void *data);
/* Answers all of them with ERROR_LOST. */
void file_waiting_lost(struct file_waiting **list);

#endif
