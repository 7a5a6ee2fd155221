#ifndef CELLBLOCK_CELL_H
#define CELLBLOCK_CELL_H

#include <stddef.h>
#include <stdint.h>

/*
 * libcell.so: makes one cell, a walled-in process tree, out of a Python process. It is loaded by
 * zygote.py through ctypes, inside bubblewrap; the server shares only this header with it.
 *
 * Theory of operation
 *
 *   zygote (or a solo process)       calls cell_prepare once, then cell_spawn for each request
 *   └─ cell init                     C only: makes namespaces and mounts, watches, reports, ends
 *      └─ worker                     returns to Python, behind all walls; the only one that runs
 *                                    user code
 *
 * A request comes over a SOCK_SEQPACKET socket: one struct cell_spec followed by its path list,
 * with the cell's own descriptors as SCM_RIGHTS: frames, stdout, stderr, status, in this order.
 *
 * The status socket (SOCK_SEQPACKET) is between the server and the cell init alone: reports go
 * out, orders come in. The worker's copy is closed before it runs anything, so what is said here
 * cannot be forged by the code. Its end of file means that the server is gone: the init then ends
 * the cell.
 */
enum {
    CELL_VERSION = 1,
    CELL_UID = 1000, /* of the user (and group) inside, "sandbox" */
    CELL_PATHS_CAP = 32 * 1024,
    CELL_FD_COUNT = 4,
    CELL_TEXT_SIZE = 96,
    CELL_SPARES = 16,
    CELL_SHM_BYTES = 64 * 1024 * 1024, /* /dev/shm, as Docker's default */
};

/*
 * Landlock lets a cell write below the folders that there are when its walls go up; a copy share
 * may come later, to a folder at the root that does not exist yet. So empty folders are made
 * beforehand, CELL_SPARE_FORMAT with 0 … CELL_SPARES - 1, writable ones, and a new folder at the
 * root is one of them, renamed: the rule goes with the inode.
 */
#define CELL_SPARE_FOLDER ".cellblock"
#define CELL_SPARE_FORMAT CELL_SPARE_FOLDER "/%d"

enum cell_fd {
    CELL_FD_FRAMES = 0,
    CELL_FD_STDOUT = 1,
    CELL_FD_STDERR = 2,
    CELL_FD_STATUS = 3,
};

enum cell_flag {
    CELL_NAMESPACES = 1u << 0,    /* forked: user, mount, pid, ipc, uts (and net) of its own */
    CELL_HOST_NETWORK = 1u << 1,  /* no network namespace of its own */
    CELL_PID1 = 1u << 2,          /* everything in this pid namespace belongs to the cell */
    CELL_LANDLOCK = 1u << 3,      /* hold writes to the list's writable paths */
    CELL_LANDLOCK_READ = 1u << 4, /* hold reads to the list's paths as well */
    CELL_SECCOMP = 1u << 5,
    CELL_NO_INET = 1u << 6,    /* seccomp: no AF_INET, AF_INET6 (where there is no net namespace) */
    CELL_WATCH_DISK = 1u << 7, /* no file system of its own: the watcher adds up the files */
};

/*
 * After the struct come `paths_size` bytes of entries, each one letter, a path, and NUL:
 *   'r' may be read and executed   'w' may be read, written and executed
 * (for Landlock; a path that is not there is skipped), and 'h' the home and working directory
 * (once).
 */
struct cell_spec {
    uint32_t version;      /* CELL_VERSION */
    uint32_t flags;        /* enum cell_flag */
    uint64_t memory_bytes; /* RLIMIT_DATA of a process, and the watcher's limit of the whole cell */
    uint64_t disk_bytes;   /* of the cell's root file system; without one, of a file and of all */
    uint32_t processes;    /* RLIMIT_NPROC */
    uint32_t files;        /* RLIMIT_NOFILE; the frames socket is the last one */
    uint32_t paths_size;
    uint32_t reserved;
};

enum cell_report_type {
    CELL_READY =
        1, /* from the worker, behind its walls and before any code: SCM_CREDENTIALS has its pid */
    CELL_FAILED,        /* errno in `code`, the step in `text`; the cell is gone */
    CELL_EXITED,        /* the worker ended by itself: `code` */
    CELL_SIGNALED,      /* the worker was ended by signal `code` */
    CELL_OUT_OF_MEMORY, /* `used` of `limit` bytes; the cell was ended */
    CELL_DISK_FULL,     /* likewise, only with CELL_WATCH_DISK or too many files */
};

struct cell_report {
    uint32_t type;
    int32_t code;
    uint64_t used;
    uint64_t limit;
    uint64_t cpu_ms;
    uint64_t peak_rss_kib;
    char text[CELL_TEXT_SIZE]; /* NUL-terminated */
};

enum cell_order_type {
    CELL_ORDER_INTERRUPT = 1, /* SIGINT to the worker's process group */
    CELL_ORDER_KILL,          /* end the cell; CELL_SIGNALED follows */
    CELL_ORDER_BUSY,          /* a run is going: watch closely */
    CELL_ORDER_IDLE,
    CELL_ORDER_SIGNAL, /* `number` to the worker itself */
};

struct cell_order {
    uint32_t type;
    uint32_t number;
};

/* Makes what all cells share (the system call filter). 0 or -errno. Once, before cell_spawn. */
int cell_prepare(void);

/*
 * Makes a cell. `fds` has CELL_FD_COUNT descriptors, which stay the caller's.
 *   forked (CELL_NAMESPACES): returns the init's pid in the caller, 0 in the worker, or -errno
 *   otherwise: the calling process becomes the cell init and never returns; 0 in the worker
 * In the worker fds 0, 1 and 2 are /dev/null, stdout and stderr, the frames socket is fd spec.files
 * - 1, and all others are closed. A step that fails after the fork is reported as CELL_FAILED.
 */
int cell_spawn(const struct cell_spec *spec, size_t size, const int *fds);

#endif
