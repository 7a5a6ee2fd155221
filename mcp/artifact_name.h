#ifndef CELLBLOCK_MCP_ARTIFACT_NAME_H
#define CELLBLOCK_MCP_ARTIFACT_NAME_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Names of artifacts (artifacts.h): URIs, and the type that a name or some bytes speak for.
 */
enum {
    ARTIFACT_URI_CAP = 4096, /* bytes of one that is asked for */
};

/* "cellblock://SESSION/RUN/PATH" with every byte of the path percent-encoded that is neither
 * unreserved nor a slash. To be freed; NULL when out of memory. */
char *artifact_uri(const char *session, const char *run, const char *path);
/* "SESSION/RUN/PATH", decoded; to be freed. NULL for what is no such URI: another scheme, too long,
 * a bad escape, a NUL. */
char *artifact_uri_key(const char *uri);

/* The type that the end of a name speaks for; NULL when it speaks for none that is known. */
const char *artifact_mime(const char *name);
/* Is it shown as text, if it is UTF-8? */
bool artifact_mime_is_text(const char *mime);
/* The type of these bytes under that name: an image is one by its first bytes, text by being UTF-8
 * without control characters other than white space and ESC. *ret_text: it is given as text. */
const char *artifact_mime_of(const char *name, const char *bytes, size_t size, bool *ret_text);

#endif
