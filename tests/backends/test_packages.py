"""%pip install of a local wheel, and the import that follows."""

import pytest

pytestmark = pytest.mark.needs("pip", "copy")


def bring(box, wheel, name, files):
    """Builds a wheel and copies it in; returns its path in the session."""
    path = wheel(name, files)
    box.bring(path, f"/workspace/{path.name}")
    return f"/workspace/{path.name}"


def test_install_and_use_in_the_same_cell(box, wheel):
    path = bring(box, wheel, "tinyone", {"tinyone.py": "answer = 42\n"})
    result = box.ok(f"%pip install --no-index {path}\nimport tinyone\ntinyone.answer")
    assert result.text("result") == "42"
    assert "Successfully installed tinyone-1.0" in result.text("stdout")


@pytest.mark.needs("stateful")
def test_it_lives_on(box, wheel):
    path = bring(box, wheel, "tinytwo", {"tinytwo/__init__.py": "from .part import x\n",
                                         "tinytwo/part.py": "x = 'part'\n"})
    box.ok(f"%pip install --no-index -q {path}")
    assert box.value("import tinytwo; tinytwo.x") == "'part'"
    assert "tinytwo" in box.printed("%pip list")
    python = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import tinytwo'])"
    assert box.value(python + ".returncode") == "0"


@pytest.mark.needs("stateful")
def test_pip_of_the_shell_installs_for_the_session(box, wheel):
    path = bring(box, wheel, "tinythree", {"tinythree.py": "y = 3\n"})
    box.run(f"!pip install --no-index -q {path}")
    assert box.value("import tinythree; tinythree.y") == "3"


def test_it_is_gone_in_another_session(boxes, wheel):
    one, other = boxes(), boxes()
    path = bring(one, wheel, "tinyfour", {"tinyfour.py": ""})
    one.ok(f"%pip install --no-index -q {path}\nimport tinyfour")
    assert other.run("import tinyfour").outcome["error"]["etype"] == "ModuleNotFoundError"


def test_a_package_that_is_not_there(box):
    result = box.run("%pip install --no-index surely-not-there")
    assert result.cause == "error" and "surely-not-there" in result.text()
    assert box.value("1 + 1") == "2"


@pytest.mark.needs("stateful")
def test_a_newer_version_after_reinstall(box, host):
    from wheels import build

    for version in ("1.0", "2.0"):
        path = build(host, "tinyfive", {"tinyfive.py": f"v = '{version}'\n"}, version)
        box.bring(path, f"/workspace/{path.name}")
        box.ok(f"%pip install --no-index -q --upgrade /workspace/{path.name}")
        code = "import importlib, tinyfive\nimportlib.reload(tinyfive).v"
        assert box.value(code) == f"'{version}'"


@pytest.mark.needs("walls")
def test_without_a_network_it_fails_in_time_and_says_why(box):
    result = box.run("%pip install --retries 0 --timeout 1 surely-not-there", timeout_seconds=30)
    assert result.cause == "error", result
    assert result.outcome["duration_ms"] < 25_000
