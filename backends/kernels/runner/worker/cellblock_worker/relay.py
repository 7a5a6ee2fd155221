"""Carries the bytes between a server's stream and the supervisor that outlived the last one.

It is started in the sandbox by the server that comes back, and knows nothing of what it carries.
What it finds at the other end must be the process that the server says it is: the code, which is
of the same user, could have put a socket of its own in the place of the supervisor's.
"""

import os
import select
import socket
import sys
import time

from cellblock_worker import door
from cellblock_worker.wires import READ_SIZE, Queue, read_some

ANSWER_LIMIT = 30.0  # seconds: past the grace of a run that does not end
HIGH = 4 * READ_SIZE  # bytes that wait, past which no more are read


def _fail(text):
    sys.stderr.write(text + "\n")


def _connect(request):
    """The socket of the supervisor; None when it has been told why there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = os.path.join(str(request["folder"]), door.NAME)
    connection.settimeout(ANSWER_LIMIT)  # others may stand in the way
    try:
        connection.connect(path)
        pid, user = door.peer_of(connection)
    except OSError as error:
        _fail("nobody listens at %s: %s" % (path, error))
        return None
    if user != os.getuid() or pid != request["pid"]:
        _fail("what listens at %s is not our supervisor (process %d)" % (path, pid))
        return None
    connection.setblocking(False)
    return connection


def carry(stream_in, stream_out, request):
    """Until one of the two ends."""
    connection = _connect(request)
    if connection is None:
        return
    fd = connection.fileno()
    there, back = Queue(fd), Queue(stream_out)
    there.add(door.word(str(request["secret"]), bool(request.get("restored"))))
    limit = time.monotonic() + ANSWER_LIMIT
    try:
        _pump(stream_in, there, back, limit)
    except OSError:
        pass  # somebody has gone
    finally:
        connection.close()


def _pump(stream_in, there, back, limit):
    answered = ended = False
    while not (ended and not back.size):  # what it said last is passed on
        poll = select.poll()
        wanted = {}
        if there.size < HIGH and not ended:
            wanted[stream_in] = select.POLLIN
        if back.size < HIGH and not ended:
            wanted[there.fd] = select.POLLIN
        if there.size and not ended:
            wanted[there.fd] = wanted.get(there.fd, 0) | select.POLLOUT
        if back.size:
            wanted[back.fd] = wanted.get(back.fd, 0) | select.POLLOUT
        for fd, events in wanted.items():
            poll.register(fd, events)
        patience = None if answered else max(0, int((limit - time.monotonic()) * 1000) + 1)
        ready = dict(poll.poll(patience))
        if not answered and time.monotonic() >= limit:
            _fail("the supervisor does not answer: is another relay there?")
            return
        if stream_in in ready:
            data = read_some(stream_in)
            if data == b"":
                return
            there.add(data)
        if there.fd in ready and wanted[there.fd] & select.POLLIN:
            data = read_some(there.fd)
            answered = answered or bool(data)
            ended = data == b""
            if ended and not answered:
                _fail("the supervisor did not let us in")
            back.add(data)
        if not ended:
            there.write()
        back.write()
