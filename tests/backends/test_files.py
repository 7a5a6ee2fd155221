"""The toolset `files`: what a session's files are to a client, beside whatever runs there."""

import base64
import itertools
import os
import zlib

import pytest

pytestmark = pytest.mark.needs("files", "stateful")

PNG = (b"\x89PNG\r\n\x1a\n" + b"".join(
    len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    for kind, data in ((b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0"),
                       (b"IDAT", zlib.compress(b"\0\xff")), (b"IEND", b""))))
COUNT = itertools.count()


@pytest.fixture
def here(py):
    """A folder of the test's own in the session's workspace, relative to it."""
    name = f"files-{next(COUNT)}"
    done(py, "make_directory", path=name)
    return name


def call(py, tool, **arguments):
    """A tool's result, whatever it is; each names its session."""
    result = py.call(tool, **arguments)
    assert result.session in (py.id, None) and (result.session or result.is_error)
    assert result.outcome is None
    return result


def done(py, tool, **arguments):
    """The text of a call that must succeed."""
    result = call(py, tool, **arguments)
    assert not result.is_error, result
    return result.text()


def refused(py, tool, *says, **arguments):
    """The text of a call that must fail and say so."""
    result = call(py, tool, **arguments)
    assert result.is_error, result
    for word in says:
        assert word in result.text(), result
    return result.text()


def read(py, path, **arguments):
    """The text of a file."""
    result = call(py, "read_file", path=path, **arguments)
    assert not result.is_error, result
    return result.text("file")


def listed(py, path, **arguments):
    """name → (type, mode, size, target), in the order of the list."""
    lines = done(py, "list_files", path=path, **arguments).splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    return {row[4]: (row[0], row[1], int(row[2]), row[5][3:] if row[5:] else None) for row in rows}


# Writing and reading

def test_what_is_written_is_what_code_reads(py, here):
    text = 'líne\r\n\ttab "quoted" \\ 数\0end'
    told = done(py, "write_file", path=f"{here}/deep/er/a.txt", content=text)
    assert told.startswith(f"Wrote {len(text.encode())} bytes to {here}/deep/er/a.txt (mode 644).")
    code = f"open({here + '/deep/er/a.txt'!r}, newline='', encoding='utf-8').read() == {text!r}"
    assert py.value(code) == "True"
    assert read(py, f"{here}/deep/er/a.txt") == text


def test_what_code_writes_is_what_is_read(py, here):
    py.ok(f"""
    with open("{here}/made", "wb") as file:
        file.write(bytes(range(256)))
    """)
    refused(py, "read_file", "byte 128 of 256", "base64", path=f"{here}/made")
    found = base64.b64decode(read(py, f"{here}/made", encoding="base64"))
    assert found == bytes(range(256))
    assert read(py, f"{here}/made", offset=65, length=3) == "ABC"
    assert base64.b64decode(read(py, f"{here}/made", encoding="base64", offset=250)) == \
        bytes(range(250, 256))


def test_bytes_append_and_modes(py, here):
    path = f"{here}/run.sh"
    done(py, "write_file", path=path, content="IyEvYmluL3NoCg==", encoding="base64", mode="755")
    assert "23 now" in done(py, "write_file", path=path, content="echo grün\n\n\n", append=True)
    assert listed(py, here) == {"run.sh": ("file", "755", 23, None)}
    done(py, "write_file", path=path, content="x")  # keeps its mode
    assert listed(py, here) == {"run.sh": ("file", "755", 1, None)}
    done(py, "write_file", path=path, content="x", mode="600")
    assert listed(py, here)["run.sh"][1] == "600"
    done(py, "write_file", path=f"{here}/new", content="", append=True)
    assert "empty" in done(py, "read_file", path=f"{here}/new")
    refused(py, "write_file", "base64", "character 2", path=path, content="AB!=", encoding="base64")
    assert read(py, path) == "x"


def test_a_long_file_is_read_in_pages(py, here):
    text = "".join(f"line {i} äöü\n" for i in range(9000))
    py.ok(f"""
    with open("{here}/long", "w", encoding="utf-8") as file:
        for i in range(9000):
            print("line", i, "äöü", file=file)
    """)
    found, offset, pages = "", 0, 0
    while offset is not None:
        result = call(py, "read_file", path=f"{here}/long", offset=offset)
        assert len(result.text().encode()) < 40_000
        found += result.text("file")
        note = result.text("note")
        offset = int(note.split('"offset": ')[1].rstrip(".")) if "go on" in note else None
        pages += 1
    assert found == text and pages >= 4
    assert read(py, f"{here}/long", length=1 << 20) == text  # asked for outright, it is one


def test_a_write_is_all_or_nothing(py, here):
    """Code that reads while a file is replaced sees one or the other, and nothing beside it."""
    big = "a" * 300_000
    done(py, "write_file", path=f"{here}/whole", content=big)
    py.ok(f"""
    import os, threading
    seen, stop = set(), threading.Event()
    def watch():
        while not stop.is_set():
            with open("{here}/whole") as file:
                text = file.read()
            seen.add((len(text), "".join(sorted(set(text)))))
    thread = threading.Thread(target=watch)
    thread.start()
    """)
    for letter in "bcdef":
        done(py, "write_file", path=f"{here}/whole", content=letter * 300_000)
    seen = py.value(f"""
    stop.set()
    thread.join()
    sorted({{size for size, _ in seen}}), max(len(letters) for _, letters in seen), \
        os.listdir("{here}")
    """)
    assert seen == "([300000], 1, ['whole'])"


def test_an_image_is_shown(py, here):
    done(py, "write_file", path=f"{here}/a.png", content=base64.b64encode(PNG).decode(),
         encoding="base64")
    result = call(py, "read_file", path=f"{here}/a.png")
    assert [(block["mimeType"], base64.b64decode(block["data"])) for block in result.images()] == \
        [("image/png", PNG)]
    assert base64.b64decode(read(py, f"{here}/a.png", encoding="base64")) == PNG


# Folders

def test_a_list_is_sorted_and_tells_what_links_are(py, here):
    py.ok(f"""
    import os, pathlib
    os.makedirs("{here}/sub/deeper")
    for name in ("b", "B", "sub/deeper/x", "ä"):
        pathlib.Path("{here}/" + name).write_text("12345")
    os.symlink("../nowhere/at all", "{here}/link")
    os.mkfifo("{here}/pipe", 0o600)
    """)
    assert list(listed(py, here).items()) == [
        ("B", ("file", "644", 5, None)), ("b", ("file", "644", 5, None)),
        ("link", ("symlink", "777", 17, "../nowhere/at all")), ("pipe", ("other", "600", 0, None)),
        ("sub", ("directory", "755", 0, None)), ("ä", ("file", "644", 5, None))]
    assert [name for name in listed(py, here, recursive=True) if name.startswith("sub")] == \
        ["sub", "sub/deeper", "sub/deeper/x"]
    done(py, "remove_file", path=f"{here}/sub/deeper/x")
    assert "empty" in done(py, "list_files", path=f"{here}/sub/../sub/deeper")
    assert done(py, "stat_file", path=f"{here}/link").startswith("symlink\t777\t17\t")
    assert done(py, "stat_file", path=f"{here}/sub").startswith("directory\t755\t0\t")
    refused(py, "list_files", path=f"{here}/b")
    refused(py, "list_files", path=f"{here}/none")
    assert here in listed(py, None)


def test_names_that_are_no_text(py, here):
    """Each keeps to its line, and can be told from the others."""
    py.ok(f"""
    import os
    for name in (b"two\\nlines", b"tab\\t", b"\\xff\\xfe", b"back\\\\slash", "\\u202eevil".encode(),
                 b" blank ", b"-rf", b"a -> b"):
        open(b"{here}/" + name, "w").close()
    """)
    names = list(listed(py, here))
    assert names == [" blank ", "-rf", "a -> b", "back\\\\slash", "tab\\t", "two\\nlines",
                     "\\xe2\\x80\\xaeevil", "\\xff\\xfe"]
    assert "two\\nlines" in done(py, "stat_file", path=f"{here}/two\nlines")
    done(py, "move_file", source=f"{here}/\\xff\\xfe", dest=f"{here}/\\xff")
    for name in [*names[:-1], "\\xff"]:  # as they are shown
        assert f"\t{here}/{name}\n" in done(py, "stat_file", path=f"{here}/{name}") + "\n"
        done(py, "remove_file", path=f"{here}/{name}")
    assert not listed(py, here)
    assert "backslash" in refused(py, "stat_file", path=f"{here}/a\\b")
    done(py, "remove_file", path=here, recursive=True)
    refused(py, "stat_file", path=here)


def test_many_entries(py, here):
    py.ok(f"""
    import os
    os.mkdir("{here}/many")
    for i in range(3000):
        os.close(os.open("{here}/many/entry-%05d" % i, os.O_CREAT))
    """)
    names, offset = [], 0
    while offset is not None:
        text = done(py, "list_files", path=f"{here}/many", offset=offset)
        assert len(text) < 40_000
        names += [line.split("\t")[4] for line in text.splitlines() if line.startswith("file\t")]
        last = text.splitlines()[-1]
        offset = int(last.split('"offset": ')[1].rstrip(".")) if "go on" in last else None
    assert names == [f"entry-{i:05d}" for i in range(3000)]
    assert list(listed(py, f"{here}/many", offset=2999)) == ["entry-02999"]
    refused(py, "remove_file", path=f"{here}/many")
    done(py, "remove_file", path=f"{here}/many", recursive=True)
    assert listed(py, f"{here}/..")[here][0] == "directory"


def test_directories_are_made_and_removed(py, here):
    done(py, "make_directory", path=f"{here}/a/b/c")
    done(py, "make_directory", path=f"{here}/a/b")  # there already
    assert py.value(f"import os; os.path.isdir('{here}/a/b/c')") == "True"
    done(py, "write_file", path=f"{here}/f", content="")
    refused(py, "make_directory", path=f"{here}/f")
    refused(py, "make_directory", path=f"{here}/f/g")
    refused(py, "remove_file", path=f"{here}/none")
    refused(py, "remove_file", path=f"{here}/a")
    done(py, "remove_file", path=f"{here}/a/b/c")
    done(py, "remove_file", path=f"{here}/f")
    assert listed(py, here, recursive=True) == {"a": ("directory", "755", 0, None),
                                                "a/b": ("directory", "755", 0, None)}


def test_copies_and_moves(py, here):
    done(py, "write_file", path=f"{here}/tree/x/f", content="1", mode="750")
    done(py, "write_file", path=f"{here}/other", content="2")
    py.ok(f"import os; os.symlink('x', '{here}/tree/link')")
    done(py, "copy_file", source=f"{here}/tree", dest=f"{here}/copy")
    assert listed(py, f"{here}/copy", recursive=True) == {
        "link": ("symlink", "777", 1, "x"), "x": ("directory", "755", 0, None),
        "x/f": ("file", "750", 1, None)}
    refused(py, "copy_file", source=f"{here}/other", dest=f"{here}/copy/x/f")
    assert read(py, f"{here}/copy/x/f") == "1"
    done(py, "copy_file", source=f"{here}/other", dest=f"{here}/copy/x/f", replace=True)
    assert read(py, f"{here}/copy/x/f") == "2"
    refused(py, "move_file", source=f"{here}/other", dest=f"{here}/copy")
    done(py, "move_file", source=f"{here}/copy/link", dest=f"{here}/link")  # the link itself
    done(py, "move_file", source=f"{here}/copy", dest=f"{here}/moved")
    assert sorted(listed(py, here)) == ["link", "moved", "other", "tree"]
    refused(py, "move_file", source=f"{here}/none", dest=f"{here}/new")
    refused(py, "copy_file", source=f"{here}/tree", dest=f"{here}/tree/x/itself")


# What is not a file, and what is elsewhere

def test_what_is_no_file_is_not_opened(py, here):
    py.ok(f"import os; os.mkfifo('{here}/pipe'); os.mkdir('{here}/d')")
    for path in (f"{here}/pipe", f"{here}/d", "/dev/zero"):
        refused(py, "read_file", path=path)
        refused(py, "write_file", path=path, content="x")
    refused(py, "copy_file", source=f"{here}/pipe", dest=f"{here}/pipe2")
    done(py, "remove_file", path=f"{here}/pipe")
    refused(py, "read_file", path=f"{here}/" + "n" * 300)
    refused(py, "read_file", path="")


@pytest.mark.needs("walls")
def test_links_lead_where_they_lead_for_the_code(py, here, host):
    """Neither `..` nor a link reaches the host's files."""
    (host / "secret").write_text("the host's")
    py.ok(f"""
    import os, pathlib
    os.symlink({str(host / 'secret')!r}, "{here}/out")
    os.symlink("/", "{here}/root")
    os.symlink("loop", "{here}/loop")
    pathlib.Path("{here}/inside").write_text("the sandbox's")
    os.symlink("inside", "{here}/in")
    """)
    up = "../" * 60
    for path in (f"{here}/out", f"{here}/root{host}/secret", f"{up}{host}/secret",
                 f"/proc/1/root{host}/secret", f"/proc/self/root{host}/secret"):
        assert "the host's" not in refused(py, "read_file", path=path)
    refused(py, "read_file", path=f"{here}/loop")
    assert read(py, f"{here}/in") == "the sandbox's"
    done(py, "write_file", path=f"{here}/in", content="through the link")
    assert read(py, f"{here}/inside") == "through the link"
    assert listed(py, here)["in"][0] == "symlink"
    done(py, "remove_file", path=f"{here}/root")
    assert (host / "secret").read_text() == "the host's"


def test_nothing_is_there(py, here):
    for tool in ("read_file", "stat_file", "remove_file", "list_files"):
        refused(py, tool, "none", path=f"{here}/none")


# Beside a run

def test_while_a_run_goes_on(py, here):
    """No operation waits behind the run, and none leaves anything in its namespace."""
    py.ok("globals().pop('os', None); before = None; before = set(globals())")
    run = py.begin(f"""
    import os
    while not os.path.exists("{here}/stop"):
        pass
    open("{here}/stop").read()
    """)
    done(py, "write_file", path=f"{here}/note", content="during the run")
    assert read(py, f"{here}/note") == "during the run"
    assert list(listed(py, here)) == ["note"]
    done(py, "copy_file", source=f"{here}/note", dest=f"{here}/copy")
    assert not py.server.answers(run)
    done(py, "write_file", path=f"{here}/stop", content="stopped")
    assert py.server.tool_result(run).text("result") == "'stopped'"
    assert py.value("[k for k in set(globals()) - before if k[0] != '_']") == "['os']"


def test_a_file_that_grows(py, here):
    """What is read is as long as the file was, and the server goes on."""
    run = py.begin(f"""
    import os
    with open("{here}/grows", "w", buffering=1) as file:
        while not os.path.exists("{here}/stop"):
            file.write("x" * 99 + "\\n")
            if file.tell() > 1 << 20:
                file.truncate(0)
                file.seek(0)
    """)
    for _ in range(5):
        result = call(py, "read_file", path=f"{here}/grows")
        assert set(result.text("file")) <= {"x", "\n", "\0"}
        assert len(result.text("file")) < 40_000
    done(py, "write_file", path=f"{here}/stop", content="")
    assert py.server.tool_result(run).cause == "ok"


def test_many_at_once_and_some_taken_back(py, here):
    """Each is answered once; those that the client takes back are not."""
    ids = [py.server.begin_tool("write_file", {"session": py.id, "path": f"{here}/{i}",
                                               "content": str(i) * 1000}) for i in range(40)]
    for id_ in ids[::4]:
        py.server.cancel(id_)
    for i, id_ in enumerate(ids):
        if i % 4:
            assert not py.server.tool_result(id_).is_error
    names = [str(i) for i in range(40) if i % 4]
    assert set(names) <= set(listed(py, here))
    assert read(py, f"{here}/39") == "39" * 1000


def test_a_session_made_by_a_write(boxes, here):
    """Nothing was run in it before; the files are there for the first run."""
    box = boxes()
    done_first = box.call("write_file", path="first.txt", content="made before any run")
    assert not done_first.is_error and box.id and box.id in done_first.text("note")
    assert box.value("open('first.txt').read()") == "'made before any run'"


# Upload and download

def test_upload_and_download_of_a_file(py, here, host):
    data = os.urandom(2_500_000)
    (host / "data.bin").write_bytes(data)
    (host / "data.bin").chmod(0o755)
    told = done(py, "upload", source=str(host / "data.bin"), dest=f"{here}/sub/data.bin")
    assert "1 file (2,500,000 bytes)" in told
    assert listed(py, f"{here}/sub") == {"data.bin": ("file", "755", 2_500_000, None)}
    refused(py, "upload", "replace", source=str(host / "data.bin"), dest=f"{here}/sub/data.bin")
    (host / "data.bin").write_bytes(b"second")
    done(py, "upload", source=str(host / "data.bin"), dest=f"{here}/sub/data.bin", replace=True)
    assert read(py, f"{here}/sub/data.bin") == "second"
    py.ok(f"""
    with open("{here}/sub/out.bin", "wb") as file:
        file.write(b"\\0\\xff" * 1_000_000)
    """)
    done(py, "download", source=f"{here}/sub/out.bin", dest=str(host / "out.bin"))
    assert (host / "out.bin").read_bytes() == b"\0\xff" * 1_000_000
    assert (host / "out.bin").stat().st_mode & 0o7777 == 0o644
    refused(py, "download", "there already", source=f"{here}/sub/data.bin",
            dest=str(host / "out.bin"))
    done(py, "download", source=f"{here}/sub/data.bin", dest=str(host / "out.bin"), replace=True)
    assert (host / "out.bin").read_bytes() == b"second"
    assert sorted(os.listdir(host)) == ["data.bin", "out.bin"]
    assert list(listed(py, f"{here}/sub")) == ["data.bin", "out.bin"]


def test_upload_and_download_of_a_folder(py, here, host):
    (host / "tree" / "sub" / "empty").mkdir(parents=True)
    (host / "tree" / "a").write_text("a")
    (host / "tree" / "sub" / "b").write_text("")
    (host / "tree" / "link").symlink_to("a")
    os.mkfifo(host / "tree" / "pipe")
    told = done(py, "upload", source=str(host / "tree"), dest=f"{here}/tree")
    assert "2 files (1 bytes)" in told and "Left out: 2" in told
    assert {name: row[0] for name, row in listed(py, f"{here}/tree", recursive=True).items()} == {
        "a": "file", "sub": "directory", "sub/b": "file", "sub/empty": "directory"}
    py.ok(f"""
    import os
    os.symlink("/etc/passwd", "{here}/tree/sub/link")
    os.mkfifo("{here}/tree/pipe")
    os.chmod("{here}/tree/a", 0o4711)
    """)
    told = done(py, "download", source=f"{here}/tree", dest=str(host / "back"))
    assert "2 files" in told and "Left out: 2" in told
    found = sorted(str(path.relative_to(host / "back")) for path in (host / "back").rglob("*"))
    assert found == ["a", "sub", "sub/b", "sub/empty"]
    assert (host / "back" / "a").read_text() == "a"
    assert (host / "back" / "a").stat().st_mode & 0o7777 == 0o755
    assert (host / "back").stat().st_mode & 0o7777 == 0o755
    refused(py, "download", "never replaced", source=f"{here}/tree", dest=str(host / "back"),
            replace=True)
    assert list(listed(py, here)) == ["tree"]
    assert sorted(os.listdir(host)) == ["back", "tree"]
    (host / "a\\tb").write_text("b")  # paths of the host have no escapes
    done(py, "upload", source=str(host / "a\\tb"), dest=f"{here}/\\xff")
    done(py, "download", source=f"{here}/\\xff", dest=str(host / "b\\x41"))
    assert (host / "b\\x41").read_text() == "b"


def test_a_transfer_that_is_taken_back(py, here, host):
    """It is there as a whole, when that came first, or nothing of it is."""
    def take_back(tool, source, dest):
        id_ = py.server.begin_tool(tool, {"session": py.id, "source": source, "dest": dest}, tool)
        py.server.wait_until(lambda: any(
            message.get("params", {}).get("progressToken") == tool
            for message in py.server.messages), what="progress")
        py.server.cancel(id_)
        return dest

    (host / "many").mkdir()
    for i in range(150):
        (host / "many" / str(i)).write_text("x" * 1000)
    take_back("upload", str(host / "many"), f"{here}/many")
    # What comes afterwards takes longer than what is left of it.
    done(py, "upload", source=str(host / "many"), dest=f"{here}/second")
    take_back("download", f"{here}/second", str(host / "back"))
    done(py, "download", source=f"{here}/second", dest=str(host / "third"))
    for names, folder in ((set(listed(py, here)) - {"second"}, "many"),
                          (set(os.listdir(host)) - {"many", "third"}, "back")):
        assert names <= {folder}
    assert len(os.listdir(host / "third")) == len(listed(py, f"{here}/second")) == 150
    if "back" in os.listdir(host):
        assert len(os.listdir(host / "back")) == 150


def test_transfers_that_fail_leave_nothing(py, here, host):
    (host / "a").write_text("a")
    refused(py, "download", source=f"{here}/none", dest=str(host / "b"))
    refused(py, "upload", source=str(host / "none"), dest=f"{here}/b")
    refused(py, "upload", source=str(host / "a"), dest="/proc/b")
    done(py, "write_file", path=f"{here}/file", content="")
    refused(py, "upload", source=str(host / "a"), dest=f"{here}/file/b")
    py.ok(f"import os; os.mkfifo('{here}/pipe')")
    refused(py, "download", source=f"{here}/pipe", dest=str(host / "b"))
    assert sorted(listed(py, here)) == ["file", "pipe"]
    assert os.listdir(host) == ["a"]
