#ifndef CELLBLOCK_JUPYTER_SESSION_INTERNAL_H
#define CELLBLOCK_JUPYTER_SESSION_INTERNAL_H

#include "backends/kernels/jupyter/remote.h"

/*
 * Theory of operation (for the files of this folder; others read jupyter.h).
 *
 * A session has a kernel for Python from its start, and one for each other language from its first
 * use. A Python kernel gets our helper (helper/cellblock_jupyter.py) by two requests in one breath:
 * `setup` brings the code, `hello` starts it and is answered with what the kernel is. From then on
 * a run is one execute request, and everything else (interrupt, copies, end) is asked on the
 * control channel, which works while code is running.
 *
 *   IDLE ─ start ─► STARTING ─ hello answered ─► LIVE ─ died, killed, lost ─► ENDING ─► IDLE
 *
 * Deadlines of every kind are looked at by one timer, which runs only while there are any.
 */
enum session_state {
    SESSION_IDLE,
    SESSION_STARTING,
    SESSION_LIVE,
    SESSION_ENDING, /* kernels are being ended; on_exit comes then */
};

struct jupyter;
struct put;

typedef void (*ask_answered)(void *data, json_t *content, const struct error *err);

/* A question to the helper on the control channel. */
struct ask {
    struct ask *next;
    char id[JUPYTER_ID_SIZE];
    uint64_t deadline;
    ask_answered answered;
    void *data;
};

/* A kernel of the session: one language. */
struct session_kernel {
    struct session_kernel *next;
    struct jupyter_session *session;
    char *language;        /* "python", or the name of a kernelspec */
    struct remote *remote; /* NULL until the kernelspecs are known */
    bool is_python;        /* has the helper */
    bool asking;           /* for the server's kernelspecs */
    bool hello_sent;
    bool ready;
    bool settled; /* its broadcasts since `hello` arrive: what comes now is new */
    bool threads; /* its control channel works while code runs */
    bool closing;
    bool is_shell;   /* a POSIX shell: it begins in the session's folder */
    int pid;         /* as the server's machine has it; 0: not known */
    unsigned starts; /* so often it died while it was starting */
    uint64_t start_deadline;
    uint64_t check_at; /* while it starts: is it there still? */
    char setup_id[JUPYTER_ID_SIZE], hello_id[JUPYTER_ID_SIZE];
};

struct session_link {
    struct link base;
    struct jupyter_session *session;
};

struct jupyter_session {
    struct jupyter_server *server;
    struct websocket_context *websockets;
    struct jupyter_session_events events;
    void *data;
    char *kernel_id, *kernelspec, *workspace;
    char *tag;       /* that its kernel shows; NULL: none */
    char *found;     /* id of the kernel that was left, until it has shown the tag; NULL: none */
    unsigned to_end; /* it is to be ended; seconds for it to answer */
    json_t *env;
    enum session_state state;
    struct session_kernel *kernels; /* Python's is the first */
    unsigned closing_kernels;
    char name[JUPYTER_ID_SIZE]; /* what the processes of the session are known by */
    char *folder;
    struct session_link link;
    struct jupyter *kernel; /* attached; NULL */
    struct ask *asks;
    struct put *put;
    unsigned put_number;
    unsigned file_number;
    struct machine_exit exit; /* why it is ENDING; its message is exit_message */
    char *exit_message;
    uint64_t end_deadline; /* kernels that the server has not ended by then are not waited for */
    int before;            /* pid of Python's kernel before this one */
    bool asking_begun; /* has the run begun that was sent to the kernel that died? The next says */
    char run[RUN_ID_SIZE]; /* that one */
    bool lost;             /* the server does not answer */
    uv_timer_t watch;
    uv_timer_t soon;
    bool closing;
    bool left; /* the Python kernel and the folder outlive us */
    bool saying_bye;
    bool bye_said;
    bool cleaning; /* a kernel is there only for what is left */
    unsigned open_timers;
    uint64_t close_deadline;
    void (*closed)(void *data);
    void *closed_data;
};

/* session.c */
struct session_kernel *session_python(const struct jupyter_session *s);
/* The kernel of another language, started on first use; NULL with `err`. */
struct session_kernel *session_language(struct jupyter_session *s, const char *language);
void session_watch(struct jupyter_session *s);
void session_soon(struct jupyter_session *s);
/* The machine has ended (or a start has failed): kernels are closed, then on_exit. */
void session_end(struct jupyter_session *s, enum exit_how how, int signal, bool kept,
                 const struct error *err);
void session_close_step(struct jupyter_session *s);
/* Python's kernel has answered; `begun` is the run that began last in the one before. */
void session_is_live(struct jupyter_session *s, const char *begun);

/* session_kernel.c */
struct session_kernel *session_kernel_new(struct jupyter_session *s, const char *language);
void session_kernel_start(struct session_kernel *k);
void session_kernel_close(struct session_kernel *k);
void session_kernel_failed(struct session_kernel *k, const struct error *err);

/* session_left.c */
/* What the options say of one that was left. -1 when that cannot be, or out of memory. */
int session_take_where(struct jupyter_session *s, const json_t *where);
/* Not ours to end: it was left, or has not shown that it is the one that was. */
bool session_leaves_python(const struct jupyter_session *s);
/* It has not answered in time, and is to be ended all the same: no longer one that was found. */
bool session_gives_up(struct jupyter_session *s, struct error *err);
/* The answer of the kernel that was left. -1 with `err`: it is another one. */
int session_check_tag(struct jupyter_session *s, const json_t *answer, struct error *err);

/* session_ask.c */
void session_ask(struct session_kernel *k, json_t *content_owned, const void *buffer, size_t size,
                 unsigned timeout_ms, ask_answered answered, void *data);
/* Answered with an error from the loop: there is nobody to ask. */
void session_ask_nobody(struct jupyter_session *s, ask_answered answered, void *data);
bool session_take_answer(struct jupyter_session *s, struct jupyter_message *m);
void session_fail_asks(struct jupyter_session *s, const char *why);
/* Fails those that are past their deadline; true while there are others. */
bool session_check_asks(struct jupyter_session *s, uint64_t now);

/* session_put.c */
void session_put_again(struct jupyter_session *s); /* the connection was cut and is there again */
void session_put_fail(struct jupyter_session *s, const char *why);

/* kernel.c */
/* It is freed now; a run that it was sent waits for the session's end, which tells of it. */
void kernel_target_gone(struct jupyter *j, const struct session_kernel *k);
void kernel_take_message(struct jupyter *j, struct session_kernel *k, struct jupyter_message *m);
void kernel_language_ready(struct jupyter *j, struct session_kernel *k);
void kernel_language_failed(struct jupyter *j, const struct session_kernel *k,
                            const struct error *err);
void kernel_language_died(struct jupyter *j, const struct session_kernel *k);
void kernel_connected_again(struct jupyter *j, struct session_kernel *k);
void kernel_soon(struct jupyter *j);
/* True while it waits for something that has a deadline. */
bool kernel_check(struct jupyter *j, uint64_t now);
/* The run that was sent and of which nothing was heard since; NULL when there is none. */
const char *kernel_silent_run(const struct jupyter *j);
/* Interrupts the run that is going, if one is. */
void kernel_interrupt(struct jupyter *j);

/* What the helper has kept of its run; NULL: it did not say. */
void kernel_take_kept(struct jupyter *j, json_t *content);

/* kernel_output.c: what a run puts out, as events. */
struct jupyter_output {
    const struct kernel_events *events;
    void *data;
    uint64_t got[2]; /* bytes of stdout and stderr that have arrived */
    unsigned displays;
    bool dropped; /* the server has said that it does not pass everything on */
    bool cut;     /* the connection was, after the run had been sent */
};
void output_take(struct jupyter_output *o, struct jupyter_message *m);
void output_take_content(struct jupyter_output *o, const char *type, json_t *content);

/*
 * kernel_gap.c: what a server sends before it notices that the connection has been cut is lost
 * with it. Our helper numbers what a run puts out and keeps the newest of it. After a cut, it is
 * asked for what is missing (`kept` on the control channel); what comes meanwhile waits, so that
 * the order stays. A helper that says nothing, or has not so much, is not waited for: the counts in
 * the reply say what is missing then.
 */
struct held;
struct jupyter_gap {
    uint64_t next; /* number of the message that is to come */
    bool asking;
    bool last;      /* asked when the run was over */
    bool given_up;  /* it has no more */
    unsigned tries; /* that were not answered */
    struct held *held, **held_end;
    size_t held_size;
};
void gap_begin(struct jupyter_gap *gap);
void gap_end(struct jupyter_gap *gap);
/* A message of the run that puts something out. */
void gap_take(struct jupyter_gap *gap, struct jupyter_output *o, struct session_kernel *k,
              const char *run, struct jupyter_message *m);
void gap_ask(struct jupyter_gap *gap, struct session_kernel *k, const char *run);
/* The run is over, and something is missing: is it still to come? Asks where nothing is asked. */
bool gap_may_come(struct jupyter_gap *gap, const struct jupyter_output *o, struct session_kernel *k,
                  const char *run);
/* The answer, NULL when there was none. */
void gap_take_answer(struct jupyter_gap *gap, struct jupyter_output *o, struct session_kernel *k,
                     const char *run, json_t *content);

/* Text without the escape sequences of terminals; to be freed. */
char *output_plain(const char *text);

/* kernel_reply.c: `done` is what our helper says of a run, NULL where there is no helper. */
/* Has everything arrived that was put out? */
bool reply_is_complete(const struct jupyter_output *o, json_t *done);
/* The run's notes, and what is missing. */
void reply_tell(const struct jupyter_output *o, json_t *done);
/* Fills `reply` with texts of `content`; what comes back is its traceback, to be freed, or NULL. */
char *reply_read(json_t *content, json_t *done, struct kernel_reply *reply);

#endif
