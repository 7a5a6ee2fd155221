#ifndef CELLBLOCK_MODAL_CREDENTIALS_H
#define CELLBLOCK_MODAL_CREDENTIALS_H

#include "backends/base/error.h"

/*
 * Who we are at Modal, found as the official client finds it (modal/config.py, 1.6): environment
 * variables (MODAL_TOKEN_ID, MODAL_TOKEN_SECRET, MODAL_ENVIRONMENT, MODAL_SERVER_URL,
 * MODAL_PROFILE, MODAL_CONFIG_PATH, MODAL_IMAGE_BUILDER_VERSION) before ~/.modal.toml, whose
 * profile is MODAL_PROFILE's, or the one with `active = true`, or "default".
 *
 * token_id and token_secret never appear in a message, a log or argv; the memory is wiped when
 * freed.
 */
struct modal_credentials {
    char *server_url; /* "https://api.modal.com:443" by default; never NULL */
    char *token_id;
    char *token_secret;
    char *environment;     /* "" when none is named */
    char *builder_version; /* MODAL_IMAGE_BUILDER_VERSION; NULL: the service's */
    char *profile; /* for messages: "the profile NAME of ~/.modal.toml", "the environment" */
};

/* -1 with an ERROR_REFUSED that names the command that makes them (`modal token new`), or an
 * ERROR_INVALID for a file that cannot be read as TOML (file and line, never its content). */
int modal_credentials_find(struct modal_credentials *ret, struct error *err);
void modal_credentials_clear(struct modal_credentials *credentials);

#endif
