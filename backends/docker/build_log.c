#include "backends/docker/build_log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backends/docker/engine.h"

/* Cut to the size, without what a terminal would act upon. */
static void put_plain(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from);
    engine_plain(to);
}

/* "Step 3/9 : RUN …" (Docker), "[1/3] STEP 3/9: RUN …" (Podman, which counts stages as well). */
static const char *step_of(const char *line)
{
    if (*line == '[') {
        size_t n = strspn(line + 1, "0123456789/");
        line += strncmp(line + 1 + n, "] ", 2) == 0 ? n + 3 : 0;
    }
    return strncasecmp(line, "step ", strlen("step ")) == 0 ? line + strlen("step ") : NULL;
}

static bool take_number(const char **text, char end, unsigned *ret)
{
    char *after;
    unsigned long value;

    if (!isdigit((unsigned char)**text)) {
        return false;
    }
    value = strtoul(*text, &after, 10);
    if (value > 9999 || *after != end) {
        return false;
    }
    *text = after + 1;
    *ret = (unsigned)value;
    return true;
}

static bool take_step(struct build_log *log, const char *line)
{
    const char *at = step_of(line);
    unsigned step, steps;

    if (!at || !take_number(&at, '/', &step) ||
        (!take_number(&at, ' ', &steps) && !take_number(&at, ':', &steps)) || step == 0 ||
        step > steps) {
        return false;
    }
    log->step = step;
    log->steps = steps;
    (void)snprintf(log->name, sizeof(log->name), "%s", at + strspn(at, " :"));
    return true;
}

/* What the builder says of its own layers. */
static bool is_noise(const char *line)
{
    return strncmp(line, " ---> ", strlen(" ---> ")) == 0 ||
           strncmp(line, "--> ", strlen("--> ")) == 0 ||
           strncmp(line, "Removing intermediate", strlen("Removing intermediate")) == 0;
}

static void end_line(struct build_log *log)
{
    size_t n = log->have;

    log->have = 0;
    while (n > 0 && isspace((unsigned char)log->line[n - 1])) {
        n--;
    }
    log->line[n] = '\0';
    engine_plain(log->line);
    if (n > 0 && !is_noise(log->line)) {
        (void)take_step(log, log->line);
        memcpy(log->last[log->lines++ % BUILD_LINES], log->line, n + 1);
    }
}

static void take_text(struct build_log *log, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n' || *text == '\r') {
            end_line(log);
        } else if (log->have < sizeof(log->line) - 1) {
            log->line[log->have++] = *text;
        }
    }
}

void build_log_take(struct build_log *log, json_t *value)
{
    const char *text = json_string_value(json_object_get(value, "stream"));
    const char *error = json_string_value(json_object_get(value, "error"));

    if (text) {
        take_text(log, text);
    }
    if (error && !log->error[0]) {
        end_line(log);
        put_plain(log->error, sizeof(log->error), *error ? error : "no reason was given");
    }
}

/* For people, an instruction is its words without the brackets of a JSON array. */
static void plain_step(const struct build_log *log, char space[BUILD_LINE_CAP])
{
    size_t n = 0;

    for (const char *at = log->name; *at; at++) {
        if (*at == ',') {
            space[n++] = ' ';
        } else if (*at != '"' && *at != '[' && *at != ']') {
            space[n++] = *at;
        }
    }
    space[n] = '\0';
}

void build_log_progress(const struct build_log *log, char *space, size_t size)
{
    const char *line = log->lines ? log->last[(log->lines - 1) % BUILD_LINES] : "";
    char step[BUILD_LINE_CAP];

    plain_step(log, step);
    if (log->step == 0) {
        (void)snprintf(space, size, "it is being sent to the engine");
    } else if (step_of(line)) {
        (void)snprintf(space, size, "step %u/%u: %s", log->step, log->steps, step);
    } else {
        (void)snprintf(space, size, "step %u/%u: %.60s: %.100s", log->step, log->steps, step, line);
    }
}

char *build_log_failure(const struct build_log *log, const char *otherwise)
{
    unsigned first = log->lines > BUILD_LINES ? log->lines - BUILD_LINES : 0;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return NULL;
    }
    (void)fputs(log->error[0] ? log->error : otherwise, out);
    if (log->step) {
        (void)fprintf(out, " (step %u/%u)", log->step, log->steps);
    }
    if (log->lines) {
        (void)fputs(". The last lines of its log:", out);
    }
    for (unsigned i = first; i < log->lines; i++) {
        (void)fprintf(out, "\n%s", log->last[i % BUILD_LINES]);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
