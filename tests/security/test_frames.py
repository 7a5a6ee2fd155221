"""Attacks on the server through what it reads: frames, displays, output, descriptors."""

import base64
import time

import pytest
from attack import fill, server
from support import processes

SERVER_KIB = 400 * 1024  # a bound that every attack has to stay below

FORGE = '''
import base64, json, stat, threading
for fd in range(3, 1024):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            FD = fd
    except OSError:
        pass
def raw(data):
    view = memoryview(data)
    while view:
        view = view[os.write(FD, view):]
def frame(kind, payload, size=None):
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    raw(struct.pack("<IB", len(data) if size is None else size, kind) + data)
def display(data, **more):
    frame(0x13, {"kind": "display", "data": data, "metadata": {}, "display_id": None,
                 "sync": False, **more})
def done(run, **more):
    frame(0x1f, {"run": run, "status": "ok", "exit_code": None, "signal": None, "error": None,
                 "execution_count": 1, "cpu_ms": 0, "peak_rss_kib": 0, **more})
def own_run():
    at = sys._getframe()
    while at:
        for value in list(at.f_locals.values()):
            if isinstance(value, dict) and isinstance(value.get("run"), str):
                return value["run"]
            if isinstance(value, str) and value.startswith("r-") and len(value) < 16:
                return value
        at = at.f_back
    return "r-unknown"
'''
BROKEN = {
    "a run that is not going": "done('r-aaaaaaaa')",
    "a length past the cap": "frame(0x13, b'', 0xffffffff); time.sleep(1)",
    "a length just past the cap": "frame(0x13, b'x', 32 * 1024 * 1024 + 1); time.sleep(1)",
    "an unknown type": "frame(0x99, b'{}'); time.sleep(1)",
    "a frame of ours": "frame(0x01, {'run': 'r-1', 'language': 'python', 'code': '1'})"
                       "; time.sleep(1)",
    "wrong JSON": "frame(0x13, b'{nonsense'); time.sleep(1)",
    "no object": "frame(0x13, b'[1]'); time.sleep(1)",
    "deep JSON": "frame(0x13, b'[' * 1000000); time.sleep(1)",
    "deep JSON that is whole":
        "frame(0x13, b'{\"a\":' * 2000 + b'1' + b'}' * 2000); time.sleep(1)",
    "no UTF-8": "frame(0x15, b'{\"text\":\"\\xff\\xfe\"}'); time.sleep(1)",
    "fields of wrong types": "frame(0x13, {'kind': 7, 'data': [], 'metadata': 'x'})"
                             "; time.sleep(1)",
    "a second greeting": "frame(0x10, {'cellblock': 1, 'python': '3', 'implementation': 'x'})"
                         "; time.sleep(1)",
    "noise": "raw(os.urandom(1 << 20)); time.sleep(1)",
    "half a frame, then death": "raw(b'\\x10\\0\\0\\0\\x13{'); os._exit(3)",
    "half a frame, then the rest of the run": "raw(b'\\xff\\xff\\0\\0\\x13{')",
    "an empty frame": "frame(0x13, b''); time.sleep(1)",
    "wrong numbers": "done(own_run(), cpu_ms=-1, peak_rss_kib=1 << 70); time.sleep(1)",
}


@pytest.mark.only("forked")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames(fresh, name):
    """They end the run and the cell, never the server, and at once."""
    started = time.monotonic()
    result = fresh.run(fill(FORGE + BROKEN[name], {}), timeout_seconds=3)
    assert result.cause in ("lost", "killed", "exit", "timeout"), result
    assert time.monotonic() - started < 8
    assert result.parts("note") or result.parts("error"), result
    fresh.answers()
    assert processes.pss_kib(fresh.client.pid) < SERVER_KIB


@pytest.mark.only("forked", "landlock")
def test_a_false_ok_is_only_its_own(neighbours):
    """Code can say of its own run that it is done: that is worth no more than printing it. It
    changes nothing for a neighbour, and the session comes back to its senses."""
    one, two = neighbours
    two.answers()
    result = one.run(fill(FORGE + "done(own_run()); time.sleep(1.5)", {}), timeout_seconds=3)
    assert result.cause in ("ok", "lost", "killed"), result
    two.answers()
    for _ in range(4):
        if one.run("print(6 * 7)").text("stdout") == "42\n":
            break
    one.answers()


FLOODS = {
    "displays": "for i in range(200000): display({'text/plain': 'x' * 50})",
    "updates": "for i in range(100000): display({'text/plain': 'x'}, kind='update',"
               " display_id='d%d' % i)",
    "notes": "for i in range(200000): frame(0x15, {'text': 'note' * 100})",
    "clears": "for i in range(200000): frame(0x14, {'wait': bool(i % 2), 'sync': False})",
    "big displays": "for i in range(30): display({'text/plain': 'x' * 5000000})",
    "big images": "for i in range(10): display({'image/png': base64.b64encode("
                  "b'\\x89PNG\\r\\n\\x1a\\n' + bytes(9000000)).decode()})",
    "many types": "display({'text/x-%d' % i: 'x' * 1000 for i in range(250)})",
    "long names": "display({'text/' + 'x' * 1000000: 'x', 'text/plain': 'x'})",
    "long traceback": "raise ValueError('x' * 20000000)",
    "long error name": "raise type('E' * 1000000, (Exception,), {})",
    "long result": "print(end='')\n'x' * 20000000",
}


@pytest.mark.only("forked")
@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_frames(fresh, name):
    """However much comes, the result stays small, the server too, and the session goes on."""
    result = fresh.run(fill(FORGE + FLOODS[name], {}), timeout_seconds=20)
    assert len(str(result.raw)) < 40e6, len(str(result.raw))
    assert sum(len(b.get("text", "")) for b in result.content) < 200000, name
    assert processes.pss_kib(fresh.client.pid) < SERVER_KIB
    assert "output" not in (result.cause or ""), result
    fresh.answers()


PNG = b"\x89PNG\r\n\x1a\n"
KINDS = {"image/png": PNG, "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8",
         "image/webp": b"RIFF"}


@pytest.mark.only("forked")
def test_forged_images(fresh):
    """What is called an image and is none is never handed on as one."""
    html, svg = b"<html><script>alert(1)</script></html>", b"<svg onload='alert(1)'/>"
    for wrong in (html, svg, b"", b"\x89PNG", b"GIF", b"MZ" + bytes(100), b"%PDF-1.4"):
        for mime in KINDS:
            result = fresh.run(fill(FORGE + "display({@mime@: @data@})", {
                "mime": mime, "data": base64.b64encode(wrong).decode()}))
            assert not result.images(), (mime, wrong, result)
    for data in ("not base64 !!", "A" * 7, "\0\0", "=" * 100):
        result = fresh.run(fill(FORGE + "display({'image/png': @data@})", {"data": data}))
        assert not result.images(), result
    # A real one goes through (the control), named for what it is.
    result = fresh.run(fill(FORGE + "display({'image/png': @data@})", {"data": base64.b64encode(
        PNG + bytes(64)).decode()}))
    for image in result.images():
        assert base64.b64decode(image["data"]).startswith(KINDS[image["mimeType"]])


@pytest.mark.only("forked")
def test_names_of_types_are_not_believed(fresh):
    """A MIME type with line ends, NULs or another type inside goes nowhere as such."""
    for mime in ("image/png\r\nX: y", "text/html\0", "", "x" * 5000, "image/svg+xml",
                 "application/x-evil", "image/png; charset=<script>"):
        result = fresh.run(fill(FORGE + "display({@mime@: 'PHNjcmlwdD4=', 'text/plain': 'plain'})",
                                {"mime": mime}))
        for block in result.content:
            assert block["type"] != "image", (mime, result)
            kind = block.get("resource", {}).get("mimeType", "")
            assert "\r" not in kind and "\0" not in kind and len(kind) < 256
    fresh.answers()


DESCRIPTORS = {
    "closes all": "os.closerange(0, 1024)",
    "closes all but the standard ones": "os.closerange(3, 1024)",
    "closes stdout and stderr": "os.close(1); os.close(2)",
    "replaces all": "n = os.open('/dev/null', os.O_RDWR)\n"
                    "for fd in range(1024):\n    try: os.dup2(n, fd)\n    except OSError: pass",
    "replaces all by a pipe": "r, w = os.pipe()\nfor fd in range(1024):\n"
                              "    if fd not in (r, w):\n        try: os.dup2(w, fd)\n"
                              "        except OSError: pass",
    "writes to all": "for fd in range(1024):\n    try: os.write(fd, b'garbage' * 1000)\n"
                     "    except OSError: pass",
    "reads from all": "for fd in range(3, 1024):\n    try:\n        os.set_blocking(fd, False)\n"
                      "        os.read(fd, 100000)\n    except OSError: pass",
    "shuts the socket": "for fd in range(3, 1024):\n    try:\n"
                        "        socket.socket(fileno=os.dup(fd)).shutdown(2)\n"
                        "    except OSError: pass",
    "swaps stdout and the socket": "fds = [fd for fd in range(3, 1024) if os.path.exists("
                                   "'/proc/self/fd/%d' % fd)]\nfor fd in fds: os.dup2(1, fd)\n"
                                   "print('{}' * 100)",
}


@pytest.mark.parametrize("name", DESCRIPTORS)
@pytest.mark.only("forked", "landlock")
def test_descriptors(fresh, name):
    """Whatever the code does to its descriptors: the run ends, in time, the session goes on."""
    started = time.monotonic()
    result = fresh.run(fill(DESCRIPTORS[name], {}), timeout_seconds=3)
    assert time.monotonic() - started < 10, result
    assert result.cause in ("ok", "lost", "killed", "exit", "timeout", "error"), result
    good = 0
    for _ in range(6):  # a run may find the stream that an earlier one broke
        good = good + 1 if fresh.run("print(6 * 7)").text("stdout") == "42\n" else 0
        if good == 2:
            break
    fresh.answers()


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.only("forked", "landlock")
def test_output_without_end(fresh, variant, stream):
    """No newline, no pause: cut, timed out, small in the server."""
    result = fresh.run(f"import os\ndata = b'x' * 65536\nwhile True:\n    os.write({stream}, data)",
                       timeout_seconds=1)
    # Without a file system of its own the file of the full output counts until the cell is ended.
    full = variant == "landlock" and "disk" in result.text("note")
    assert (result.cause == "timeout" or full) and result.outcome["truncated"], result
    assert len(str(result.raw)) < 200000
    assert processes.pss_kib(fresh.client.pid) < SERVER_KIB
    fresh.answers()


@pytest.mark.only("forked")
def test_output_of_another_run(fresh):
    """What a thread prints after its run is no part of the next one."""
    fresh.run("import threading, time\nthreading.Timer(0.4, print, ('late',)).start()")
    time.sleep(1)
    assert fresh.run("print('mine')").text("stdout") == "mine\n"


@pytest.mark.only("forked")
def test_the_full_output_goes_nowhere_else(fresh, target):
    """The file of a long output is the server's to write: not through what the code put there."""
    folder = target.shares / "taken"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    assert not fresh.share(folder, "/data/taken", "mount", read_only=False).is_error
    for trap in ("os.symlink('/data/taken', '.cellblock')", "os.mkfifo('.cellblock')",
                 "open('.cellblock', 'w').close()", "os.mkdir('.cellblock', 0)"):
        result = fresh.run(fill("import shutil\nos.chdir('/workspace')\n"
                                "os.path.isdir('.cellblock') and not os.path.islink('.cellblock')"
                                " and (os.chmod('.cellblock', 0o700), shutil.rmtree('.cellblock'))"
                                "\nos.path.lexists('.cellblock') and os.unlink('.cellblock')\n"
                                f"{trap}\nprint('x' * 300000)", {}), timeout_seconds=10)
        assert result.cause == "ok" and result.outcome["truncated"], result
        assert not list(folder.iterdir()), trap
    fresh.answers()


@pytest.mark.only("forked")
def test_a_client_that_does_not_read(variant):
    """A flood with progress, and nobody reads: the server stays small and ends when told."""
    with server(variant) as one:
        token = one.client.begin_tool("run_code", {"code": "while True: print('x' * 1000)",
                                                   "timeout_seconds": 3}, token="t")
        assert one.client.tool_result(token).cause == "timeout"
        assert processes.pss_kib(one.client.pid) < SERVER_KIB
        assert len(one.client.progress("t")) <= 20 * 5
