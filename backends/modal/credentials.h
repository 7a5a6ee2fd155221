#ifndef CELLBLOCK_MODAL_CREDENTIALS_H
#define CELLBLOCK_MODAL_CREDENTIALS_H

#include <stdbool.h>

#include "backends/base/error.h"

/*
 * Who we are at Modal, found as the official client finds it (modal/config.py, 1.6): each setting
 * by itself is the variable MODAL_<SETTING> when that is set (even to nothing), or else what the
 * profile of ~/.modal.toml (MODAL_CONFIG_PATH names another file) says. The profile is
 * MODAL_PROFILE's, or the one with `active = true`, or "default". Several profiles of which none is
 * active, or more than one, are refused. With MODAL_IS_REMOTE=1 no file is read.
 *
 * A token (token_id, token_secret), or OAuth's oauth_refresh_token, oauth_client_id and
 * oauth_client_secret, not both.
 *
 * None of these secrets appears in a message, a log or argv; the memory is wiped when freed.
 */
struct modal_credentials {
    char *server_url; /* never NULL; may be several, with commas: tried in turn */
    char *token_id;
    char *token_secret;
    char *oauth_refresh_token; /* NULL: the token it is, and so are the next two */
    char *oauth_client_id;
    char *oauth_client_secret;
    char *environment;     /* "" when none is named */
    char *builder_version; /* MODAL_IMAGE_BUILDER_VERSION; NULL: the service's */
    char *profile;     /* for messages: "the profile NAME of ~/.modal.toml", "the environment" */
    bool sandbox_v2;   /* true unless MODAL_SANDBOX_V2 (sandbox_v2) is "", "0" or "false" */
    bool force_build;  /* images are built anew, and replace what the service keeps */
    bool ignore_cache; /* images are built anew, and do not */
};

#define MODAL_SERVER_URL_DEFAULT "https://api.modal.com,https://api.modal2.com"

/* -1 with an ERROR_REFUSED that names the command that makes them (`modal token new`), or an
 * ERROR_INVALID for a file that cannot be read as TOML (file and line, never its content) and for
 * values that are none. */
int modal_credentials_find(struct modal_credentials *ret, struct error *err);
/* 0 or -ENOMEM, and `to` is empty then. */
int modal_credentials_copy(struct modal_credentials *to, const struct modal_credentials *from);
void modal_credentials_clear(struct modal_credentials *credentials);

#endif
