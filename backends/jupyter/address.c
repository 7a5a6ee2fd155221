#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"
#include "backends/jupyter/place.h"

/* Percent-encoding is taken away, in place. */
static void decode(char *text)
{
    char *to = text;

    for (; *text; text++) {
        if (text[0] == '%' && hex_value(text[1]) >= 0 && hex_value(text[2]) >= 0) {
            *to++ = (char)(hex_value(text[1]) * 16 + hex_value(text[2]));
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

static char *token_of_query(const char *query)
{
    while (query && *query) {
        if (strncmp(query, "token=", 6) == 0) {
            char *token = strndup(query + 6, strcspn(query + 6, "&#"));
            if (token) {
                decode(token);
            }
            return token;
        }
        query = strchr(query, '&');
        query = query ? query + 1 : NULL;
    }
    return NULL;
}

/* The address of a page of the server, as people copy it, is taken for the server's. */
static void cut_page(char *url)
{
    static const char *const pages[] = {"/lab", "/tree", "/api"};
    size_t size = strlen(url);

    while (size > 0 && url[size - 1] == '/') {
        url[--size] = '\0';
    }
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        size_t n = strlen(pages[i]);
        if (size > n && strcmp(url + size - n, pages[i]) == 0) {
            url[size - n] = '\0';
            return;
        }
    }
}

static int check_url(const char *url, struct error *err)
{
    const char *rest = strstr(url, "://");

    if ((strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) && rest[3] &&
        rest[3] != '/') {
        return 0;
    }
    return error_set(err, ERROR_INVALID,
                     "url: \"%.200s\" is no address of a Jupyter server; it looks like "
                     "http://127.0.0.1:8888/?token=…",
                     url);
}

static int add_headers(const struct environment *env, struct jupyter_address *address,
                       struct error *err)
{
    const char *name;
    json_t *value;
    size_t count = 0;

    address->headers = calloc(json_object_size(env->headers) + 1, sizeof(char *));
    if (!address->headers) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    json_object_foreach(env->headers, name, value)
    {
        const char *text = json_string_value(value);
        if (!text || strpbrk(text, "\r\n") || strpbrk(name, "\r\n: ")) {
            return error_set(
                err, ERROR_INVALID,
                "headers: \"%.60s\" is no header: names have no space or colon, values "
                "are one line of text",
                name);
        }
        if (asprintf(&address->headers[count++], "%s: %s", name, text) < 0) {
            return error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    return 0;
}

static int parse(const struct environment *env, struct jupyter_address *a, struct error *err)
{
    char *query;

    if (check_url(env->url, err) < 0) {
        return -1;
    }
    a->url = strdup(env->url);
    if (!a->url) {
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    a->url[strcspn(a->url, "#")] = '\0';
    query = strchr(a->url, '?');
    if (query) {
        *query = '\0';
        a->token = token_of_query(query + 1);
    }
    cut_page(a->url);
    if (env->token) {
        free(a->token);
        a->token = strdup(env->token);
    }
    if (a->token && strpbrk(a->token, "\r\n")) {
        return error_set(err, ERROR_INVALID, "token: it is one line of text");
    }
    return add_headers(env, a, err);
}

int jupyter_address_parse(const struct environment *env, struct jupyter_address *ret,
                          struct error *err)
{
    struct jupyter_address address = {0};

    if (parse(env, &address, err) < 0) {
        jupyter_address_deinit(&address);
        return -1;
    }
    *ret = address;
    return 0;
}

void jupyter_address_deinit(struct jupyter_address *address)
{
    for (char **header = address->headers; header && *header; header++) {
        free(*header);
    }
    free((void *)address->headers);
    free(address->url);
    free(address->token);
    *address = (struct jupyter_address){0};
}
