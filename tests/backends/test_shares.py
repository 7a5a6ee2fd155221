"""add_share: copies at any time, mounts before the first run, and what is refused."""

import os
import time

import pytest

COPY = pytest.mark.needs("copy")
MOUNT = pytest.mark.needs("mount|mount_copy")


def tree(folder):
    """A folder with files, an empty folder, links, modes, and odd names."""
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "sub" / "file.txt").write_text("content")
    (folder / "sub" / "deep" / "bytes").write_bytes(bytes(range(256)))
    (folder / "tool").write_text("#!/bin/sh\necho tool ran\n")
    (folder / "tool").chmod(0o755)
    (folder / "näme with spaces\n🐍").write_text("odd")
    (folder / "zero").touch()
    (folder / "link").symlink_to("sub/file.txt")
    return folder


@COPY
class TestCopies:
    def test_a_file_before_the_first_run(self, box, host):
        (host / "data.csv").write_text("a,b\n1,2\n")
        result = box.bring(host / "data.csv", "/workspace/in/data.csv")
        assert result.session and "/workspace/in/data.csv" in result.text()
        assert box.value("open('/workspace/in/data.csv').read()") == "'a,b\\n1,2\\n'"

    @pytest.mark.needs("stateful")
    def test_a_file_on_a_live_session(self, box, host):
        box.ok("kept = 1")
        (host / "late").write_text("late")
        box.bring(host / "late", "/workspace/late")
        assert box.value("kept, open('/workspace/late').read()") == "(1, 'late')"

    @pytest.mark.needs("stateful")
    def test_a_file_while_a_run_is_going(self, box, host):
        box.open()
        (host / "flag").write_text("go")
        id_ = box.begin("import os, time\nwhile not os.path.exists('/workspace/flag'):\n"
                        "    time.sleep(0.02)\nprint('seen')", timeout_seconds=30)
        box.bring(host / "flag", "/workspace/flag")
        assert box.server.tool_result(id_).text("stdout") == "seen\n"

    @pytest.mark.needs("stateful")
    def test_one_that_is_cancelled(self, box, host):
        """It is not answered, nothing of it is left, and its dest is free again."""
        box.open()
        (host / "big").write_bytes(b"big\n" * (16 << 20))
        (host / "small").write_text("small")
        id_ = box.server.begin_tool("add_share", box.arguments(
            source=str(host / "big"), dest="/workspace/it", type="copy"))
        box.server.cancel(id_)
        assert box.value("import os\nos.path.exists('/workspace/it')") == "False"
        box.bring(host / "small", "/workspace/it")
        assert box.value("open('/workspace/it').read()") == "'small'"
        assert box.server.answers(id_) == []

    @pytest.mark.needs("stateful")
    @pytest.mark.parametrize("started", [False, True])
    def test_a_whole_folder(self, box, host, started):
        if started:
            box.open()
        box.bring(tree(host), "/workspace/tree")
        code = """
            import os
            os.chdir('/workspace/tree')
            names = sorted(os.listdir('.'))
            with open('sub/deep/bytes', 'rb') as f:
                whole = f.read() == bytes(range(256))
            (names, whole, os.listdir('empty'), os.path.getsize('zero'), os.access('tool', os.X_OK))
            """
        names, whole, empty, zero, runs = eval(box.value(code))
        assert {"empty", "sub", "tool", "zero", "näme with spaces\n🐍"} <= set(names)
        assert (whole, empty, zero, runs) == (True, [], 0, True)
        assert box.shell("./tool").text("stdout") == "tool ran\n"

    def test_links_inside_stay_inside(self, box, host):
        (host / "link").symlink_to("/etc/hostname")
        (host / "up").symlink_to("../../../../etc/hostname")
        (host / "file").write_text("x")
        (host / "good").symlink_to("file")
        box.bring(host, "/workspace/links")
        code = ("import os\n[(n, os.path.isfile('/workspace/links/' + n) and not "
                "os.path.islink('/workspace/links/' + n)) for n in ('link', 'up')]")
        assert box.value(code) == "[('link', False), ('up', False)]"

    def test_a_copy_is_the_sessions_own(self, box, host):
        (host / "own").write_text("before")
        box.bring(host, "/workspace/own")
        box.ok("with open('/workspace/own/own', 'w') as f: f.write('changed')\n"
               "with open('/workspace/own/new', 'w') as f: f.write('new')")
        assert (host / "own").read_text() == "before" and os.listdir(host) == ["own"]

    @pytest.mark.needs("stateful")
    def test_later_changes_are_not_seen(self, box, host):
        (host / "f").write_text("before")
        box.bring(host / "f", "/workspace/f")
        box.open()
        (host / "f").write_text("after")
        assert box.value("open('/workspace/f').read()") == "'before'"

    @pytest.mark.needs("mount")
    def test_outside_of_the_workspace(self, boxes, host):
        (host / "f").write_text("x")
        before, after = boxes(), boxes().open()
        for one in (before, after):
            one.bring(host / "f", "/data/deep/f")
            assert one.value("open('/data/deep/f').read()") == "'x'"

    def test_a_source_that_is_missing(self, box, host):
        result = box.share(host / "missing", "/workspace/missing")
        assert result.is_error and "missing" in result.text()
        assert box.value("import os; os.path.exists('/workspace/missing')") == "False"

    def test_a_source_outside_of_the_roots(self, box):
        result = box.share("/etc/passwd", "/workspace/passwd")
        assert result.is_error and "--share-root" in result.text()

    def test_a_link_out_of_the_roots(self, box, host):
        (host / "sly").symlink_to("/etc/passwd")
        assert box.share(host / "sly", "/workspace/passwd").is_error

    def test_a_dest_that_is_taken(self, box, host):
        (host / "f").write_text("1")
        box.bring(host / "f", "/workspace/f")
        assert "/workspace/f" in box.share(host / "f", "/workspace/f").text()
        assert box.share(host / "f", "/workspace/f").is_error
        box.open()
        assert box.share(host / "f", "/workspace/f").is_error
        assert box.value("open('/workspace/f').read()") == "'1'"

    @pytest.mark.needs("stateful")
    def test_a_dest_where_a_folder_is(self, box, host):
        (host / "f").write_text("1")
        box.ok("import os; os.makedirs('/workspace/there/inside')")
        result = box.share(host / "f", "/workspace/there")
        assert result.is_error and "/workspace/there" in result.text()
        assert box.value("os.listdir('/workspace/there')") == "['inside']"

    @pytest.mark.parametrize("dest", ["relative", "/proc/x", "/sys/x", "/dev/x", "/usr/x", "/bin/x",
                                      "/lib/x", "/etc/x", "/", "/workspace/../etc/x"])
    def test_forbidden_dests(self, py, host, dest):
        (host / "f").write_text("1")
        result = py.share(host / "f", dest)
        assert result.is_error and "dest" in result.text()

    def test_a_fifo_is_no_file(self, box, host):
        os.mkfifo(host / "pipe")
        result = box.share(host / "pipe", "/workspace/pipe")
        assert result.is_error and "pipe" in result.text()

    def test_an_unreadable_source(self, box, host):
        (host / "secret").write_text("x")
        (host / "secret").chmod(0)  # for its owner too
        box.open()
        result = box.share(host / "secret", "/workspace/secret")
        assert result.is_error and "may not read" in result.text(), result
        assert box.value("1 + 1") == "2"

    def test_an_unreadable_source_before_the_first_run(self, box, host):
        (host / "secret").write_text("x")
        (host / "secret").chmod(0)  # for its owner too
        result = box.share(host / "secret", "/workspace/secret")
        assert result.is_error and "may not read" in result.text(), result

    @pytest.mark.once
    @pytest.mark.timeout(180)
    def test_two_hundred_megabytes_with_progress(self, box, host):
        with open(host / "large", "wb") as file:
            for n in range(200):
                file.write(bytes([n]) * 1_000_000)
        box.open()
        id_ = box.server.begin_tool("add_share", box.arguments(
            type="copy", source=str(host / "large"), dest="/workspace/large"), token="large")
        began = time.monotonic()
        box.server.request("tools/list")
        assert time.monotonic() - began < 5
        assert not box.server.tool_result(id_, 120).is_error
        assert box.value("import os; os.path.getsize('/workspace/large')") == "200000000"
        assert box.value("f = open('/workspace/large', 'rb'); f.seek(199_999_999); f.read()"
                         ) == repr(bytes([199]))

    @pytest.mark.needs("disk_limit", "stateful")
    def test_a_copy_that_does_not_fit(self, launch, host):
        with open(host / "large", "wb") as file:
            file.truncate(0)
            for _ in range(40):
                file.write(os.urandom(1_000_000))
        with launch(environment={"disk_mib": 16}) as client:
            session = client.run("kept = 1").session
            result = client.tool("add_share", {"type": "copy", "source": str(host / "large"),
                                               "dest": "/workspace/large", "session": session})
            assert result.is_error, result
            after = client.run("import os; kept, os.path.exists('/workspace/large')",
                               session=session)
            assert after.text("result") == "(1, False)", after


@MOUNT
class TestMounts:
    @pytest.mark.needs("mount")
    @pytest.mark.lacking("mount_copy")
    def test_is_the_folder_itself_read_only(self, box, host):
        (host / "f").write_text("before")
        box.bring(tree(host), "/mnt/host", "mount")
        assert box.value("open('/mnt/host/f').read()") == "'before'"
        (host / "f").write_text("after")
        assert box.value("open('/mnt/host/f').read()") == "'after'"
        result = box.run("open('/mnt/host/f', 'w')")
        assert result.outcome["error"]["etype"] in ("OSError", "PermissionError")
        assert (host / "f").read_text() == "after"

    @pytest.mark.needs("mount_copy")
    @pytest.mark.lacking("mount")
    def test_is_an_uploaded_copy(self, box, host):
        (host / "f").write_text("before")
        assert "uploaded" in box.bring(tree(host), "/mnt/host", "mount").text()
        assert box.value("open('/mnt/host/f').read()") == "'before'"
        result = box.run("open('/mnt/host/f', 'w')")
        assert result.outcome["error"]["etype"] in ("OSError", "PermissionError")
        assert (host / "f").read_text() == "before"
        assert box.shell("/mnt/host/tool; cat /mnt/host/link").text("stdout") == (
            "tool ran\ncontent")

    @pytest.mark.needs("mount_copy", "stateful")
    @pytest.mark.lacking("mount")
    def test_is_a_copy_of_the_start(self, box, host):
        (host / "f").write_text("before")
        box.bring(host, "/mnt/host", "mount")
        assert box.value("open('/mnt/host/f').read()") == "'before'"
        (host / "f").write_text("after")
        assert box.value("open('/mnt/host/f').read()") == "'before'"
        box.reset()
        assert box.value("open('/mnt/host/f').read()") == "'after'"

    @pytest.mark.needs("mount_write")
    def test_writable_when_asked(self, box, host):
        host.chmod(0o777)
        box.bring(host, "/mnt/host", "mount", read_only=False)
        box.ok("with open('/mnt/host/made', 'w') as f: f.write('from inside')")
        assert (host / "made").read_text() == "from inside"

    def test_in_the_workspace(self, box, host):
        (host / "f").write_text("x")
        box.bring(host, "/workspace/mounted", "mount")
        assert box.value("open('mounted/f').read()") == "'x'"

    def test_a_single_file(self, box, host):
        (host / "f").write_text("x")
        box.bring(host / "f", "/data/file", "mount")
        assert box.value("open('/data/file').read()") == "'x'"

    def test_several_and_a_copy(self, box, host):
        for name in ("one", "two", "three"):
            (host / name).mkdir()
            (host / name / "f").write_text(name)
        box.bring(host / "one", "/data/one", "mount")
        box.bring(host / "two", "/data/two", "mount")
        box.bring(host / "three", "/workspace/three", "copy")
        code = ("[open(p).read() for p in "
                "('/data/one/f', '/data/two/f', '/workspace/three/f')]")
        assert box.value(code) == "['one', 'two', 'three']"

    @pytest.mark.needs("stateful")
    def test_after_the_start_is_refused_and_says_what_to_do(self, box, host):
        box.ok("kept = 1")
        result = box.share(host, "/mnt/late", "mount")
        assert result.is_error and "reset_session" in result.text()
        assert box.value("kept") == "1"
        box.reset()
        (host / "f").write_text("now")
        box.bring(host, "/mnt/late", "mount")
        assert box.value("open('/mnt/late/f').read()") == "'now'"

    @pytest.mark.needs("mount")
    def test_a_mounted_session_behaves_like_another(self, box, host):
        box.bring(host, "/mnt/host", "mount")
        box.ok("kept = 1")
        assert box.run("import os; os._exit(2)").is_error
        (host / "f").write_text("again")
        assert box.value("open('/mnt/host/f').read()") == "'again'"
        assert box.shell("cat /mnt/host/f").text("stdout") == "again"


class TestReset:
    def test_variables_and_files_are_gone_and_the_id_stays(self, box):
        box.ok("gone = 1\nwith open('gone', 'w') as f: f.write('x')")
        session = box.id
        result = box.reset()
        assert not result.is_error and result.session == session
        assert box.run("gone").outcome["error"]["etype"] == "NameError"
        assert box.value("import os; os.path.exists('gone')") == "False"

    @COPY
    def test_shares_come_back_with_their_sources_of_now(self, box, host):
        (host / "f").write_text("before")
        box.bring(host / "f", "/workspace/f")
        box.open()
        (host / "f").write_text("after")
        box.reset()
        assert box.value("open('/workspace/f').read()") == "'after'"

    @COPY
    def test_without_shares(self, box, host):
        (host / "f").write_text("x")
        box.bring(host / "f", "/workspace/f")
        box.open()
        box.reset(keep_shares=False)
        assert box.value("import os; os.path.exists('/workspace/f')") == "False"
        box.bring(host / "f", "/workspace/f")

    @pytest.mark.needs("stateful")
    @COPY
    def test_a_source_that_is_gone_resets_nothing(self, box, host):
        (host / "f").write_text("x")
        box.bring(host / "f", "/workspace/f")
        box.ok("kept = 1")
        (host / "f").unlink()
        result = box.reset()
        assert result.is_error and str(host / "f") in result.text()
        assert box.value("kept") == "1"

    @pytest.mark.needs("stateful")
    def test_of_a_running_session_answers_the_run(self, box):
        box.open()
        id_ = box.begin("import time; print('going', flush=True); time.sleep(60)", token="reset")
        box.server.wait_notification("notifications/progress",
                                     lambda p: "going" in p.get("message", ""), 10)
        queued = box.begin("1")
        box.reset()
        assert box.server.tool_result(id_).cause == "cancelled"
        assert box.server.tool_result(queued).cause == "cancelled"
        assert box.value("1 + 1") == "2"

    def test_twice_and_before_the_first_run(self, box):
        box.open()
        assert not box.reset().is_error and not box.reset().is_error
        assert box.value("1 + 1") == "2"

    @pytest.mark.once
    def test_without_a_session(self, server):
        result = server.tool("reset_session", {})
        assert result.is_error and "session" in result.text()

    @pytest.mark.once
    def test_of_an_unknown_session(self, server):
        result = server.tool("reset_session", {"session": "s-nosuchid"})
        assert result.is_error and "s-nosuchid" in result.text()

    @COPY
    def test_a_crash_brings_copies_back_as_they_were(self, box, host):
        (host / "f").write_text("x")
        box.bring(host / "f", "/workspace/f")
        box.open()
        (host / "late").write_text("late")
        box.bring(host / "late", "/workspace/late")
        box.run("import os; os._exit(3)")
        code = "[open(p).read() for p in ('/workspace/f', '/workspace/late')]"
        assert box.value(code) == "['x', 'late']"
