#ifndef CELLBLOCK_MCP_MIME_H
#define CELLBLOCK_MCP_MIME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Bundles {mime: payload} of rich output, as the code that was run made them: which form is shown,
 * and whether an image is one. Nothing is taken at its word.
 */
enum form {
    FORM_NONE,     /* nothing in it can be shown */
    FORM_IMAGE,    /* PNG, JPEG, WebP, GIF: an image block */
    FORM_TEXT,     /* a text block */
    FORM_RESOURCE, /* SVG, HTML: an embedded resource with its type */
};

struct shown {
    enum form form;
    const char *mime;
    const json_t *payload; /* borrowed from the bundle */
};

/* The form to show: an image (unless `without_image`), Markdown, plain text, LaTeX, JSON, another
 * text type, SVG, HTML. Plain text that only names the object ("<IPython.core.display.HTML
 * object>") is the last resort. */
struct shown mime_choose(const json_t *bundle, bool without_image);

/* Whether the text only names an object: one line in angle brackets. */
bool mime_is_placeholder(const json_t *text);

/*
 * Checks that `payload` is base64 text (line ends are allowed) of an image of that type, by its
 * first bytes. Returns NULL and *ret_clean (to be freed: the base64 without white space, *ret_size
 * long), or what is wrong with it, in words.
 */
const char *mime_check_image(const char *mime, const json_t *payload, char **ret_clean,
                             size_t *ret_size);

/* The type of the PNG, JPEG, WebP or GIF that begins with these bytes, or NULL. */
const char *mime_of_image(const char *bytes, size_t size);

/* The bundle without payloads that claim to be an image and are none: a new reference, to the
 * bundle itself when all is well. *ret_wrong (else untouched) is what is wrong with the last of
 * them, *ret_mime its type. NULL when out of memory. */
json_t *mime_checked(json_t *bundle, const char **ret_mime, const char **ret_wrong);

/* About how many bytes a bundle takes in memory and on the wire. */
size_t mime_size(const json_t *bundle);

#endif
