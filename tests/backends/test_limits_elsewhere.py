"""Limits where the host is not walled off: whatever holds them there, they are held and said."""

import pytest
from box import Box

pytestmark = pytest.mark.lacking("walls")


@pytest.fixture
def tight(launch):
    """A session in a small sandbox."""
    with launch(environment={"memory_mib": 256, "processes": 64}) as client:
        yield Box(client)


@pytest.mark.needs("memory_limit")
class TestMemory:
    def test_one_process(self, tight):
        result = tight.run("x = bytearray(b'x') * (400 << 20)\nimport time; time.sleep(20)")
        if result.cause == "error":
            assert result.outcome["error"]["etype"] == "MemoryError"
        else:
            assert result.cause == "out_of_memory" and "MiB" in result.text("note")
        assert tight.value("1 + 1") == "2"

    def test_a_family_of_processes(self, tight):
        code = """
            import os, time
            for n in range(6):
                if os.fork() == 0:
                    hog = bytearray(b'x') * (60 * 1024 * 1024)
                    time.sleep(30)
                    os._exit(0)
            time.sleep(30)"""
        result = tight.run(code)
        assert result.cause == "out_of_memory" and "256" in result.text("note"), result
        assert result.outcome["duration_ms"] < 20_000
        assert tight.value("1 + 1") == "2"


@pytest.mark.needs("process_limit")
def test_processes(tight):
    code = """
        import os, time
        made = 0
        try:
            while made < 300:
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
                made += 1
            time.sleep(20)
        except OSError as error:
            print(made, type(error).__name__)"""
    result = tight.run(code)
    if result.cause == "ok":  # the system let no more of them be made
        made, name = result.text("stdout").split()
        assert name == "BlockingIOError" and 8 < int(made) <= 64
    else:  # root's are not counted by it: they were seen, and ended
        assert result.cause == "killed" and "64" in result.text("note"), result
    assert result.outcome["duration_ms"] < 15_000
    assert tight.value("1 + 1") == "2"
