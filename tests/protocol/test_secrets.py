"""Secrets by name: in the sandbox's environment, and nowhere in what the server says."""

import base64
import json
import os

import pytest
from support.client import Client

FILE = "sk-live-0123456789abcdef"
VARIABLE = "ghp_Zyxwvut\"quoted\\value"
KEYRING = "correct horse battery"
VALUES = (FILE, VARIABLE, KEYRING)
SECRET_TOOL = f"""#!/bin/sh
[ "$*" = "lookup service mail" ] || exit 1
sleep 0.1
echo "{KEYRING}"
echo "{KEYRING}" >&2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A key file, a stand-in for secret-tool, and the config."""
    folder = tmp_path_factory.mktemp("secrets")
    key, tool = folder / "openai.key", folder / "secret-tool"
    key.write_text(FILE + "\n", encoding="utf-8")
    key.chmod(0o600)
    tool.write_text(SECRET_TOOL, encoding="utf-8")
    tool.chmod(0o755)
    (folder / "config.json").write_text(json.dumps({
        "secrets": {
            "openai": {"variable": "OPENAI_API_KEY", "file": str(key)},
            "github": {"variable": "GITHUB_TOKEN", "env": "THE_OWNERS_TOKEN"},
            "other": {"variable": "GITHUB_TOKEN", "file": str(key)},
            "mail": {"variable": "MAIL_PASSWORD", "secret_tool": ["service", "mail"]},
            "gone": {"variable": "GONE", "file": str(folder / "gone.key")},
        },
        "policy": {"secrets": ["github", "other", "mail", "gone"]},
        "environments": {"default": {"secrets": ["openai"], "pool": 0}},
    }), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """One server for all; what it ever sent, and its log at the level debug, is looked at last."""
    env = {**os.environ, "THE_OWNERS_TOKEN": VARIABLE, "PATH": f"{folder}:{os.environ['PATH']}"}
    with Client("--config", folder / "config.json", "--toolsets", "all", "--log-level", "debug",
                env=env) as client:
        yield client


@pytest.fixture(scope="module")
def session(server):
    """A session with three of them."""
    made = server.tool("create_session", {"secrets": ["github", "mail"]})
    assert not made.is_error, made
    return made.session


def sizes(server, session, names):
    """The lengths of variables, which say that they are there."""
    code = f"import os\nprint([len(os.environ.get(name, '')) for name in {names}])"
    return server.run(code, session=session).text("stdout")


def test_values_are_in_the_environment(server, session):
    """From a file, a variable and the keyring; a run's own env is over them."""
    names = ["OPENAI_API_KEY", "GITHUB_TOKEN", "MAIL_PASSWORD"]
    assert sizes(server, session, names) == f"{[len(value) for value in VALUES]}\n"
    assert sizes(server, None, names) == f"{[len(FILE), 0, 0]}\n"
    shell = server.tool("run_command", {"script": "echo ${#MAIL_PASSWORD}", "session": session})
    assert shell.text("stdout") == f"{len(KEYRING)}\n"
    over = server.run("print(os.environ['MAIL_PASSWORD'])", session=session,
                      env={"MAIL_PASSWORD": "mine"})
    assert over.text("stdout") == "mine\n"


def test_output_is_masked(server, session):
    """Both streams, in pieces, the result as repr has it, JSON, rich output."""
    run = server.run(
        "import os, sys, time, json\nv = os.environ['OPENAI_API_KEY']\n"
        "for c in 'a' + v + 'b\\n': print(c, end='', flush=True); time.sleep(0.002)\n"
        "print(v, file=sys.stderr)\nprint(json.dumps(os.environ['GITHUB_TOKEN']))\n"
        "class Rich:\n"
        "    def _repr_html_(self): return '<b>' + v\n"
        "    def __repr__(self): return 'r' + v\n"
        "Rich() if v else None", session=session)
    assert run.text("stdout") == 'a[secret openai]b\n"[secret github]"\n'
    assert run.text("stderr") == "[secret openai]\n"
    assert "[secret openai]" in run.text("result") + run.text("display")
    shown = server.run("import os\n{'k': os.environ['GITHUB_TOKEN']}", session=session)
    assert shown.text("result") == "{'k': '[secret github]'}"


def test_an_error_is_masked(server, session):
    """The traceback, and the outcome."""
    run = server.run("import os; raise ValueError(os.environ['MAIL_PASSWORD'])", session=session)
    assert "ValueError: [secret mail]" in run.text("error")
    assert run.outcome["error"]["evalue"] == "[secret mail]"


def test_progress_and_background_runs_are_masked(server, session):
    """A message, and pages."""
    code = "import os, time\nprint('p', os.environ['OPENAI_API_KEY'], flush=True); time.sleep(0.2)"
    run = server.tool("run_code", {"code": code, "session": session}, token="progress")
    assert run.text("stdout") == "p [secret openai]\n"
    assert any("p [secret openai]" in p["message"] for p in server.progress("progress"))
    begun = server.tool("run_code", {"code": code, "session": session, "background": True})
    page = server.tool("poll_run", {"run": begun.meta["cellblock/run"]["run"], "wait_seconds": 20})
    while page.meta["cellblock/run"]["state"] != "done":
        assert "sk-live" not in page.text()
        page = server.tool("poll_run", {"run": page.meta["cellblock/run"]["run"],
                                        "wait_seconds": 20})
    assert "p [secret openai]" in page.text("stdout")


def test_files_are_masked_across_pages(server, session):
    """A page ends before a value that goes on past it; base64 is not looked at."""
    server.run("import os; v = os.environ['OPENAI_API_KEY']\n"
               "open('f', 'w').write('x' * 38_990 + v + 'y' * 100)", session=session)
    text, offset = "", 0
    while len(text) < 38_000 or "y" * 100 not in text:
        page = server.tool("read_file", {"path": "f", "session": session, "offset": offset})
        assert not page.is_error, page
        piece = page.text("file")
        text += piece
        offset += len(piece.replace("[secret openai]", FILE))
    assert text == "x" * 38_990 + "[secret openai]" + "y" * 100
    plain = server.tool("read_file", {"path": "f", "session": session, "offset": 38_990,
                                      "length": len(FILE), "encoding": "base64"})
    assert base64.b64decode(plain.text("file")).decode() == FILE


def test_artifacts_are_masked_also_when_their_session_has_ended(server):
    """Which wipes the values."""
    made = server.tool("create_session", {"secrets": ["mail"]}).session
    run = server.run("import os; open('note.txt', 'w').write('n ' + os.environ['MAIL_PASSWORD'])",
                     session=made)
    uri = next(block["uri"] for block in run.content if block["type"] == "resource_link")
    for _ in range(2):
        read = server.request("resources/read", {"uri": uri})
        assert read["contents"][0]["text"] == "n [secret mail]"
        server.tool("end_session", {"session": made, "how": "kill"})


def test_names_are_told_and_values_are_not(server, session):
    """get_session, list_environments."""
    facts = json.loads(server.tool("get_session", {"session": session}).text())
    assert facts["secrets"] == {"openai": "OPENAI_API_KEY", "github": "GITHUB_TOKEN",
                                "mail": "MAIL_PASSWORD"}
    listed = json.loads(server.tool("list_environments").text())["environments"]
    assert listed[0]["secrets"] == ["openai"]


@pytest.mark.parametrize("secrets, expected", [
    (["opnai"], "secret \"opnai\" may not be asked for"),
    (["github", "other"], "both for the variable GITHUB_TOKEN"),
])
def test_what_may_not_be_asked_for(server, secrets, expected):
    """A name that policy has not, two for one variable."""
    made = server.tool("create_session", {"secrets": secrets})
    assert made.is_error and expected in made.text()


def test_one_that_is_missing_refuses_runs_until_it_is_there(server, folder):
    """And says what to do."""
    made = server.tool("create_session", {"secrets": ["gone"]}).session
    run = server.run("print(1)", session=made)
    assert run.cause == "refused" and "secret \"gone\" is not there" in run.text()
    assert "secrets.gone" in run.text() and "No such file" in run.text()
    key = folder / "gone.key"
    key.write_text("found at last", encoding="utf-8")
    key.chmod(0o600)
    assert server.run("print(1)", session=made).text("stdout") == "1\n"


def test_runs_that_wait_for_the_keyring_keep_their_order(server):
    """And one that is taken back does not run."""
    made = server.tool("create_session", {"secrets": ["mail"]}).session
    ids = [server.begin_tool("run_code", {"code": code, "session": made})
           for code in ("x = [1]", "x = x + [2]", "x.append(3)", "print(x)")]
    server.cancel(ids[2])
    assert server.tool_result(ids[3]).text("stdout") == "[1, 2]\n"


def texts(value):
    """All texts in a JSON value, keys too."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def test_no_value_was_ever_said(server):
    """The last: all that came on standard output and in the log. The control: the marks came."""
    log, sent = bytes(server.stderr).decode(), "\n".join(texts(server.messages))
    for value in VALUES:
        for form in (value, json.dumps(value)[1:-1], repr(value)[1:-1]):
            assert form not in log and form not in sent
    assert sent.count("[secret openai]") > 5
