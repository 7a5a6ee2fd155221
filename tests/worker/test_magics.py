"""await, !command, %pip and the other magics, in both shells."""

import os
import sys
import zipfile

import pytest
from driver import SOURCE, Worker

sys.path.insert(0, SOURCE)
from cellblock_worker import magics  # noqa: E402


def test_await(worker):
    assert worker.run("import asyncio\nawait asyncio.sleep(0, 'v')").text == "'v'"
    worker.run("async def f(): return 5\nx = await f()")
    assert worker.run("x").text == "5"
    code = "async def g():\n    yield 1\n    yield 2\nr = [i async for i in g()]\nr"
    assert worker.run(code).text == "[1, 2]"
    assert worker.run("t = asyncio.create_task(f())\nawait t").text == "5"
    assert worker.run("await f();").text is None


def test_asyncio_run(worker):
    worker.run("import asyncio\nasync def f(): return 6")
    assert worker.run("asyncio.run(f())").text == "6"
    assert worker.run("await f()").text == "6"
    assert worker.run("asyncio.run(f())").text == "6"


def test_asyncio_run_beside_await(worker):
    worker.run("import asyncio\nasync def f(): return 6")
    result = worker.run("a = await f()\nb = asyncio.run(f())\nc = await f()\n[a, b, c]")
    assert result.text == "[6, 6, 6]"
    result = worker.run("await asyncio.sleep(0)\nasync def h(): 1/0\nasyncio.run(h())")
    assert result.error["etype"] == "ZeroDivisionError"


def test_the_loop_is_one_for_the_session(worker):
    worker.run("import asyncio\nq = asyncio.Queue()\nawait q.put(1)\n"
               "loop = asyncio.get_running_loop()")
    assert worker.run("await q.get()").text == "1"
    assert worker.run("asyncio.get_running_loop() is loop, await asyncio.sleep(0)").text == (
        "(True, None)"
    )


def test_errors_in_coroutines(worker):
    result = worker.run("import asyncio\nasync def f():\n    1/0\nawait f()")
    assert result.error["etype"] == "ZeroDivisionError"
    assert "line 3, in f" in result.traceback
    assert "asyncio" not in result.traceback.split("1/0")[0].replace("import asyncio", "")
    assert worker.run("await asyncio.sleep(0)\nraise SystemExit(3)").done["exit_code"] == 3


def test_commands(worker):
    assert worker.run("!echo hello").out == "hello\n"
    assert worker.run("!exit 3\n_exit_code").text == "3"
    result = worker.run("print('a', end='')\n!printf b; printf e >&2\nprint('c')")
    assert (result.out, result.err) == ("abc\n", "e")
    assert worker.run("!echo one && \\\n  echo two\nprint(3)").out == "one\ntwo\n3\n"
    assert b"\r" not in worker.run("!printf 'a\\nb\\n'").raw_out


def test_command_variables(worker):
    worker.run("name = 'w'; items = [1, 2]")
    assert worker.run("!echo $name {items[1]} {1 + 1}").out == "w 2 2\n"
    if not worker.has_ipython:
        assert worker.run("!name=s; echo $name $$name $HOME").out == "w s %s\n" % worker.cwd
    assert worker.run("!echo a b | awk '{print $2}'").out == "b\n"
    assert worker.run("def f(local):\n    !echo {local} $local\nf('inner')").out == "inner inner\n"


def test_command_output(worker):
    assert worker.run("lines = !printf 'a\\nb\\n'\nlist(lines)").text == "['a', 'b']"


def test_commands_inside_blocks(worker):
    code = "for i in range(2):\n    if i:\n        !echo {i}\n    else:\n        pass"
    assert worker.run(code).out == "1\n"


def test_lines_that_only_look_like_commands(worker):
    code = 'text = """\n!echo no\n%pip no\n"""\nn = (7\n%4)\nm = 9 \\\n%5\n[text, n, m]'
    result = worker.run(code)
    assert result.text.replace("\n ", "") == "['\\n!echo no\\n%pip no\\n', 3, 4]"
    mixed = code.replace("[text", "!echo yes\n[text")
    result = worker.run(mixed)
    assert result.out == "yes\n"
    assert result.text.replace("\n ", "") == "['\\n!echo no\\n%pip no\\n', 3, 4]"


def test_line_numbers_stay(worker):
    result = worker.run("!true\n\n%env A=1\n1/0")
    assert "line 4" in result.traceback
    if not worker.has_ipython:  # which joins continued commands to one line
        assert "line 3" in worker.run("!true && \\\n  true\n1/0").traceback


def test_bash_cells(worker):
    assert worker.run("%%bash\nx=5\necho $x; echo ${BASH_VERSION:+bash}").out == "5\nbash\n"
    assert worker.run("%%sh\necho {not} $HOME").out == "{not} %s\n" % worker.cwd
    result = worker.run("%%bash\nexit 3")
    assert result.error["etype"] == "CalledProcessError"
    assert "exit status 3" in result.error["evalue"]
    assert "cellblock" not in result.traceback and "interactiveshell" not in result.traceback


def test_cd_and_env(worker):
    worker.run("import os; os.makedirs('deep/er', exist_ok=True)")
    assert worker.run("%cd deep/er").out.strip().endswith("deep/er")
    assert worker.run("os.getcwd()").text.endswith("deep/er'")
    worker.run("%cd " + worker.cwd)
    worker.run("%env SOME=thing here")
    assert worker.run("os.environ['SOME']").text == "'thing here'"
    assert worker.run("%env SOME").text == "'thing here'"


def test_writefile(worker):
    worker.run("%%writefile made.txt\nline {1}\n")
    assert worker.run("open('made.txt').read()").text == "'line {1}\\n'"


def test_unknown_magic(worker):
    result = worker.run("print('no')\n%nosuchmagic 3")
    assert result.status == "error"
    assert "nosuchmagic" in result.error["evalue"]
    if not worker.has_ipython:
        assert "IPython" in result.error["evalue"]
        assert "line 2" in result.traceback
        assert result.out == ""
        assert "IPython" in worker.run("%%timeit\n1").error["evalue"]


def test_indented_code(worker):
    assert worker.run("    x = 4\n    x").text == "4"


def wheel(folder, version="1.0"):
    """A wheel made by hand, to install without a network."""
    name = "cellblock_sample-%s" % version
    path = os.path.join(str(folder), name + "-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("cellblock_sample.py", "version = %r\n" % version)
        info = name + ".dist-info/"
        file.writestr(info + "METADATA",
                      "Metadata-Version: 2.1\nName: cellblock-sample\nVersion: %s\n" % version)
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
                                      "Tag: py3-none-any\n")
        file.writestr(info + "RECORD", "")
    return path


@pytest.mark.parametrize("kind", ["venv", "ipython", "plain"])
def test_pip(kind, venv, tmp_path, request):
    if kind != "venv":
        request.getfixturevalue(kind)
    args = ("--plain",) if kind == "plain" else ()
    worker = Worker(venv if kind == "venv" else "/usr/bin/python3", tmp_path, args)
    try:
        assert worker.has_ipython == (kind == "ipython")
        assert worker.run("import cellblock_sample").error["etype"] == "ModuleNotFoundError"
        path = wheel(tmp_path)
        result = worker.run("%%pip install --no-index %s\nimport cellblock_sample\n"
                            "cellblock_sample.version" % path)
        assert result.text == "'1.0'", result.err
        assert "Successfully installed" in result.out and "\r" not in result.out
        assert worker.run("cellblock_sample.__file__").text.startswith(repr(worker.cwd)[:-1])
        child = "!{sys.executable} -c 'import cellblock_sample; print(cellblock_sample.version)'"
        assert worker.run("import sys\n" + child).out == "1.0\n"
        failed = worker.run("%pip install --no-index no-such-package-at-all\nprint('not here')")
        assert failed.error["etype"] == "CalledProcessError"
        assert "exit status 1" in failed.error["evalue"] and failed.out.count("not here") == 0
    finally:
        worker.close()


def test_pip_is_missing(tmp_path, workers):
    worker = Worker("/usr/bin/python3", tmp_path, ("--plain",))
    worker.run("import importlib.util as u; real = u.find_spec\n"
               "u.find_spec = lambda n, *a: None if n == 'pip' else real(n, *a)")
    result = worker.run("%pip install x")
    assert result.error["etype"] == "ModuleNotFoundError"
    assert "has no pip" in result.error["evalue"]
    worker.close()


def test_magics_of_ipython(ipython):
    assert "Wall time" in ipython.run("%time 1 + 1").out
    assert "loop" in ipython.run("%timeit -n 1 -r 1 pass").out
    assert ipython.run("%%capture c\nprint(1)\n5").events == []
    assert ipython.run("c.stdout").text == "'1\\n'"
    shown = ipython.run("print?")
    assert "Signature" in shown.displays[0]["data"]["text/plain"]
    ipython.run("open('script.py', 'w').write('y = 1\\n1/0')")
    failed = ipython.run("%run script.py")
    assert failed.error["etype"] == "ZeroDivisionError"
    assert "script.py" in failed.traceback and "interactiveshell" not in failed.traceback
    assert (failed.out, failed.err) == ("", "")
    assert ipython.run("pwd").text == repr(ipython.cwd)
    assert ipython.run("exit").done["exit_code"] == 0


def test_callbacks_and_transformers_of_ipython(ipython):
    ipython.run("seen = []\nip = get_ipython()\n"
                "def after(result): seen.append((result.success, result.info.raw_cell))\n"
                "ip.events.register('post_run_cell', after)")
    ipython.run("2 + 3")
    ipython.run("1/0")
    ipython.run("ip.events.unregister('post_run_cell', after)")
    assert "(True, '2 + 3'), (False, '1/0')" in ipython.run("seen").text.replace("\n ", " ")
    ipython.run("def t(lines): return [ln.replace('DOUBLE', '2 *') for ln in lines]\n"
                "ip.input_transformers_cleanup.append(t)")
    assert ipython.run("DOUBLE 4").text == "8"
    ipython.run("ip.input_transformers_cleanup.remove(t)")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("!ls", [(0, 3)]),
        ("x = 1\n  !ls", [(6, 11)]),
        ("'''\n!ls\n'''", []),
        ("(1\n!ls", []),
        ("a \\\n%b", []),
        ("# '''\n!ls", [(6, 9)]),
        ("'it\\'s'\n%pip x", [(8, 14)]),
        ("y = !ls", [(0, 7)]),
        ("!a \\\nb\nc", [(0, 6)]),
        ("", []),
    ],
)
def test_find_commands(code, expected):
    assert magics.find_commands(code) == expected
