#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/kernels/runner/supervised_internal.h"

/*
 * Output that stays at the far side (frame_supervisor.h: OUTPUT, HELD, SAMPLE, KEPT). What it says
 * of that are counts, which are told and never used as a size of anything here.
 */

bool supervised_keeps(const struct link *link)
{
    return supervised_of_link(link)->keeps;
}

static json_t *plan_object(const struct output_plan *plan)
{
    return json_pack("{ss? sI sI sI sI}", "path", plan->path, "after", (json_int_t)plan->after,
                     "cap", (json_int_t)plan->cap, "head", (json_int_t)plan->head, "tail",
                     (json_int_t)plan->tail);
}

int supervised_plan(struct link *link, const struct output_plan *plan)
{
    struct supervised *s = supervised_of_link(link);
    unsigned char header[FRAME_HEADER];
    json_t *json = plan_object(plan);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    int r = -ENOMEM;

    buffer_reset(&s->plan);
    if (text) {
        frame_header(header, (enum frame_type)FRAME_OUTPUT, strlen(text));
        r = buffer_append(&s->plan, header, sizeof(header));
        r = r < 0 ? r : buffer_append(&s->plan, text, strlen(text));
    }
    json_decref(json);
    free(text);
    return r;
}

int supervised_send_run(struct supervised *s, const void *bytes, size_t size)
{
    int r;

    if (buffer_size(&s->plan) == 0) {
        return s->stream->write(s->stream, bytes, size);
    }
    r = buffer_append(&s->plan, bytes, size);
    if (r == 0) {
        r = s->stream->write(s->stream, buffer_data(&s->plan), buffer_size(&s->plan));
    }
    buffer_reset(&s->plan);
    return r;
}

/* Is it of a run that is going? What a worker that is being killed had printed is nobody's. */
static bool counts(const struct supervised *s)
{
    return s->worker == WORKER_LIVE && !s->kill_sent && s->runs_due == 0;
}

static void broken(struct supervised *s, const char *what)
{
    supervised_break(s, "the far side sent %s that cannot be", what);
}

void supervised_held(struct supervised *s, const json_t *json)
{
    const char *stream = json_string_value(json_object_get(json, "stream"));
    json_int_t bytes = json_integer_value(json_object_get(json, "bytes"));
    json_int_t lines = json_integer_value(json_object_get(json, "lines"));
    bool err = stream && strcmp(stream, "stderr") == 0;

    if (!stream || (!err && strcmp(stream, "stdout") != 0) || bytes <= 0 || lines < 0 ||
        lines > bytes || !s->keeps || (uint64_t)bytes > SUPERVISED_HELD_CAP - s->held) {
        broken(s, "a count of output");
        return;
    }
    s->held += (uint64_t)bytes;
    if (counts(s) && s->link.events.on_held) {
        s->link.events.on_held(s->link.data, err ? STREAM_STDERR : STREAM_STDOUT, (uint64_t)bytes,
                               (uint64_t)lines);
    }
}

void supervised_sample(struct supervised *s, const char *bytes, size_t size)
{
    if (size == 0 || (unsigned char)*bytes > STREAM_STDERR) {
        broken(s, "a sample of output");
    } else if (size > 1 && counts(s) && s->link.events.on_sample) {
        s->link.events.on_sample(s->link.data, (enum stream) * bytes, bytes + 1, size - 1);
    }
}

void supervised_kept(struct supervised *s, const json_t *json)
{
    static const char *const names[] = {[STREAM_STDOUT] = "stdout", [STREAM_STDERR] = "stderr"};

    for (int i = STREAM_STDOUT; i <= STREAM_STDERR; i++) {
        const json_t *bytes = json_object_get(json, names[i]);

        if (!bytes) {
            continue;
        }
        if (!json_is_integer(bytes) || json_integer_value(bytes) <= 0) {
            broken(s, "a count of what it keeps");
            return;
        }
        if (counts(s) && s->link.events.on_kept) {
            s->link.events.on_kept(s->link.data, (enum stream)i,
                                   (uint64_t)json_integer_value(bytes));
        }
    }
}
