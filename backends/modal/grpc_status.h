#ifndef CELLBLOCK_MODAL_GRPC_STATUS_H
#define CELLBLOCK_MODAL_GRPC_STATUS_H

#include "backends/modal/grpc.h"

/*
 * What the trailers of a call say (PROTOCOL-HTTP2.md, "Responses"), and what stands for them when
 * they are missing. All of it comes from outside.
 */
struct grpc_trailers {
    int status;    /* -1: none came */
    char *message; /* NULL: none came */
    void *details;
    size_t details_size;
};

enum { GRPC_MESSAGE_TEXT_CAP = 2048 };

/* Notes one of their fields; others are passed over. */
void grpc_trailers_note(struct grpc_trailers *trailers, const char *name, const char *value);
/* As before the first field. */
void grpc_trailers_reset(struct grpc_trailers *trailers);

/* Of an answer without grpc-status (http-grpc-status-mapping.md). */
enum grpc_status grpc_status_of_http(long status);
/* Of a stream that was reset with an error of HTTP/2. */
enum grpc_status grpc_status_of_reset(unsigned h2_error);

/* grpc-message as text: percent-decoded, control characters as spaces, bytes that are no UTF-8 as
 * "?", at most GRPC_MESSAGE_TEXT_CAP bytes. To be freed; NULL without memory. */
char *grpc_message_decode(const char *value);
/* Base64 with or without "=" at its end. To be freed; NULL when it is none, is longer than `cap`
 * or there is no memory. */
void *grpc_base64_decode(const char *text, size_t cap, size_t *ret_size);

/* "grpc-timeout: 1500m": at most eight digits and a unit. */
enum { GRPC_TIMEOUT_SIZE = 32 };
void grpc_timeout_header(unsigned ms, char ret[GRPC_TIMEOUT_SIZE]);

#endif
