#ifndef CELLBLOCK_BASE_STRINGS_H
#define CELLBLOCK_BASE_STRINGS_H

#include <stddef.h>

/* As printf; to be freed. NULL when out of memory. */
char *string_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * A growing, NULL-terminated list of strings, for argv and envp. A failed allocation is remembered
 * and shows at the end: strings_ok.
 */
struct strings {
    char **list;
    size_t count;
    size_t room;
    int failed;
};

void strings_add(struct strings *s, const char *text);
void strings_add_format(struct strings *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Adds each of a NULL-terminated list. */
void strings_add_all(struct strings *s, const char *const *texts);
/* 0 or -ENOMEM. */
int strings_ok(const struct strings *s);
void strings_free(struct strings *s);

#endif
