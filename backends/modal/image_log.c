#include "backends/modal/image_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first byte of a terminal's sequence takes the letters after it along. */
static void strip_sequences(char *line)
{
    char *to = line;

    for (const char *from = line; *from; from++) {
        if (from[0] == '\x1b' && from[1] == '[') {
            from += 2 + strspn(from + 2, "0123456789;?");
            if (!*from) {
                break;
            }
        } else {
            *to = *from;
            if ((unsigned char)*from < ' ' || *from == 0x7f) {
                *to = ' ';
            }
            to++;
        }
    }
    *to = '\0';
}

/* A character of UTF-8 that was cut in two is dropped. */
static void strip_half(char *line)
{
    size_t n = strlen(line), first = n;

    while (first > 0 && ((unsigned char)line[first - 1] & 0xc0) == 0x80) {
        first--;
    }
    if (first > 0 && (unsigned char)line[first - 1] >= 0xc0) {
        unsigned char c = (unsigned char)line[first - 1];
        size_t size = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if (n - (first - 1) < size) {
            line[first - 1] = '\0';
        }
    }
}

void image_log_end(struct image_log *log)
{
    char *line = log->line;
    size_t n;

    line[log->have] = '\0';
    log->have = 0;
    strip_half(line);
    strip_sequences(line);
    for (n = strlen(line); n > 0 && line[n - 1] == ' '; n--) {
        line[n - 1] = '\0';
    }
    if (n > 0) {
        memcpy(log->last[log->lines++ % IMAGE_LINES], line, n + 1);
    }
}

bool image_log_take(struct image_log *log, const char *text)
{
    unsigned long before = log->lines;

    for (; *text; text++) {
        if (*text == '\n' || *text == '\r') {
            image_log_end(log);
        } else if (log->have < sizeof(log->line) - 1) {
            log->line[log->have++] = *text;
        }
    }
    return log->lines > before;
}

const char *image_log_newest(const struct image_log *log)
{
    return log->lines ? log->last[(log->lines - 1) % IMAGE_LINES] : "";
}

char *image_log_failure(const struct image_log *log, const char *reason)
{
    unsigned long first = log->lines > IMAGE_LINES ? log->lines - IMAGE_LINES : 0;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out) {
        return NULL;
    }
    (void)fputs(reason, out);
    if (log->lines) {
        (void)fputs(". The last lines of its log:", out);
    }
    for (unsigned long i = first; i < log->lines; i++) {
        (void)fprintf(out, "\n%s", log->last[i % IMAGE_LINES]);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
