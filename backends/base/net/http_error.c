#include "backends/base/net/http_internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* X509_V_ERR_* of OpenSSL, as CURLINFO_SSL_VERIFYRESULT gives them. */
enum {
    X509_OK = 0,
    X509_UNSPECIFIED = 1,
    X509_NOT_YET_VALID = 9,
    X509_HAS_EXPIRED = 10,
};

enum { MESSAGE_MOST = 500 };

static const char *words(const struct http_failure *f)
{
    return f->text[0] ? f->text : curl_easy_strerror(f->code);
}

static void tell_connect(const struct http_failure *f, struct error *err)
{
    long number = 0;
    curl_easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &number);
    switch (number) {
    case ENOENT:
    case ECONNREFUSED:
        error_set(err, ERROR_LOST,
                  "%s: nothing listens at %s (%s); start the server, or give its right address",
                  f->tried, f->peer, strerror((int)number));
        return;
    case EACCES:
    case EPERM:
        error_set(err, ERROR_REFUSED,
                  "%s: this user may not use %s (%s); run as a user or group that may", f->tried,
                  f->peer, strerror((int)number));
        return;
    default:
        error_set(err, ERROR_LOST, "%s: cannot connect to %s: %s", f->tried, f->peer, words(f));
    }
}

static void tell_time(const struct http_failure *f, struct error *err)
{
    curl_off_t connected = 0, total = 0, came = 0;
    curl_easy_getinfo(f->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    curl_easy_getinfo(f->easy, CURLINFO_TOTAL_TIME_T, &total);
    curl_easy_getinfo(f->easy, CURLINFO_SIZE_DOWNLOAD_T, &came);
    if (!connected) {
        error_set(err, ERROR_TIMEOUT,
                  "%s: no connection to %s within %lld ms; is the address right, does a firewall "
                  "drop what is sent to it?",
                  f->tried, f->peer, (long long)(total / 1000));
    } else {
        error_set(err, ERROR_TIMEOUT,
                  "%s: the answer was not complete within %lld ms (%lld bytes of it came)",
                  f->tried, (long long)(total / 1000), (long long)came);
    }
}

static void tell_certificate(const struct http_failure *f, struct error *err)
{
    long result = 0;
    curl_easy_getinfo(f->easy, CURLINFO_SSL_VERIFYRESULT, &result);
    if (result == X509_OK || result == X509_UNSPECIFIED) {
        /* The name is looked at before the chain. */
        error_set(err, ERROR_REFUSED,
                  "%s: the certificate of %s is for another name (%s); use the name that it is for",
                  f->tried, f->peer, words(f));
    } else if (result == X509_HAS_EXPIRED || result == X509_NOT_YET_VALID) {
        error_set(err, ERROR_REFUSED,
                  "%s: the certificate of %s is not valid now (%s); renew it, or set the clock",
                  f->tried, f->peer, words(f));
    } else {
        error_set(err, ERROR_REFUSED,
                  "%s: the certificate of %s is from an authority that is not trusted here (%s); "
                  "give the authority's certificate as a PEM file",
                  f->tried, f->peer, words(f));
    }
}

static void tell_cut(const struct http_failure *f, struct error *err)
{
    curl_off_t came = 0, whole = -1;
    curl_easy_getinfo(f->easy, CURLINFO_SIZE_DOWNLOAD_T, &came);
    curl_easy_getinfo(f->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &whole);
    if (whole >= 0) {
        error_set(err, ERROR_LOST, "%s: connection cut after %lld of %lld bytes", f->tried,
                  (long long)came, (long long)whole);
    } else {
        error_set(err, ERROR_LOST, "%s: connection cut after %lld bytes, before the end", f->tried,
                  (long long)came);
    }
}

static void tell_broken(const struct http_failure *f, struct error *err)
{
    curl_off_t came = 0;
    curl_easy_getinfo(f->easy, CURLINFO_SIZE_DOWNLOAD_T, &came);
    if (strstr(f->text, "certificate required") || strstr(f->text, "bad certificate")) {
        error_set(err, ERROR_REFUSED,
                  "%s: %s wants a client certificate that it trusts (%s); give certificate and key "
                  "as PEM files",
                  f->tried, f->peer, f->text);
        return;
    }
    /* The alert that says so may be lost to the reset that follows it. */
    error_set(err, ERROR_LOST, "%s: the exchange broke after %lld bytes of the answer: %s%s",
              f->tried, (long long)came, words(f),
              f->no_cert && came == 0 ? "; does the server want a client certificate?" : "");
}

static void tell_files(const struct http_failure *f, struct error *err)
{
    error_set(err, ERROR_INVALID,
              "%s: a certificate or key file cannot be used (%s); give PEM files that this user "
              "may read",
              f->tried, words(f));
}

void http_failure_tell(const struct http_failure *failure, struct error *err)
{
    const struct http_failure *f = failure;
    switch (f->code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        error_set(err, ERROR_LOST, "%s: the address of %s cannot be found (%s); check its name",
                  f->tried, f->peer, words(f));
        return;
    case CURLE_COULDNT_CONNECT:
        tell_connect(f, err);
        return;
    case CURLE_OPERATION_TIMEDOUT:
        tell_time(f, err);
        return;
    case CURLE_PEER_FAILED_VERIFICATION:
        tell_certificate(f, err);
        return;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        tell_files(f, err);
        return;
    case CURLE_SSL_CONNECT_ERROR:
        error_set(err, ERROR_LOST, "%s: no TLS connection to %s: %s; does it speak https there?",
                  f->tried, f->peer, words(f));
        return;
    case CURLE_PARTIAL_FILE:
        tell_cut(f, err);
        return;
    case CURLE_GOT_NOTHING:
        error_set(err, ERROR_LOST, "%s: the server closed the connection without an answer",
                  f->tried);
        return;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        error_set(err, ERROR_LOST, "%s: what %s answers is not HTTP/1.1: %s", f->tried, f->peer,
                  words(f));
        return;
    default:
        tell_broken(f, err);
    }
}

/* --- what the server says ----------------------------------------------------------------- */

/* The words in a JSON object's "message" or "reason"; NULL when there are none. */
static const char *said_in(const json_t *object)
{
    const char *text = json_string_value(json_object_get(object, "message"));
    if (!text || !*text) {
        text = json_string_value(json_object_get(object, "reason"));
    }
    return text;
}

static char *cleaned(const char *text, size_t size)
{
    size_t n = size < MESSAGE_MOST ? size : MESSAGE_MOST;
    char *copy;

    /* Not in the middle of a character of UTF-8. */
    while (n < size && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
        n--;
    }
    copy = strndup(text, n);
    for (char *p = copy; p && *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            *p = ' ';
        }
    }
    return copy;
}

char *http_message(const char *body, size_t size)
{
    const char *bytes = body ? body : "";
    json_t *object = json_loadb(bytes, body ? size : 0, JSON_DISABLE_EOF_CHECK, NULL);
    const char *text = said_in(object);
    char *copy;

    if (text) {
        copy = cleaned(text, strlen(text));
    } else {
        size_t line = 0;
        while (body && line < size && bytes[line] && !strchr("\r\n", bytes[line])) {
            line++;
        }
        copy = cleaned(bytes, line);
    }
    json_decref(object);
    return copy;
}

enum error_kind http_status_kind(long status)
{
    switch (status) {
    case 401:
    case 403:
    case 407:
        return ERROR_REFUSED;
    case 404:
    case 410:
        return ERROR_NOT_FOUND;
    case 408:
    case 504:
        return ERROR_TIMEOUT;
    case 413:
    case 429:
    case 507:
        return ERROR_LIMIT;
    case 405:
    case 501:
        return ERROR_UNSUPPORTED;
    default:
        return status >= 500 ? ERROR_LOST : ERROR_INVALID;
    }
}

int http_refusal(const struct http_reply *reply, const char *what, struct error *err)
{
    char *message = http_message(reply->body, reply->size);
    bool said = message && *message;
    error_set(err, http_status_kind(reply->status), "%s: the server answered %ld%s%s", what,
              reply->status, said ? ": " : "", said ? message : "");
    free(message);
    return -1;
}
