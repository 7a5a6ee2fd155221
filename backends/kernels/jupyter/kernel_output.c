#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

/* The words of a server that holds output back; they come as text on stderr. */
static const char *const rate_words[] = {
    "IOPub data rate exceeded",
    "IOPub message rate exceeded",
};

static bool is_of_server(const char *text)
{
    for (size_t i = 0; i < sizeof(rate_words) / sizeof(rate_words[0]); i++) {
        const char *at = strstr(text, rate_words[i]);
        if (at && at - text < 16) {
            return true;
        }
    }
    return false;
}

static void take_stream(struct jupyter_output *o, json_t *content)
{
    const json_t *text = json_object_get(content, "text");
    const char *name = json_string_value(json_object_get(content, "name"));
    enum stream stream = name && strcmp(name, "stderr") == 0 ? STREAM_STDERR : STREAM_STDOUT;

    if (!json_is_string(text)) {
        return;
    }
    if (stream == STREAM_STDERR && is_of_server(json_string_value(text))) {
        o->dropped = true;
        return;
    }
    o->got[stream] += json_string_length(text);
    o->events->on_output(o->data, stream, json_string_value(text), json_string_length(text));
}

static void take_display(struct jupyter_output *o, enum display_kind kind, json_t *content)
{
    json_t *none = json_object();
    json_t *metadata = json_object_get(content, "metadata");
    json_t *transient = json_object_get(content, "transient");
    struct display display = {
        .kind = kind,
        .data = json_object_get(content, "data"),
        .metadata = json_is_object(metadata) ? metadata : none,
        .display_id = json_string_value(json_object_get(transient, "display_id")),
    };

    o->displays++;
    if (json_is_object(display.data) && json_object_size(display.data) > 0) {
        o->events->on_display(o->data, &display);
    }
    json_decref(none);
}

static void take_clear(struct jupyter_output *o, json_t *content)
{
    struct display display = {
        .kind = DISPLAY_CLEAR,
        .wait = json_is_true(json_object_get(content, "wait")),
    };

    o->displays++;
    o->events->on_display(o->data, &display);
}

void output_take_content(struct jupyter_output *o, const char *type, json_t *content)
{
    if (strcmp(type, "stream") == 0) {
        take_stream(o, content);
    } else if (strcmp(type, "display_data") == 0) {
        take_display(o, DISPLAY_DATA, content);
    } else if (strcmp(type, "execute_result") == 0) {
        take_display(o, DISPLAY_RESULT, content);
    } else if (strcmp(type, "update_display_data") == 0) {
        take_display(o, DISPLAY_UPDATE, content);
    } else if (strcmp(type, "clear_output") == 0) {
        take_clear(o, content);
    }
}

void output_take(struct jupyter_output *o, struct jupyter_message *m)
{
    json_t *content = jupyter_message_content(m);

    if (content) {
        output_take_content(o, m->type, content);
    }
}

/* Past an escape sequence: CSI to its final byte, OSC to BEL or ST, others two bytes. */
static const char *skip_escape(const char *at)
{
    if (at[1] == '[') {
        for (at += 2; *at && !(*at >= '@' && *at <= '~'); at++) {
        }
        return *at ? at + 1 : at;
    }
    if (at[1] == ']') {
        for (at += 2; *at && *at != '\a' && *at != '\033'; at++) {
        }
        return *at == '\a' ? at + 1 : at;
    }
    return at[1] ? at + 2 : at + 1;
}

char *output_plain(const char *text)
{
    char *plain = malloc(strlen(text) + 1);
    char *to = plain;

    while (plain && *text) {
        if (*text == '\033') {
            text = skip_escape(text);
        } else {
            *to++ = *text++;
        }
    }
    if (plain) {
        *to = '\0';
    }
    return plain;
}
