#ifndef CELLBLOCK_RUNNER_FRAME_SUPERVISOR_H
#define CELLBLOCK_RUNNER_FRAME_SUPERVISOR_H

#include "backends/kernels/runner/frame.h"

/*
 * The supervisor's own frames (supervised.h), on the same stream as those of frame.h.
 *
 * Before any frame, in this order: the bootstrap prints MARKER, its Python's version with the magic
 * number of its bytecode as a fourth part, and MARKER_END; the server sends the package as u32
 * little-endian length and a zip of sources, or of bytecode with that number, which is compressed
 * as a whole; frames follow. Nothing is sent before the marker came, so nothing that is not our
 * bootstrap ever reads it (a shell would take it for commands).
 *
 * direction      type       payload
 * to supervisor  SETUP      {"workspace":"/…"|null,"memory":bytes,"disk":bytes,"processes":int,
 *                            "rlimits":bool,"warm":bool,"start":bool,"env":{name:value}}: once,
 *                            first; 0 is no limit; "start": a START goes with it; with
 *                            "keep":{"folder":"/…","proof":"…","seconds":number} it outlives the
 *                            stream, so long from now on, and makes that folder for its socket
 * to supervisor  ATTACH     {"folder":"/…","secret":"…","pid":int}: once, first, instead of SETUP:
 *                            be a relay to the supervisor that listens there, which this process
 *                            has to be. On the socket the relay says the same once, and then
 *                            carries bytes
 * to supervisor  START      empty: make a worker; none may be there
 * to supervisor  INTERRUPT  empty: SIGINT to the worker's process group; u8: that signal to the
 *                            worker itself
 * to supervisor  KILL       empty: end the worker and all that it left; EXIT follows if one was
 *                            there
 * to supervisor  PUT        {"id":int,"dest":"/…","limit":bytes}: a share comes. dest is below the
 *                            private folder where there is one
 * to supervisor  PIECE      u32 little-endian id, then raw bytes: of a PUT its tar stream, whose
 *                            members all have one first component, the share itself; of a FILE
 *                            what it writes
 * to supervisor  PUT_END    {"id":int,"whole":bool}: that was all of it, or it is given up
 * to supervisor  FILE       an operation on files: the object of files_wire.h and "id", which no
 *                            PUT has either; "size" bytes of pieces follow
 * to supervisor  OUTPUT     {"path":"/…"|null,"after":bytes,"cap":bytes,"head":bytes,
 *                            "tail":bytes}: of the RUN that comes next, and only where HELLO had
 *                            "output". A stream of more than `after` bytes is kept at path with
 *                            ".stdout" or ".stderr" behind it, up to `cap`: a new file, below the
 *                            private folder where there is one. With a head (0: everything is
 *                            wanted) only so many of its first bytes and the last `tail` ones come
 *                            as STDOUT and STDERR, from each CLEAR on anew
 *
 * to server      HELLO      {"cellblock":1,"python":"3.11.2","implementation":"CPython",
 *                            "folder":"/…"|null,"pid":int,"output":bool}: the answer to SETUP, and
 *                            to ATTACH with
 *                            "worker":bool: what answers a START is there, or "end":"…" says what
 *                            became of it
 * to server      STARTED    {"pid":int}: the answer to START, or EXIT
 * to server      BEGUN      empty: the RUN is given to the worker; output before this frame is not
 *                            the run's
 * to server      EXIT       {"how":"code"|"signal"|"memory"|"disk"|"files"|"processes"|
 *                            "protocol"|"failed","code":int,"signal":int,"used":int,"limit":int,
 *                            "cpu_ms":int,"peak_rss_kib":int,"text":"…","changed":{…}}: the worker
 *                            ended, nothing of it is left, all it has sent went before; "changed"
 *                            as in backends/changed.h, when a run was going that had made files
 * to server      TAKEN      {"id":int,"bytes":int}: so many bytes of the pieces, in all, were used
 * to server      PUT_DONE   {"id":int,"error":null|{"kind":"exists"|"space"|"refused"|"limit"|
 *                            "invalid"|"stopped"|"internal","text":"…"}}: the answer to PUT, also
 *                            before its end
 * to server      FILE_BYTES u32 little-endian id, then raw bytes of the answer (files_wire.h)
 * to server      FILE_DONE  {"id":int,"more":bool,"error":null|{"kind":"…","text":"…",
 *                            "dest":bool}}: the end of the answer to FILE, also before its pieces'
 *                            end; with an error its bytes count for nothing
 * to server      HELD       {"stream":"stdout"|"stderr","bytes":int,"lines":int}: so much of it was
 *                            printed here and is not sent; lines are line ends
 * to server      SAMPLE     u8 stream (0 stdout, 1 stderr), then raw bytes: the newest lines of
 *                            what is not sent, to look at; at most 20 a second
 * to server      KEPT       {"stdout":int,"stderr":int}: how many bytes of each are in its file;
 *                            before the DONE or EXIT that ends the run, when there are any
 *
 * Frames of the worker (0x10–0x1f) pass unchanged; RUN, STDIN and SIGNAL pass to it. ACKs are
 * answered by the supervisor itself: it reads what was printed before it passes a frame on. Nothing
 * in a frame of the far side's is taken for granted: whatever runs there may have taken its place.
 */
enum supervisor_frame {
    FRAME_SETUP = 0x20,
    FRAME_START = 0x21,
    FRAME_INTERRUPT = 0x22,
    FRAME_KILL = 0x23,
    FRAME_PUT = 0x24,
    FRAME_PIECE = 0x25,
    FRAME_PUT_END = 0x26,
    FRAME_FILE = 0x27,
    FRAME_ATTACH = 0x28,
    FRAME_OUTPUT = 0x29,
    FRAME_HELLO = 0x30,
    FRAME_STARTED = 0x31,
    FRAME_BEGUN = 0x32,
    FRAME_EXIT = 0x33,
    FRAME_TAKEN = 0x34,
    FRAME_PUT_DONE = 0x35,
    FRAME_FILE_BYTES = 0x36,
    FRAME_FILE_DONE = 0x37,
    FRAME_HELD = 0x38,
    FRAME_SAMPLE = 0x39,
    FRAME_KEPT = 0x3a,
};

enum {
    FRAME_SUPERVISOR_VERSION = 1,
    FRAME_SUPERVISOR_CAP = 64 * 1024, /* of those that the supervisor itself makes */
    FRAME_PUT_WINDOW = 1024 * 1024,   /* bytes of pieces that are sent and not taken yet */
};

#define FRAME_MARKER                                                                               \
    "\x02"                                                                                         \
    "cellblock-stream-1 "
#define FRAME_MARKER_END '\x03'

#endif
