#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "backends/base/log.h"
#include "backends/base/strings.h"
#include "mcp/cmd.h"
#include "mcp/own_sessions.h"
#include "mcp/print_run.h"
#include "mcp/session.h"

/*
 * `cellblock attach`: a session that was left, for people.
 *
 *   session_start → read_next (in a thread, since a terminal may say nothing for hours)
 *                   → on_read → executor_run → on_done → read_next … → end of input → leave
 */
enum {
    SIGNALS = 3,
    BLOCK_CAP = 1024 * 1024, /* bytes of what is typed as one */
};

static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

struct job {
    struct own_sessions own;
    uv_signal_t signals[SIGNALS];
    struct session *session;
    struct run *run;
    uv_work_t work;
    char *code; /* that was read; NULL: the end */
    size_t code_size;
    struct error read_error;
    bool terminal;
    bool reading;
    bool over; /* all is closed, a thread that reads apart */
    bool ending;
    int signal;
    int status;
};

/* --- the end --- */

static void on_closed(void *data)
{
    struct job *job = data;

    job->over = true;
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&job->signals[i], NULL);
    }
    uv_stop(&job->own.loop);
}

static void leave(struct job *job)
{
    if (!job->ending) {
        job->ending = true;
        sessions_close(job->own.sessions, on_closed, job);
    }
}

/* --- what is typed --- */

static bool begins_block(const char *line)
{
    size_t n = strcspn(line, "\n");

    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t')) {
        n--;
    }
    return n > 0 && (line[n - 1] == ':' || line[0] == '@');
}

static void prompt(const char *text)
{
    fputs(text, stderr);
    fflush(stderr);
}

/* A line; or lines up to an empty one. NULL at the end of the input. */
static char *read_block(size_t *ret_size)
{
    char *line = NULL, *block = NULL;
    size_t room = 0, size = 0;
    ssize_t n;

    prompt(">>> ");
    while ((n = getline(&line, &room, stdin)) >= 0) {
        bool first = !block, empty = strspn(line, " \t\r\n") == (size_t)n;
        char *grown = size + (size_t)n < BLOCK_CAP ? realloc(block, size + (size_t)n + 1) : NULL;

        if (!grown) {
            break;
        }
        block = grown;
        memcpy(block + size, line, (size_t)n + 1);
        size += (size_t)n;
        if (empty || (first && !begins_block(line))) {
            break;
        }
        prompt("... ");
    }
    free(line);
    *ret_size = size;
    return block;
}

static void read_in_thread(uv_work_t *work)
{
    struct job *job = work->data;

    job->code = job->terminal ? read_block(&job->code_size)
                              : read_code_of(STDIN_FILENO, &job->code_size, &job->read_error);
}

static void on_read(uv_work_t *work, int status);

static void read_next(struct job *job)
{
    job->work.data = job;
    job->reading = true;
    uv_queue_work(&job->own.loop, &job->work, read_in_thread, on_read);
}

/* --- runs --- */

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct job *job = data;
    int fd = stream == STREAM_STDOUT ? STDOUT_FILENO : STDERR_FILENO;

    if (!print_bytes(fd, bytes, size) && stream == STREAM_STDOUT && job->run) {
        job->signal = job->signal ? job->signal : SIGPIPE;
        run_cancel(job->run);
    }
}

static void on_display(void *data, const struct display *display)
{
    print_display(on_output, data, display);
}

static void on_note(void *data, const char *text)
{
    print_note(on_output, data, text);
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct job *job = data;

    job->run = NULL;
    session_note_run(job->session, outcome);
    print_outcome(on_output, job, outcome);
    job->status = outcome_status(outcome, job->signal);
    if (job->signal == SIGINT && job->terminal) {
        job->signal = 0;
    }
    if (!job->terminal || job->signal || !session_executor(job->session)) {
        leave(job);
    } else {
        read_next(job);
    }
    session_end(job->session);
}

static void run_code(struct job *job)
{
    static const struct run_events events = {
        .on_output = on_output, .on_display = on_display, .on_note = on_note, .on_done = on_done};
    char id[RUN_ID_SIZE];
    struct run_request request = {
        .id = id,
        .language = "python",
        .code = job->code,
        .code_size = job->code_size,
        .timeout_seconds = session_environment(job->session)->max_timeout_seconds,
    };
    struct error err = {0};

    run_id_new(id);
    job->run = executor_run(session_executor(job->session), &request, &events, job, &err);
    if (job->run) {
        session_begin(job->session);
        return;
    }
    complain(&err);
    job->status = error_status(&err);
    error_clear(&err);
    leave(job);
}

static void on_read(uv_work_t *work, int status)
{
    struct job *job = work->data;

    (void)status;
    job->reading = false;
    if (job->read_error.kind != ERROR_NONE) {
        complain(&job->read_error);
        job->status = STATUS_USAGE;
        error_clear(&job->read_error);
    }
    if (!job->code || job->ending || !session_executor(job->session)) {
        if (job->terminal && !job->code) {
            fputc('\n', stderr);
        }
        leave(job);
    } else if (strspn(job->code, " \t\r\n") == job->code_size) {
        if (job->terminal) {
            read_next(job);
        } else {
            leave(job);
        }
    } else {
        run_code(job);
    }
    free(job->code);
    job->code = NULL;
}

/* --- the beginning --- */

static void on_waiting(void *data, const char *what)
{
    struct job *job = data;

    log_write(job->own.log, LOG_LEVEL_INFO, "%s", what);
}

static void on_attached(void *data, const struct outcome *outcome)
{
    struct job *job = data;

    job->run = NULL;
    if (session_is_sought(job->session) || (outcome->cause != CAUSE_OK && outcome->note)) {
        print_outcome(on_output, job, outcome);
        job->status = STATUS_LOST;
        leave(job);
    } else {
        read_next(job);
    }
}

/* Ctrl-C ends what is running, and attach where nothing is. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct job *job = handle->data;

    if (job->run) {
        job->signal = number;
        run_cancel(job->run);
    } else {
        job->status = STATUS_BY_SIGNAL + number;
        leave(job);
    }
}

static void watch_signals(struct job *job)
{
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&job->own.loop, &job->signals[i]);
        job->signals[i].data = job;
        uv_signal_start(&job->signals[i], on_signal, signals[i]);
        uv_unref((uv_handle_t *)&job->signals[i]);
    }
}

static int begin(struct job *job, const char *id, struct error *err)
{
    static const struct session_start how = {on_waiting, on_attached};

    job->session = sessions_attach(job->own.sessions, id, NULL, err);
    if (!job->session) {
        return -1;
    }
    job->run = session_start(job->session, &how, job, err);
    return job->run ? 0 : -1;
}

int cmd_attach(const struct options *options, const struct config *config)
{
    struct job *job = calloc(1, sizeof(*job)); /* a thread that reads may look at it to the end */
    struct error err = {0};
    int status;

    if (!job || own_sessions_open(&job->own, config, &err) < 0) {
        complain(&err);
        error_clear(&err);
        free(job);
        return STATUS_FAILED;
    }
    watch_signals(job);
    job->terminal = isatty(STDIN_FILENO);
    signal(SIGPIPE, SIG_IGN);
    if (begin(job, options->file, &err) < 0) {
        complain(&err);
        job->status = error_status(&err);
        error_clear(&err);
        leave(job);
    }
    while (!job->over) {
        uv_run(&job->own.loop, UV_RUN_DEFAULT);
    }
    status = job->status;
    if (!job->reading) {
        own_sessions_finish(&job->own);
        free(job);
    }
    return status;
}
