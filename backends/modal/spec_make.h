#ifndef CELLBLOCK_MODAL_SPEC_MAKE_H
#define CELLBLOCK_MODAL_SPEC_MAKE_H

#include <stdlib.h>
#include <string.h>

#include "api.pb-c.h"
#include "backends/modal/spec.h"

/*
 * For the files spec*.c only: a message is made of memory of its own throughout, so that
 * protobuf_c_message_free_unpacked frees it. What could not be had is noted and told once, at the
 * end: up to there every pointer is one that may be freed.
 */
struct maker {
    bool failed;
};

/* Room for one more pointer behind `count` of them; NULL: it has failed, and the list is as it was.
 */
static inline void *grow(struct maker *m, void *list, size_t count)
{
    void *grown = reallocarray(list, count + 1, sizeof(void *));

    m->failed |= !grown;
    return grown;
}

static inline void set_text(struct maker *m, char **field, const char *text)
{
    char *copy = text && *text ? strdup(text) : NULL;

    if (copy) {
        *field = copy;
    }
    m->failed |= text && *text && !copy;
}

static inline void add_text(struct maker *m, char ***list, size_t *count, const char *text)
{
    char **grown = grow(m, (void *)*list, *count);
    char *copy = strdup(text);

    *list = grown ? grown : *list;
    if (grown && copy) {
        grown[(*count)++] = copy;
    } else {
        free(copy);
        m->failed = true;
    }
}

static inline void *make(struct maker *m, size_t size)
{
    void *message = calloc(1, size);

    m->failed |= !message;
    return message;
}

/* Appends a message that has been made, or frees it when there is no room. */
static inline bool add_message(struct maker *m, void *list_field, size_t *count, void *message)
{
    void ***list = list_field;
    void **grown = message ? grow(m, (void *)*list, *count) : NULL;

    if (!grown) {
        free(message);
        return false;
    }
    *list = grown;
    grown[(*count)++] = message;
    return true;
}

/* spec_network.c: the ways in and out; and when it is ready. */
void spec_add_network(struct maker *m, Modal__Client__Sandbox *sandbox,
                      const struct modal_spec *spec);
void spec_add_probe(struct maker *m, Modal__Client__Sandbox *sandbox,
                    const struct environment *env);

#endif
