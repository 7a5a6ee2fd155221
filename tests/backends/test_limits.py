"""Memory, disk, processes, open files: what is met, what is said, and that it goes on."""

import re

import pytest

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def small(launch):
    """A server whose sandboxes are small."""
    with launch(environment={"memory_mib": 256, "disk_mib": 32, "processes": 64}) as client:
        yield client


@pytest.fixture
def tight(small):
    """A session in a small sandbox."""
    from box import Box

    one = Box(small)
    yield one
    one.end()


@pytest.mark.needs("memory_limit", "walls")
class TestMemory:
    @pytest.mark.needs("stateful")
    def test_one_process_gets_a_memory_error(self, tight):
        tight.ok("kept = 1")
        result = tight.run("x = bytearray(400 * 1024 * 1024)")
        assert result.cause == "error", result
        assert result.outcome["error"]["etype"] == "MemoryError"
        assert tight.value("kept") == "1"

    def test_a_gigabyte_with_the_defaults(self, py):
        result = py.run("x = bytearray(1200 * 1024 * 1024)")
        assert (result.cause, result.outcome["error"]["etype"]) == ("error", "MemoryError")
        assert py.value("1 + 1") == "2"

    def test_small_pieces_in_a_loop(self, tight):
        result = tight.run("hog = []\nwhile True: hog.append(bytearray(1024 * 1024))")
        if result.cause == "error":
            assert result.outcome["error"]["etype"] == "MemoryError"
        else:
            assert result.cause == "out_of_memory" and "256" in result.text("note")
        tight.run("hog = None\nimport gc; gc.collect(); None")
        assert tight.value("1 + 1") == "2"

    def test_a_family_of_processes(self, tight):
        tight.ok("kept = 1")
        code = """
            import os, time
            for n in range(12):
                if os.fork() == 0:
                    hog = bytearray(b'x') * (60 * 1024 * 1024)
                    time.sleep(30)
                    os._exit(0)
            time.sleep(30)"""
        result = tight.run(code)
        assert result.cause == "out_of_memory" and result.is_error, result
        assert "256" in result.text("note"), result
        assert result.outcome["duration_ms"] < 20_000
        assert tight.value("1 + 1") == "2"

    def test_what_fits_works(self, tight):
        assert tight.value("len(bytearray(50 * 1024 * 1024))") == str(50 * MIB)


@pytest.mark.needs("disk_limit", "walls")
class TestDisk:
    FILL = ("with open('/workspace/fill', 'wb') as f:\n"
            "    for n in range(100): f.write(bytes(1024 * 1024)); f.flush()")

    @pytest.mark.needs("stateful")
    def test_a_full_disk_is_said_and_the_session_goes_on(self, tight):
        tight.ok("kept = 1")
        result = tight.run(self.FILL)
        assert result.cause in ("error", "killed"), result
        if result.cause == "error":
            assert result.outcome["error"]["etype"] == "OSError"
            # Which of the two says whether the limit is the disk's or the file's.
            assert re.search("No space left|File too large", result.text("error"))
            assert tight.value("kept") == "1"
            tight.ok("import os; os.remove('/workspace/fill')")
        else:
            assert "32" in result.text("note") or "disk" in result.text("note"), result
        tight.ok("with open('/workspace/again', 'wb') as f: f.write(bytes(1024 * 1024))")

    def test_long_output_on_a_full_disk_still_has_head_and_tail(self, tight):
        result = tight.run(f"try:\n    exec({self.FILL!r})\nexcept OSError: pass\n"
                           "for n in range(20000): print('line', n)")
        if result.cause == "ok":
            text = result.text("stdout")
            assert text.startswith("line 0\n") and text.endswith("line 19999\n")
        assert tight.value("1 + 1") == "2"


@pytest.mark.needs("process_limit", "walls")
class TestProcesses:
    @pytest.mark.needs("plain_user")  # root forks on, until a watcher ends it
    def test_forking_without_end(self, tight):
        code = """
            import os, time
            made = 0
            try:
                while True:
                    if os.fork() == 0:
                        time.sleep(20)
                        os._exit(0)
                    made += 1
            except OSError as error:
                print(made, type(error).__name__)"""
        made, name = tight.printed(code).split()
        assert name == "BlockingIOError" and 8 < int(made) <= 64

    def test_a_bomb_ends_and_the_next_session_works(self, boxes, tight):
        tight.run(":(){ :|:& };:", language="shell", timeout_seconds=2)
        result = tight.run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
                           timeout_seconds=2)
        assert result.is_error
        assert boxes().value("1 + 1") == "2"
        assert not tight.reset().is_error
        assert tight.value("1 + 1") == "2"

    def test_threads_without_end(self, tight):
        code = """
            import threading, time
            stop = threading.Event()
            try:
                for n in range(5000):
                    threading.Thread(target=stop.wait, args=(20,), daemon=True).start()
            except RuntimeError as error:
                print('stopped', n < 5000)
            stop.set()"""
        assert tight.printed(code, timeout_seconds=40) == "stopped True\n"
        assert tight.value("1 + 1") == "2"


@pytest.mark.needs("walls")
class TestFiles:
    def test_too_many_open_files(self, py):
        code = """
            import os
            held = []
            try:
                while len(held) < 100_000:
                    held.append(os.open('/dev/null', os.O_RDONLY))
            except OSError as error:
                print(error.errno)
            for fd in held: os.close(fd)"""
        assert py.printed(code) == "24\n"
        assert py.value("1 + 1") == "2"

    @pytest.mark.needs("stateful")
    def test_left_open_files_do_not_stop_the_next_run(self, box):
        box.run("import os\nheld = []\nwhile True: held.append(os.open('/dev/null', 0))")
        assert box.value("len(held) > 10") == "True"
        box.ok("for fd in held: os.close(fd)")
        assert box.value("open('/dev/null').read()") == "''"
