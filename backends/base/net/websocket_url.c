#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/net/websocket_internal.h"

static int refuse(struct error *err, const char *text, const char *why)
{
    return error_set(err, ERROR_INVALID,
                     "websocket URL \"%.200s\": %s; expected ws://HOST[:PORT]/PATH or wss://…",
                     text, why);
}

/* Digits only, 1 to 65535. */
static int parse_port(const char *text, size_t size, int *ret)
{
    int port = 0;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i]) || i >= 5) {
            return -EINVAL;
        }
        port = port * 10 + (text[i] - '0');
    }
    if (port < 1 || port > 65535) {
        return -EINVAL;
    }
    *ret = port;
    return 0;
}

/* Splits HOST[:PORT]; an IPv6 address stands in brackets. */
static int parse_authority(const char *at, size_t size, struct websocket_url *url)
{
    const char *end = at + size;
    const char *host_end = at[0] == '[' ? memchr(at, ']', size) : memchr(at, ':', size);
    if (at[0] == '[' && !host_end) {
        return -EINVAL;
    }
    const char *after = !host_end ? end : host_end + (at[0] == '[');
    size_t host_size = (size_t)(after - at);
    if (after < end &&
        (*after != ':' || parse_port(after + 1, (size_t)(end - after) - 1, &url->port) < 0)) {
        return -EINVAL;
    }
    if (host_size == 0 || host_size > HOST_CAP) {
        return -EINVAL;
    }
    url->name = at[0] == '[' ? strndup(at + 1, host_size - 2) : strndup(at, host_size);
    bool usual = url->port == (url->tls ? 443 : 80);
    int r = usual ? asprintf(&url->authority, "%.*s", (int)host_size, at)
                  : asprintf(&url->authority, "%.*s:%d", (int)host_size, at, url->port);
    if (r < 0) {
        url->authority = NULL;
    }
    return url->name && url->authority ? 0 : -ENOMEM;
}

static int parse_rest(const char *rest, struct websocket_url *url)
{
    size_t size = strcspn(rest, "/?");
    int r = parse_authority(rest, size, url);
    if (r < 0) {
        return r;
    }
    r = asprintf(&url->path, "%s%s", rest[size] == '/' ? "" : "/", rest + size);
    if (r < 0) {
        url->path = NULL;
        return -ENOMEM;
    }
    return strlen(url->path) > PATH_CAP ? -ENAMETOOLONG : 0;
}

int websocket_url_parse(const char *text, struct websocket_url *ret, struct error *err)
{
    struct websocket_url url = {.port = 80};
    const char *rest = text + 5;
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#') {
            return refuse(err, text, "it has a space, a control character or a #");
        }
    }
    if (strncasecmp(text, "wss://", 6) == 0) {
        url = (struct websocket_url){.tls = true, .port = 443};
        rest = text + 6;
    } else if (strncasecmp(text, "ws://", 5) != 0) {
        return refuse(err, text, "its scheme is neither ws nor wss");
    }
    if (memchr(rest, '@', strcspn(rest, "/?"))) {
        return refuse(err, text, "a user name in it is not supported: send a header");
    }
    int r = parse_rest(rest, &url);
    if (r < 0) {
        websocket_url_deinit(&url);
        return refuse(err, text,
                      r == -ENAMETOOLONG ? "its path is longer than 2000 bytes"
                      : r == -ENOMEM     ? "out of memory"
                                         : "its host or port is wrong");
    }
    *ret = url;
    return 0;
}

void websocket_url_deinit(struct websocket_url *url)
{
    free(url->name);
    free(url->authority);
    free(url->path);
}
