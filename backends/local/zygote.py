"""Makes cells: the process that is kept warm, and the first process of a solo cell.

Started by the server as `python3 -I zygote.py RUNTIME_DIR MODE`, MODE `zygote` or `solo`, with
its control socket (SOCK_SEQPACKET) as file descriptor 3. RUNTIME_DIR holds libcell.so and
cellblock.zip, the worker.

Each message on the socket is a request for one cell: a struct cell_spec and its paths (see cell.h),
passed on to libcell as they are, with four descriptors. A zygote answers nothing: the cell speaks
for itself on its status socket. It says `ready` on the control socket once it can take requests,
and ends when that socket does. A solo process serves one request and becomes that cell.

No code of the user's ever runs in the zygote itself.
"""
import array
import ctypes
import os
import socket
import sys

CONTROL_FD = 3
FD_COUNT = 4
MESSAGE_CAP = 64 * 1024
FILES_OFFSET = 28  # of cell_spec.files, u32


def load_library(runtime):
    """Opens libcell.so and prepares it; raises OSError. PyDLL: the GIL stays held over the fork
    (PyPy has no PyDLL, and takes its lock again in the child)."""
    library = getattr(ctypes, "PyDLL", ctypes.CDLL)(os.path.join(runtime, "libcell.so"))
    library.cell_spawn.argtypes = [ctypes.c_char_p, ctypes.c_size_t,
                                   ctypes.POINTER(ctypes.c_int)]
    result = library.cell_prepare()
    if result < 0:
        raise OSError(-result, "cell_prepare: " + os.strerror(-result))
    return library


def receive(control):
    """Returns (request bytes, list of descriptors), or (b"", []) when the server is gone."""
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(MESSAGE_CAP, socket.CMSG_SPACE(FD_COUNT * 4))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def hooks():
    """Python's own fork hooks, as (before, after_parent, after_child); without them where the
    interpreter has no C API."""
    try:
        api = ctypes.pythonapi
        return api.PyOS_BeforeFork, api.PyOS_AfterFork_Parent, api.PyOS_AfterFork_Child
    except AttributeError:
        return (lambda: None,) * 3


def spawn(library, request, fds):
    """Makes a cell: returns its init's pid, 0 in the worker, or -errno."""
    before, after_parent, after_child = hooks()
    numbers = (ctypes.c_int * FD_COUNT)(*fds)
    before()
    result = library.cell_spawn(request, len(request), numbers)
    (after_child if result == 0 else after_parent)()
    return result


def become_worker(worker, control, request):
    """Runs the worker on the cell's frames socket; never returns."""
    control.detach()  # libcell has closed the descriptor
    files = int.from_bytes(request[FILES_OFFSET:FILES_OFFSET + 4], "little")
    try:
        worker.serve(files - 1)
    finally:
        os._exit(0)


def serve(control, library, worker, once):
    """Takes requests until the server is gone."""
    while True:
        request, fds = receive(control)
        if not request or len(fds) != FD_COUNT:
            return
        result = spawn(library, request, fds)
        if result == 0:
            become_worker(worker, control, request)
        for descriptor in fds:
            os.close(descriptor)
        if once:
            return


def main(argv):
    """argv: [runtime directory, mode]. Returns the exit status."""
    runtime, mode = argv
    control = socket.socket(fileno=CONTROL_FD)
    library = load_library(runtime)
    sys.path.insert(0, os.path.join(runtime, "cellblock.zip"))
    import cellblock_worker as worker

    worker.prepare(warm=mode == "zygote")
    if mode == "zygote":
        control.send(b"ready")
    serve(control, library, worker, mode == "solo")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
