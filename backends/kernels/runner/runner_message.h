#ifndef CELLBLOCK_RUNNER_MESSAGE_H
#define CELLBLOCK_RUNNER_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "backends/kernel.h"
#include "backends/kernels/runner/frame.h"

/*
 * The JSON inside the runner's frames, checked and made into structs. Nothing in them is taken for
 * granted: every parser answers 0, or -1 with `why` pointing at a static sentence that completes
 * "the worker …".
 */

enum {
    MESSAGE_TEXT_CAP = 64 * 1024, /* of evalue and traceback; longer ones are cut in the middle */
    MESSAGE_NAME_CAP = 256,       /* of etype */
    MESSAGE_NOTE_CAP = 4096,
    MESSAGE_DEPTH_CAP = 100, /* levels of JSON inside JSON */
    MESSAGE_MIMES_CAP = 256, /* representations of one display */
};

struct greeting {
    char description[256]; /* "Python 3.11.2, IPython 8.5.0" */
};

/* A parsed DISPLAY or CLEAR. `display` points into `json`. */
struct display_message {
    json_t *json;
    struct display display;
    bool sync;
};

struct done_message {
    char run[RUN_ID_SIZE];
    struct kernel_reply reply; /* its texts point at the owned ones below */
    char *etype, *evalue, *traceback;
    json_t *changed; /* owned as well; looked at by whoever needs it (backends/changed.h) */
};

int greeting_parse(const struct frame *frame, struct greeting *ret, const char **why);

int display_message_parse(const struct frame *frame, struct display_message *ret, const char **why);
void display_message_deinit(struct display_message *m);

int done_message_parse(const struct frame *frame, struct done_message *ret, const char **why);
void done_message_deinit(struct done_message *m);

/* *ret is the note's text, to be freed. */
int note_parse(const struct frame *frame, char **ret, const char **why);

/* Appends a whole RUN frame. 0, -EILSEQ for text that is not UTF-8, -EMSGSIZE past the cap of a
 * frame, -ENOMEM; `out` is empty or unchanged then. */
int run_frame_build(struct buffer *out, const struct run_request *request);

/* Appends a whole STDIN frame, a whole SIGNAL frame; `run` is the id of a run. 0, -EMSGSIZE,
 * -ENOMEM; `out` is empty or unchanged then. */
int stdin_frame_build(struct buffer *out, const char *run, const char *bytes, size_t size,
                      bool eof);
int signal_frame_build(struct buffer *out, const char *run, int number);

/* A copy of the text with NULs shown as U+FFFD and, past `cap` bytes, cut in the middle on UTF-8
 * boundaries with a mark that says how much is missing. NULL when out of memory. */
char *message_text(const char *text, size_t size, size_t cap);

#endif
