#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/base/log.h"
#include "backends/base/wipe.h"
#include "backends/share.h"
#include "mcp/cloud_share.h"
#include "mcp/cmd.h"
#include "mcp/one_run.h"
#include "mcp/print_run.h"
#include "mcp/secrets.h"

/* `cellblock run`: what goes in and what comes out of it; how it is done is one_run.c's. */
struct job {
    struct one_run run;
    const struct options *options;
    const json_t *table; /* the config's secrets */
    json_t *secrets;     /* those of the environment, once they are read; NULL: it has none */
    json_t *env;
    struct mask_stream masks[2]; /* by enum stream */
    struct log *log;
    char *code;
    size_t code_size;
    bool unheard; /* nobody reads our standard output any more */
    int status;
};

/* --- what it says --- */

static void to_stdout(void *data, const char *bytes, size_t size)
{
    struct job *job = data;

    if (!job->unheard && !print_bytes(STDOUT_FILENO, bytes, size)) {
        job->unheard = true;
        one_run_stop(&job->run, SIGPIPE);
    }
}

static void to_stderr(void *data, const char *bytes, size_t size)
{
    (void)data;
    print_bytes(STDERR_FILENO, bytes, size);
}

static void on_output(void *data, enum stream stream, const char *bytes, size_t size)
{
    struct job *job = data;

    mask_stream_write(&job->masks[stream], bytes, size,
                      stream == STREAM_STDOUT ? to_stdout : to_stderr, job);
}

static void on_display(void *data, const struct display *display)
{
    print_display(on_output, data, display);
}

static void on_note(void *data, const char *text)
{
    print_note(on_output, data, text);
}

static void on_waiting(void *data, const char *what)
{
    struct job *job = data;

    log_write(job->log, LOG_LEVEL_INFO, "%s", what);
}

static bool is_shell_name(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot && (strcasecmp(dot, ".sh") == 0 || strcasecmp(dot, ".bash") == 0);
}

/* Where `source` leads, opened; *ret_resolved is to be freed. -1 with `err`. */
static int open_source(const char *source, char **ret_resolved, struct error *err)
{
    char *resolved = realpath(source, NULL);
    int fd = resolved ? open(resolved, O_PATH | O_CLOEXEC) : -1;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set_code(err, ERROR_NOT_FOUND, errno, "share %.200s", source);
    } else if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
        error_set(err, ERROR_INVALID, "share %.200s is neither a file nor a directory", source);
    } else {
        *ret_resolved = resolved;
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(resolved);
    return -1;
}

/* The owner of the machine named the source: any path will do. */
static int add_share(struct job *job, enum share_type type, const char *source, const char *dest,
                     bool read_only, struct error *err)
{
    char *normal = NULL;
    char *resolved = NULL;
    int fd;

    if (share_check_dest(dest, &normal, err) < 0) {
        return -1;
    }
    fd = open_source(source, &resolved, err);
    if (fd >= 0) {
        struct share *share = share_new(type, fd, resolved, normal, read_only);

        if (share) {
            job->run.shares[job->run.share_count++] = share;
        } else {
            fd = error_set_code(err, ERROR_INTERNAL, ENOMEM, "share %.200s", source);
        }
    }
    free(resolved);
    free(normal);
    return fd < 0 ? -1 : 0;
}

static int add_bucket(struct job *job, const json_t *object, const char *dest, bool read_only,
                      struct error *err)
{
    char *normal = NULL;
    struct share *share;

    if (share_check_dest(dest, &normal, err) < 0) {
        return -1;
    }
    share = cloud_share_new(object, normal, read_only, err);
    free(normal);
    if (!share) {
        return -1;
    }
    job->run.shares[job->run.share_count++] = share;
    return 0;
}

static int open_configured_shares(struct job *job, struct error *err)
{
    size_t index;
    json_t *share;

    json_array_foreach(job->run.env->shares, index, share)
    {
        const char *type = json_string_value(json_object_get(share, "type"));
        const char *dest = json_string_value(json_object_get(share, "dest"));
        bool read_only = !json_is_false(json_object_get(share, "read_only"));
        int r = strcmp(type, "cloud") == 0
                    ? add_bucket(job, share, dest, read_only, err)
                    : add_share(job, strcmp(type, "mount") == 0 ? SHARE_MOUNT : SHARE_COPY,
                                json_string_value(json_object_get(share, "source")), dest,
                                read_only, err);

        if (r < 0) {
            return error_wrap(err, "environment %s", job->run.env->name);
        }
    }
    return 0;
}

static int open_named_shares(struct job *job, struct error *err)
{
    for (size_t i = 0; i < job->options->share_count; i++) {
        char *source;
        char *dest;
        bool read_only;
        int status;

        if (options_split_share(job->options->shares[i], &source, &dest, &read_only, err) < 0) {
            return -1;
        }
        status = add_share(job, SHARE_MOUNT, source, dest, read_only, err);
        free(source);
        free(dest);
        if (status < 0) {
            return -1;
        }
    }
    return 0;
}

static int open_shares(struct job *job, struct error *err)
{
    job->run.shares = calloc(job->options->share_count + json_array_size(job->run.env->shares) + 1,
                             sizeof(struct share *));
    if (!job->run.shares) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "shares");
    }
    return open_configured_shares(job, err) < 0 ? -1 : open_named_shares(job, err);
}

/* Python's own readers skip the mark that some editors put first; so do we. */
static void skip_byte_order_mark(struct job *job)
{
    if (job->code_size >= 3 && memcmp(job->code, "\xEF\xBB\xBF", 3) == 0) {
        job->code_size -= 3;
        memmove(job->code, job->code + 3, job->code_size);
    }
}

static int read_code(struct job *job, struct error *err)
{
    const char *path = job->options->file;
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    json_t *check;

    if (fd < 0) {
        return error_set_code(err, ERROR_INVALID, errno, "%.200s cannot be opened", path);
    }
    job->code = read_code_of(fd, &job->code_size, err);
    if (!is_stdin) {
        close(fd);
    }
    if (!job->code) {
        return error_wrap(err, "%.200s", is_stdin ? "standard input" : path);
    }
    skip_byte_order_mark(job);
    check = json_stringn(job->code, job->code_size);
    if (!check) {
        return error_set(err, ERROR_INVALID, "%.200s: is not UTF-8 text", path);
    }
    json_decref(check);
    return 0;
}

static void on_done(void *data, const struct outcome *outcome)
{
    struct job *job = data;

    mask_stream_flush(&job->masks[STREAM_STDOUT], to_stdout, job);
    mask_stream_flush(&job->masks[STREAM_STDERR], to_stderr, job);
    if (!job->unheard) {
        print_outcome(on_output, job, outcome); /* through the mask as well */
    }
    mask_stream_flush(&job->masks[STREAM_STDERR], to_stderr, job);
    job->status = outcome_status(outcome, job->run.signal);
}

static const struct run_events events = {
    .on_waiting = on_waiting,
    .on_output = on_output,
    .on_display = on_display,
    .on_note = on_note,
    .on_done = on_done,
};

/* The environment's secrets, into the run's variables and the masks of what it prints. */
static int read_secrets(struct job *job, struct error *err)
{
    const json_t *names = job->run.env->secrets;
    struct mask *mask;

    if (json_array_size(names) == 0) {
        return 0;
    }
    job->secrets = secrets_fetch_now(job->table, names, err);
    if (!job->secrets) {
        return -1;
    }
    job->env = json_object();
    mask = secrets_mask(job->secrets);
    mask_stream_init(&job->masks[STREAM_STDOUT], mask);
    mask_stream_init(&job->masks[STREAM_STDERR], mask);
    mask_unref(mask);
    if (!mask || !job->env || secrets_to_env(job->table, job->secrets, job->env) < 0) {
        return error_set_code(err, ERROR_INTERNAL, ENOMEM, "secrets");
    }
    return 0;
}

static int execute(struct job *job, struct error *err)
{
    if (read_code(job, err) < 0 || open_shares(job, err) < 0 || read_secrets(job, err) < 0) {
        return -1;
    }
    job->run.request = (struct run_request){
        .id = "r-00000001",
        .language = is_shell_name(job->options->file) ? "shell" : "python",
        .code = job->code,
        .code_size = job->code_size,
        .env = job->env,
        .timeout_seconds = job->run.env->timeout_seconds,
    };
    return one_run_execute(&job->run, err);
}

static void release(struct job *job)
{
    for (size_t i = 0; i < job->run.share_count; i++) {
        share_free(job->run.shares[i]);
    }
    free(job->run.shares);
    json_decref(job->env);
    wipe_texts(job->secrets);
    mask_stream_deinit(&job->masks[STREAM_STDOUT]);
    mask_stream_deinit(&job->masks[STREAM_STDERR]);
    free(job->code);
    log_free(job->log);
}

int cmd_run(const struct options *options, const struct config *config)
{
    struct job job = {.options = options,
                      .table = config->secrets,
                      .log = log_new(STDERR_FILENO, config->log_level)};
    struct error err = {0};

    job.run.env = config->default_environment;
    job.run.events = &events;
    job.run.data = &job;
    signal(SIGPIPE, SIG_IGN);
    if (execute(&job, &err) < 0) {
        complain(&err);
        job.status = job.run.signal ? STATUS_BY_SIGNAL + job.run.signal : error_status(&err);
        error_clear(&err);
    }
    release(&job);
    return job.status;
}
