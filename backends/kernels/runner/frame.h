#ifndef CELLBLOCK_RUNNER_FRAME_H
#define CELLBLOCK_RUNNER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/base/buffer.h"

/*
 * The runner's frames, over any duplex byte stream between the server and a worker.
 *
 *   u32 length   little-endian, of the payload only
 *   u8  type     enum frame_type
 *   payload      JSON (UTF-8, one object) unless the table says raw
 *
 * direction   type     payload
 * to worker   RUN      {"run":"r-…","language":"python"|"shell","code":"…","stdin":"…"|null,
 *                       "env":{name:value}|null}, and of a command "argv":["…"] instead of language
 *                       and code ("python":true: of the worker's own interpreter), "workdir":"…",
 *                       "stdin_open":true, where there is one; "folder":"…": the worker goes
 *                       there before its first run, and makes it when it is missing
 * to worker   ACK      empty: the answer to a frame with "sync":true, when it has been taken in
 * to worker   STDIN    raw: u8 1 for the end of it or 0, u8 size of the run's id, the id, then more
 *                       stdin of that run, which said "stdin_open"
 * to worker   SIGNAL   {"run":"r-…","signal":int}: for the process group of that run, a command
 * to server   GREETING {"cellblock":1,"python":"3.11.2","implementation":"CPython",
 *                       "ipython":"8.5.0"|null}: once, first
 * to server   STDOUT   raw bytes (only where the place has no pipes of its own for them)
 * to server   STDERR   raw bytes (likewise)
 * to server   DISPLAY  {"kind":"result"|"display"|"update","data":{mime:payload},"metadata":{…},
 *                       "display_id":"…"|null,"sync":bool}
 * to server   CLEAR    {"wait":bool,"sync":bool}
 * to server   NOTE     {"text":"…"}: something the user should know, the run goes on
 * to server   DELAYED  empty: the worker gets ready for the run that is going, whose clock stands;
 *                       once in a worker's life, and only where the link says so (place.h), since
 *                       the code that is run could send it too
 * to server   BEGIN    empty: the code starts now
 * to server   DONE     {"run":"r-…","status":"ok"|"error"|"exit"|"signal"|"interrupted",
 *                       "exit_code":int|null,"signal":int|null,
 *                       "error":{"etype":"…","evalue":"…","traceback":"…"}|null,
 *                       "execution_count":int,"cpu_ms":int,"peak_rss_kib":int}: last of its run;
 *                       "changed" as in backends/changed.h, where files were made or changed
 *
 * "sync": the worker waits for an ACK before it goes on, so that text printed before and after a
 * figure stays before and after it though text travels by another way. Only the thread that runs
 * the code, while it runs, asks for it. SIGNAL is taken while a command goes on, STDIN also while
 * code does; those of a run that is not going are dropped.
 *
 * 0x05 is the supervisor's to its worker alone: a copy of both goes on elsewhere, and random
 * numbers are seeded anew.
 *
 * The version is GREETING.cellblock. Everything is checked by whoever receives it; the server takes
 * nothing for granted, since the code that is run can write to the worker's end as well.
 */
enum frame_type {
    FRAME_RUN = 0x01,
    FRAME_ACK = 0x02,
    FRAME_STDIN = 0x03,
    FRAME_SIGNAL = 0x04,
    FRAME_GREETING = 0x10,
    FRAME_STDOUT = 0x11,
    FRAME_STDERR = 0x12,
    FRAME_DISPLAY = 0x13,
    FRAME_CLEAR = 0x14,
    FRAME_NOTE = 0x15,
    FRAME_DELAYED = 0x16,
    FRAME_BEGIN = 0x17,
    FRAME_DONE = 0x1f,
    /* Of the supervisor (supervised.h), in frame_supervisor.h. */
    FRAME_SUPERVISOR_FIRST = 0x20,
    FRAME_SUPERVISOR_LAST = 0x3f,
};

enum {
    FRAME_VERSION = 1,
    FRAME_HEADER = 5,
    FRAME_PAYLOAD_CAP = 32 * 1024 * 1024, /* of any frame, in both directions */
};

struct frame {
    uint8_t type;
    const char *payload; /* not terminated */
    size_t size;
};

/* Writes the header of a frame with `size` bytes of payload into `out`. size <= FRAME_PAYLOAD_CAP.
 */
void frame_header(unsigned char out[FRAME_HEADER], enum frame_type type, size_t size);

/*
 * Takes the next whole frame from the front of `in` without consuming it. Returns 1 and *ret (which
 * points into the buffer; consume FRAME_HEADER + size when done), 0 when more bytes are needed, or
 * -EPROTO for a type that the server does not know or -EMSGSIZE for a length past the cap. Never
 * reads past the buffer.
 */
int frame_next(const struct buffer *in, struct frame *ret);

#endif
