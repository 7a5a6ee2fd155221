#include "backends/modal/client.h"

#include <stdlib.h>
#include <string.h>

#include "backends/modal/client_internal.h"

/* What we say we are: the service tells by it which behaviour a client expects. */
#define CLIENT_TYPE "x-modal-client-type: 1"
#define CLIENT_VERSION "x-modal-client-version: 1.6.4"

void modal_strings_wipe(struct strings *list)
{
    for (size_t i = 0; i < list->count; i++) {
        explicit_bzero(list->list[i], strlen(list->list[i]));
    }
    strings_free(list);
}

/* ---- where the service is ---- */

/* Length of the host in "https://host:443", which begins at *ret_host; 0 for what is no address. */
static size_t host_of(const char *url, const char **ret_host)
{
    size_t n;

    if (strncmp(url, "http://", strlen("http://")) == 0) {
        url += strlen("http://");
    } else if (strncmp(url, "https://", strlen("https://")) == 0) {
        url += strlen("https://");
    } else {
        return 0;
    }
    n = *url == '[' ? strcspn(url, "]/") + 1 : strcspn(url, ":/");
    *ret_host = url;
    return n;
}

static bool is_local(const char *url)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host;
    size_t n = host_of(url, &host);

    for (size_t i = 0; n > 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == n && strncmp(host, names[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- metadata ---- */

static void list_metadata(const struct modal_credentials *c, const char *url, struct strings *list)
{
    const char *host = "";
    size_t n = host_of(url, &host);

    strings_add(list, CLIENT_TYPE);
    strings_add(list, CLIENT_VERSION);
    strings_add_format(list, "x-modal-host: %.*s", (int)n, host);
    if (c->token_id && c->token_secret) {
        strings_add_format(list, "x-modal-token-id: %s", c->token_id);
        strings_add_format(list, "x-modal-token-secret: %s", c->token_secret);
    }
    if (c->oauth_refresh_token && c->oauth_client_id && c->oauth_client_secret) {
        strings_add_format(list, "x-modal-refresh-token: %s", c->oauth_refresh_token);
        strings_add_format(list, "x-modal-oauth-client-id: %s", c->oauth_client_id);
        strings_add_format(list, "x-modal-oauth-client-secret: %s", c->oauth_client_secret);
    }
}

static int open_channel(struct modal_client *client, const char *url, struct error *err)
{
    struct strings metadata = {0};
    struct grpc_channel_options options = {.url = url};
    struct grpc_channel *channel = NULL;

    list_metadata(&client->credentials, url, &metadata);
    options.metadata = (const char *const *)metadata.list;
    if (strings_ok(&metadata) < 0) {
        error_set(err, ERROR_INTERNAL, "out of memory");
    } else {
        channel = grpc_channel_new(client->loop, &options, err);
    }
    modal_strings_wipe(&metadata);
    if (!channel) {
        return error_wrap(err, "Modal's server_url");
    }
    client->channels[client->count++] = channel;
    client->channels_open++;
    return 0;
}

static int open_channels(struct modal_client *client, struct error *err)
{
    char *urls = strdup(client->credentials.server_url);
    char *rest = NULL;
    int r = urls ? 0 : error_set(err, ERROR_INTERNAL, "out of memory");

    for (char *url = urls ? strtok_r(urls, ", ", &rest) : NULL; r == 0 && url;
         url = strtok_r(NULL, ", ", &rest)) {
        if (client->count == MODAL_SERVERS) {
            r = error_set(err, ERROR_INVALID, "Modal's server_url: more than %d addresses",
                          MODAL_SERVERS);
        } else {
            client->local = is_local(url) && (client->count == 0 || client->local);
            r = open_channel(client, url, err);
        }
    }
    if (r == 0 && client->count == 0) {
        r = error_set(err, ERROR_INVALID, "Modal's server_url holds no address");
    }
    free(urls);
    return r;
}

struct modal_client *modal_client_new(uv_loop_t *loop, const struct modal_credentials *credentials,
                                      struct error *err)
{
    struct modal_client *client = calloc(1, sizeof(*client));

    if (!client || modal_credentials_copy(&client->credentials, credentials) < 0) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        free(client);
        return NULL;
    }
    client->loop = loop;
    if (open_channels(client, err) < 0) {
        modal_client_close(client, NULL, NULL);
        return NULL;
    }
    return client;
}

/* ---- its end ---- */

void modal_client_check_closed(struct modal_client *client)
{
    void (*closed)(void *data) = client->closed;
    void *data = client->closed_data;

    if (!client->closing || client->channels_open > 0 || client->rpcs) {
        return;
    }
    modal_token_clear(&client->token);
    modal_credentials_clear(&client->credentials);
    free(client);
    if (closed) {
        closed(data);
    }
}

static void on_channel_closed(void *data)
{
    struct modal_client *client = data;

    client->channels_open--;
    modal_client_check_closed(client);
}

void modal_client_close(struct modal_client *client, void (*closed)(void *data), void *data)
{
    unsigned count = client->count;

    client->closed = closed;
    client->closed_data = data;
    for (struct modal_rpc *rpc = client->rpcs; rpc; rpc = rpc->next) {
        modal_rpc_cancel(rpc);
    }
    client->count = 0;
    client->closing = true;
    if (count == 0) {
        modal_client_check_closed(client);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        grpc_channel_close(client->channels[i], on_channel_closed, client);
    }
}

bool modal_client_is_local(const struct modal_client *client)
{
    return client->local;
}

const char *modal_client_environment(const struct modal_client *client)
{
    return client->credentials.environment;
}

const struct modal_credentials *modal_client_credentials(const struct modal_client *client)
{
    return &client->credentials;
}

uv_loop_t *modal_client_loop(const struct modal_client *client)
{
    return client->loop;
}
