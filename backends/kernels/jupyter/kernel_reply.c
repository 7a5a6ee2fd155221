#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/jupyter/session_internal.h"

/* What the reply to a run says: in our helper's words, or in the protocol's own. */

static const char *text_of(json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static enum kernel_status status_of(json_t *done)
{
    static const struct {
        const char *name;
        enum kernel_status status;
    } names[] = {
        {"ok", KERNEL_OK},
        {"error", KERNEL_ERROR},
        {"exit", KERNEL_EXIT},
        {"signal", KERNEL_SIGNAL},
        {"interrupted", KERNEL_INTERRUPTED},
    };
    const char *name = text_of(done, "status");

    for (size_t i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].name, name) == 0) {
            return names[i].status;
        }
    }
    return KERNEL_ERROR;
}

static int small_int(json_t *object, const char *name, int most)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value < 0 || value > most ? 0 : (int)value;
}

static uint64_t number_of(json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value < 0 ? 0 : (uint64_t)value;
}

/* Of a kernel with our helper. */
static void reply_of_helper(json_t *done, struct kernel_reply *reply)
{
    json_t *error = json_object_get(done, "error");

    reply->status = status_of(done);
    reply->has_exit_code = json_is_integer(json_object_get(done, "exit_code"));
    reply->exit_code = small_int(done, "exit_code", 255);
    reply->signal = small_int(done, "signal", SIGRTMAX);
    reply->etype = text_of(error, "etype");
    reply->evalue = text_of(error, "evalue");
    reply->traceback = text_of(error, "traceback");
    reply->execution_count = small_int(done, "execution_count", INT32_MAX);
    reply->cpu_ms = number_of(done, "cpu_ms");
    reply->peak_rss_kib = number_of(done, "peak_rss_kib");
    reply->changed = json_object_get(done, "changed");
}

static char *join_traceback(json_t *lines)
{
    size_t size = 0, index;
    char *text = NULL, *plain = NULL;
    FILE *out = open_memstream(&text, &size);
    json_t *line;

    if (!out) {
        return NULL;
    }
    json_array_foreach(lines, index, line)
    {
        const char *value = json_string_value(line);
        if (value) {
            (void)fprintf(out, "%s\n", value);
        }
    }
    if (fclose(out) == 0 && text && *text) {
        plain = output_plain(text);
    }
    free(text);
    return plain;
}

/* Of any other kernel, by the protocol's own words. */
static void reply_of_stranger(json_t *content, struct kernel_reply *reply)
{
    const char *status = text_of(content, "status");

    reply->execution_count = small_int(content, "execution_count", INT32_MAX);
    if (status && strcmp(status, "ok") == 0) {
        return;
    }
    reply->status = KERNEL_ERROR;
    reply->etype = text_of(content, "ename");
    reply->evalue = text_of(content, "evalue");
    if (reply->etype && strcmp(reply->etype, "KeyboardInterrupt") == 0) {
        reply->status = KERNEL_INTERRUPTED;
    }
    if (!reply->etype || !*reply->etype) {
        reply->etype = status && strcmp(status, "aborted") == 0 ? "Aborted" : "Error";
    }
}

/* Of what the helper says it has put out. */
struct counts {
    uint64_t bytes[2];
    unsigned displays;
};

static struct counts counts_of(json_t *done)
{
    json_t *sent = json_object_get(done, "sent");
    struct counts c = {.displays = (unsigned)small_int(done, "displays", INT32_MAX)};

    for (size_t i = 0; i < 2; i++) {
        json_int_t n = json_integer_value(json_array_get(sent, i));
        c.bytes[i] = n < 0 ? 0 : (uint64_t)n;
    }
    return c;
}

bool reply_is_complete(const struct jupyter_output *o, json_t *done)
{
    struct counts c = counts_of(done);

    return c.bytes[0] <= o->got[0] && c.bytes[1] <= o->got[1] && c.displays <= o->displays;
}

static void tell_missing(const struct jupyter_output *o, json_t *done)
{
    static const char *const rates =
        ". Start the Jupyter server with --ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0 "
        "and --ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0 to have all of it";
    struct counts c = counts_of(done);
    char note[512];

    (void)snprintf(note, sizeof(note),
                   "%s: of %llu bytes of stdout %llu arrived, of %llu of stderr %llu, of %u "
                   "displays and results %u%s",
                   o->cut ? "output was lost when the connection to the kernel was cut"
                          : "the server dropped output",
                   (unsigned long long)c.bytes[0], (unsigned long long)o->got[0],
                   (unsigned long long)c.bytes[1], (unsigned long long)o->got[1], c.displays,
                   o->displays, o->cut ? "" : rates);
    o->events->on_note(o->data, note);
}

static void tell_dropped(const struct jupyter_output *o, json_t *done)
{
    if (done && !reply_is_complete(o, done)) {
        tell_missing(o, done);
    } else if (!done && o->dropped) {
        o->events->on_note(o->data,
                           "the server dropped output, since more came than its "
                           "iopub_data_rate_limit or iopub_msg_rate_limit allows: some of what the "
                           "run printed is missing");
    } else if (!done && o->cut) {
        o->events->on_note(o->data,
                           "the connection to the kernel was cut while the code ran: some of what "
                           "it put out may be missing");
    }
}

static void tell_notes(const struct jupyter_output *o, json_t *done)
{
    json_t *notes = json_object_get(done, "notes");
    json_t *note;
    size_t index;

    json_array_foreach(notes, index, note)
    {
        if (json_is_string(note) && index < 64) {
            o->events->on_note(o->data, json_string_value(note));
        }
    }
}

void reply_tell(const struct jupyter_output *o, json_t *done)
{
    tell_notes(o, done);
    tell_dropped(o, done);
}

char *reply_read(json_t *content, json_t *done, struct kernel_reply *reply)
{
    char *traceback;

    if (done) {
        reply_of_helper(done, reply);
        return NULL;
    }
    reply_of_stranger(content, reply);
    traceback = join_traceback(json_object_get(content, "traceback"));
    reply->traceback = traceback;
    return traceback;
}
