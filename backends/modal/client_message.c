/* Messages of the service: bytes, and whether what came is what it should be. */
#include "backends/modal/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/base/hex.h"

void *modal_pack(const ProtobufCMessage *message, size_t *ret_size)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    void *bytes = malloc(size + 1);

    if (bytes) {
        *ret_size = protobuf_c_message_pack(message, bytes);
    }
    return bytes;
}

/* ---- UTF-8, which protobuf-c leaves to us ---- */

/* Bytes that follow the first of a character; -1 for what begins none. */
static int followers(unsigned char first)
{
    if (first < 0x80) {
        return 0;
    }
    if (first >= 0xc2 && first < 0xe0) {
        return 1;
    }
    if (first >= 0xe0 && first < 0xf0) {
        return 2;
    }
    return first >= 0xf0 && first < 0xf5 ? 3 : -1;
}

/* Neither too long for what they say, nor a half of a surrogate pair, nor past the last. */
static bool good_second(unsigned char first, unsigned char second)
{
    if ((first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90)) {
        return false;
    }
    return !(first == 0xed && second >= 0xa0) && !(first == 0xf4 && second >= 0x90);
}

static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at) {
        int more = followers(*at);
        if (more < 0 || (more > 0 && !good_second(at[0], at[1]))) {
            return false;
        }
        at++;
        for (; more > 0; more--, at++) {
            if ((*at & 0xc0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

static bool is_good(const ProtobufCMessage *message);

static bool is_good_value(const ProtobufCFieldDescriptor *field, const void *member)
{
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(char *const *)member;
        return !text || is_utf8(text);
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *inner = *(ProtobufCMessage *const *)member;
        return !inner || is_good(inner);
    }
    return true;
}

static bool is_good_field(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    size_t count;
    void *const *list;

    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return true;
    }
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        bool other =
            (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id;
        return other || is_good_value(field, base + field->offset);
    }
    memcpy(&count, base + field->quantifier_offset, sizeof(count));
    memcpy(&list, base + field->offset, sizeof(void *));
    for (size_t i = 0; i < count; i++) {
        if (!is_good_value(field, &list[i])) {
            return false;
        }
    }
    return true;
}

/* As deep as our own definitions are: none of them holds itself. */
static bool is_good(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;

    for (unsigned i = 0; i < type->n_fields; i++) {
        if (!is_good_field(message, &type->fields[i])) {
            return false;
        }
    }
    return true;
}

ProtobufCMessage *modal_unpack(const ProtobufCMessageDescriptor *type, const void *bytes,
                               size_t size)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(type, NULL, size, bytes);

    if (message && !is_good(message)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return NULL;
    }
    return message;
}

/* ---- ids ---- */

int modal_uuid(char ret[MODAL_UUID_SIZE])
{
    unsigned char bytes[16];
    char hex[33];
    int r = uv_random(NULL, NULL, bytes, sizeof(bytes), 0, NULL);

    if (r < 0) {
        return r;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    hex_write(bytes, sizeof(bytes), hex);
    (void)snprintf(ret, MODAL_UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
                   hex + 16, hex + 20);
    return 0;
}

/* ---- how a call ended ---- */

static enum error_kind kind_of(enum grpc_status status)
{
    switch (status) {
    case GRPC_INVALID_ARGUMENT:
    case GRPC_OUT_OF_RANGE:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_ALREADY_EXISTS:
        return ERROR_INVALID;
    case GRPC_NOT_FOUND:
        return ERROR_NOT_FOUND;
    case GRPC_PERMISSION_DENIED:
    case GRPC_UNAUTHENTICATED:
        return ERROR_REFUSED;
    case GRPC_RESOURCE_EXHAUSTED:
        return ERROR_LIMIT;
    case GRPC_DEADLINE_EXCEEDED:
        return ERROR_TIMEOUT;
    case GRPC_UNIMPLEMENTED:
        return ERROR_UNSUPPORTED;
    default:
        return ERROR_LOST;
    }
}

int modal_status_error(const char *rpc, const struct grpc_end *end, struct error *err)
{
    const char *name = grpc_status_name(end->status);
    const char *advice = "";

    if (end->status == GRPC_UNAUTHENTICATED) {
        advice = ". `modal token new` makes a new token";
    }
    if (end->local) {
        return error_set(err, kind_of(end->status), "%s: %s", rpc, end->message);
    }
    return error_set(err, kind_of(end->status), "%s: the service answered %s%s%s%s", rpc,
                     name ? name : "a status that gRPC does not have", end->message[0] ? ": " : "",
                     end->message, advice);
}
