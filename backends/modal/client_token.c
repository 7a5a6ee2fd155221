/* The auth token of a client: fetched when a call needs one, by one call for all that wait. */
#include "api.pb-c.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/modal/client_internal.h"

enum {
    FETCH_MS = 5 * 1000,
    FETCH_TOTAL_MS = 15 * 1000,
    LIFE_UNKNOWN_MS = 20 * 60 * 1000,
    LIFE_MAX_MS = 24 * 60 * 60 * 1000,
    PAYLOAD_CAP = 64 * 1024,
    FIRST_BACKOFF_MS = 500,
    LONGEST_BACKOFF_MS = 60 * 1000,
};

/* ---- what a JWT says of its life ---- */

static int value_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* base64url without padding. */
static size_t decode(const char *text, size_t size, char *space)
{
    unsigned bits = 0, have = 0;
    size_t n = 0;

    for (size_t i = 0; i < size; i++) {
        int value = value_of(text[i]);
        if (value < 0) {
            return 0;
        }
        bits = bits << 6 | (unsigned)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            space[n++] = (char)(bits >> have);
        }
    }
    return n;
}

static json_t *payload_of(const char *jwt)
{
    const char *from = strchr(jwt, '.');
    size_t size = from ? strcspn(from + 1, ".=") : 0;
    json_t *json = NULL;
    char *space;

    if (size == 0 || size > PAYLOAD_CAP) {
        return NULL;
    }
    space = malloc(size);
    if (space) {
        json = json_loadb(space, decode(from + 1, size, space), 0, NULL);
        explicit_bzero(space, size);
    }
    free(space);
    return json;
}

uint64_t modal_token_life(const char *jwt, double now)
{
    json_t *payload = payload_of(jwt);
    json_t *exp = json_object_get(payload, "exp"), *iat = json_object_get(payload, "iat");
    double seconds = 0;

    if (json_is_number(exp)) {
        seconds = json_number_value(exp) - (json_is_number(iat) ? json_number_value(iat) : now);
    }
    json_decref(payload);
    if (!(seconds > 0)) { /* a clock that is wrong, or no JWT: the service will tell when it ends */
        return 0;
    }
    return seconds < LIFE_MAX_MS / 1000.0 ? (uint64_t)(seconds * 1000.0) : LIFE_MAX_MS;
}

/* ---- the token ---- */

void modal_token_clear(struct modal_token *token)
{
    if (token->header) {
        explicit_bzero(token->header, strlen(token->header));
        free(token->header);
        token->header = NULL;
    }
}

void modal_token_drop(struct modal_client *client, unsigned serial)
{
    if (client->token.serial == serial) {
        modal_token_clear(&client->token);
    }
}

static bool is_good(const struct modal_client *client)
{
    return client->token.header && uv_now(client->loop) < client->token.ends;
}

static bool keep(struct modal_client *client, const char *jwt)
{
    struct modal_token *token = &client->token;
    uint64_t now = uv_now(client->loop);
    uint64_t life = modal_token_life(jwt, (double)time(NULL));

    if (!jwt[0] || strpbrk(jwt, "\r\n")) {
        return false;
    }
    modal_token_clear(token);
    token->header = string_format("x-modal-auth-token: %s", jwt);
    life = life > 0 ? life : LIFE_UNKNOWN_MS;
    token->ends = now + life;
    token->renew_at = now + life / 2;
    token->serial++;
    token->failures = 0;
    token->retry_at = 0;
    return token->header != NULL;
}

static void back_off(struct modal_client *client)
{
    uint64_t delay = FIRST_BACKOFF_MS;

    for (unsigned i = 0; i < client->token.failures && delay < LONGEST_BACKOFF_MS; i++) {
        delay *= 2;
    }
    client->token.failures++;
    client->token.retry_at =
        uv_now(client->loop) + (delay < LONGEST_BACKOFF_MS ? delay : LONGEST_BACKOFF_MS);
}

static void on_fetched(void *data, const ProtobufCMessage *answer, enum grpc_status status,
                       const struct error *err)
{
    struct modal_client *client = data;
    const Modal__Client__AuthTokenGetResponse *got = (const void *)answer;
    struct error none = {0};

    client->token.fetch = NULL;
    if (got && !keep(client, got->token)) {
        status = GRPC_INTERNAL;
        error_set(&none, ERROR_LOST, "AuthTokenGet: the service gave no token");
        err = &none;
    }
    if (err) {
        back_off(client);
    }
    modal_rpcs_wake(client, status, err);
    error_clear(&none);
}

static void fetch(struct modal_client *client)
{
    Modal__Client__AuthTokenGetRequest request = MODAL__CLIENT__AUTH_TOKEN_GET_REQUEST__INIT;
    struct modal_rpc_call call = {
        .name = "AuthTokenGet",
        .request = &request.base,
        .answer = &modal__client__auth_token_get_response__descriptor,
        .timeout_ms = FETCH_MS,
        .total_ms = FETCH_TOTAL_MS,
        .once = is_good(client), /* there is time for another */
        .done = on_fetched,
        .data = client,
    };
    struct error err = {0};

    client->token.fetch = modal_rpc_fetch(client, &call, &err);
    if (!client->token.fetch) {
        back_off(client);
        modal_rpcs_wake(client, GRPC_INTERNAL, &err);
        error_clear(&err);
    }
}

bool modal_token_ready(struct modal_client *client)
{
    struct modal_token *token = &client->token;
    uint64_t now = uv_now(client->loop);
    bool good = is_good(client);

    if (!token->fetch && (!good || (now >= token->renew_at && now >= token->retry_at))) {
        fetch(client);
    }
    return good;
}
