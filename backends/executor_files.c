#include <stdlib.h>
#include <string.h>

#include "backends/executor_internal.h"
#include "backends/registry.h"

/*
 * One operation on a session's files. It waits until the sandbox is ready, is given to its machine,
 * and is answered by it; or it is answered here, because it cannot be done, because the machine
 * ended, because the limit passed, or because the executor is closed.
 *
 * What was answered here while a machine still has it stays in the list until the machine is done
 * with it as well, which is at the latest when that is closed: it counts against the cap until
 * then, so that a machine that never answers is not given ever more.
 */
struct filing {
    struct filing *next;
    struct executor *executor;
    struct file_request request; /* its texts are owned, until a machine has it */
    const struct box *box;       /* whose machine has it; NULL: it waits, or is only to be told */
    uint64_t due_ns;             /* when its limit passes */
    struct error error;          /* an answer that is due */
    file_done done;              /* NULL: answered */
    void *data;
};

/* ---- memory ---- */

static void drop_request(struct filing *f)
{
    free((char *)f->request.path);
    free((char *)f->request.dest);
    free((void *)f->request.bytes);
    f->request = (struct file_request){0};
}

static void filing_free(struct filing *f)
{
    drop_request(f);
    error_clear(&f->error);
    free(f);
}

static void filing_unlink(struct filing *f)
{
    struct executor *e = f->executor;

    for (struct filing **at = &e->files; *at; at = &(*at)->next) {
        if (*at == f) {
            *at = f->next;
            e->file_count--;
            return;
        }
    }
}

static void filing_append(struct filing *f)
{
    struct filing **end = &f->executor->files;

    while (*end) {
        end = &(*end)->next;
    }
    *end = f;
    f->executor->file_count++;
}

static int copy_request(struct filing *f, const struct file_request *from)
{
    struct file_request *to = &f->request;
    void *bytes = from->size > 0 ? malloc(from->size) : NULL;

    *to = *from;
    to->path = strdup(from->path);
    to->dest = from->dest ? strdup(from->dest) : NULL;
    to->bytes = bytes;
    if (to->length > FILE_READ_CAP) {
        to->length = FILE_READ_CAP;
    }
    if (!to->path || (from->dest && !to->dest) || (from->size > 0 && !bytes)) {
        return -1;
    }
    if (bytes) {
        memcpy(bytes, from->bytes, from->size);
    }
    return 0;
}

/* ---- answers ---- */

/* From the loop, or from `soon`: here the caller may do anything, also close the executor. */
static void tell(struct filing *f, const struct file_reply *reply, const struct error *err)
{
    file_done done = f->done;

    f->done = NULL;
    if (done) {
        done(f->data, reply, err);
    }
}

static void fail_soon(struct filing *f, enum error_kind kind, const char *message)
{
    if (f->done && f->error.kind == ERROR_NONE) {
        (void)error_set(&f->error, kind, "%s", message);
        executor_soon(f->executor);
    }
}

/* The first answer that is due; out of the list, unless a machine still has it. */
static struct filing *take_due(struct executor *e)
{
    for (struct filing **at = &e->files; *at; at = &(*at)->next) {
        struct filing *f = *at;
        if (f->error.kind == ERROR_NONE || !f->done) {
            continue;
        }
        if (!f->box) {
            *at = f->next;
            e->file_count--;
        }
        return f;
    }
    return NULL;
}

void executor_answer_files(struct executor *e)
{
    struct filing *f;

    while ((f = take_due(e))) {
        bool whole = !f->box;
        struct error err = f->error;
        f->error = (struct error){0};
        tell(f, NULL, &err);
        error_clear(&err);
        if (whole) {
            filing_free(f);
        }
    }
}

/* ---- limits ---- */

static void on_limit(uv_timer_t *timer);

/* The list is in the order of coming, and one that comes later is given later. */
static void arm(struct executor *e)
{
    uint64_t now = uv_hrtime();

    for (const struct filing *f = e->files; f && !e->handles_closing; f = f->next) {
        if (f->box && f->done && f->error.kind == ERROR_NONE) {
            uint64_t ms = f->due_ns > now ? (f->due_ns - now) / 1000000 + 1 : 0;
            uv_update_time(e->place->loop);
            uv_timer_start(&e->file_timer, on_limit, ms, 0);
            return;
        }
    }
    uv_timer_stop(&e->file_timer);
}

static void on_limit(uv_timer_t *timer)
{
    struct executor *e = timer->data;
    uint64_t now = uv_hrtime();
    char text[160];

    (void)snprintf(text, sizeof(text),
                   "the sandbox did not answer a request about its files within %g s; it may still "
                   "be done. Try again, or call reset_session to have a new sandbox",
                   (double)e->limits.file / 1000);
    for (struct filing *f = e->files; f; f = f->next) {
        if (f->box && f->due_ns <= now) {
            fail_soon(f, ERROR_TIMEOUT, text);
        }
    }
    arm(e);
}

void executor_file_timer_init(struct executor *e)
{
    uv_timer_init(e->place->loop, &e->file_timer);
    e->file_timer.data = e;
}

/* ---- the machine ---- */

static void on_answer(void *data, const struct file_reply *reply, const struct error *err)
{
    struct filing *f = data;
    struct executor *e = f->executor;

    filing_unlink(f);
    if (f->error.kind != ERROR_NONE) {
        reply = NULL; /* its answer is decided, and only not told yet */
        err = &f->error;
    }
    if (!e->closing) {
        arm(e);
    }
    tell(f, reply, err);
    filing_free(f);
}

static void give(struct executor *e, struct filing *f)
{
    f->box = e->box;
    f->due_ns = uv_hrtime() + e->limits.file * 1000000;
    e->place->ops->machine_file(e->box->machine, &f->request, on_answer, f);
    drop_request(f);
}

static bool waits(const struct filing *f)
{
    return !f->box && f->done && f->error.kind == ERROR_NONE;
}

void executor_next_files(struct executor *e)
{
    bool given = false;

    if (e->closing || e->state != EXECUTOR_READY) {
        return;
    }
    for (struct filing *f = e->files; f; f = f->next) {
        if (waits(f)) {
            give(e, f);
            given = true;
        }
    }
    if (given) {
        arm(e);
    }
}

bool executor_files_wait(const struct executor *e)
{
    for (const struct filing *f = e->files; f; f = f->next) {
        if (waits(f)) {
            return true;
        }
    }
    return false;
}

void executor_forget_files(struct executor *e, const struct box *box)
{
    for (struct filing *f = e->files; f; f = f->next) {
        if (f->box == box) {
            fail_soon(f, ERROR_LOST,
                      "the sandbox ended while this was done to its files; they are gone, and the "
                      "next request or run starts a new one");
        }
    }
}

void executor_fail_files(struct executor *e, enum error_kind kind, const char *message)
{
    for (struct filing *f = e->files; f; f = f->next) {
        if (!f->box) {
            fail_soon(f, kind, message);
        }
    }
}

void executor_abandon_files(struct executor *e)
{
    for (struct filing *f = e->files; f; f = f->next) {
        fail_soon(f, ERROR_LOST, "the session was closed before this was done to its files");
    }
}

/* ---- the contract ---- */

static int check(const struct executor *e, const struct file_request *request, struct error *err)
{
    if (e->closing) {
        return error_set(err, ERROR_LOST, "the session is being closed");
    }
    if (place_needs(e->place, CAP_FILES, "access to a session's files", err) < 0 ||
        file_request_check(request, err) < 0) {
        return -1;
    }
    if (e->file_count >= FILES_CAP) {
        return error_set(err, ERROR_LIMIT,
                         "%d requests about this session's files are going on already; wait for "
                         "one to end",
                         FILES_CAP);
    }
    return 0;
}

void executor_file(struct executor *e, const struct file_request *request, file_done done,
                   void *data)
{
    struct error err = {0};
    struct filing *f = calloc(1, sizeof(*f));

    if (!f) {
        (void)error_set(&err, ERROR_INTERNAL, "out of memory");
        done(data, NULL, &err); /* too early, which is a lesser evil than never */
        error_clear(&err);
        return;
    }
    f->executor = e;
    f->done = done;
    f->data = data;
    if (check(e, request, &f->error) == 0 && copy_request(f, request) < 0) {
        (void)error_set(&f->error, ERROR_INTERNAL, "out of memory");
    }
    filing_append(f);
    if (waits(f) && e->state == EXECUTOR_READY) {
        executor_next_files(e);
    } else {
        executor_soon(e);
    }
}
