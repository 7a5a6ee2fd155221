"""`cellblock doctor`: what works, what does not, and what mends it."""

import json
import subprocess


def checks(done):
    """The checks of a JSON report by name."""
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_a_machine_where_it_works(cellblock):
    """Exit status 0, and a sandbox has really run."""
    done = cellblock("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert report["ok"] is True and report["backend"] == "local"
    found = checks(done)
    assert found["sandbox"]["state"] == "ok"
    for name in ("bubblewrap", "user namespaces", "seccomp", "python", "memory limit"):
        assert found[name]["state"] == "ok", found[name]
    assert "python3" in found["python"]["detail"]
    for check in report["checks"]:
        assert check["state"] in ("ok", "missing", "failed")
        assert check["detail"] and (check["fix"] is None) == (check["state"] == "ok")


def test_the_text_says_the_same(cellblock):
    """One line a check, and a verdict."""
    text = cellblock("doctor").stdout
    for name in checks(cellblock("doctor", "--json")):
        assert name in text
    assert text.rstrip().endswith("This configuration works here.")


def test_a_missing_bubblewrap(cellblock):
    """Exit status 1 and the command that installs it."""
    done = cellblock("doctor", "--json", "--python", "/usr/bin/python3",
                     env={"PATH": "/nonexistent"})
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert checks(done)["bubblewrap"]["fix"] == "apt-get install bubblewrap"
    assert checks(done)["sandbox"]["state"] == "failed"


def test_a_python_that_is_none(cellblock):
    """It looks at what was asked for, not at something else."""
    done = cellblock("doctor", "--json", "--python", "/nonexistent/python3")
    assert done.returncode == 1
    assert "/nonexistent/python3" in done.stdout


def test_an_isolation_that_goes_without_bubblewrap(cellblock):
    """What is missing and not asked for is told, and is no failure."""
    done = cellblock("doctor", "--json", "--isolation", "none", "--network", "all", "--python",
                     "/usr/bin/python3", env={"PATH": "/nonexistent"})
    assert checks(done)["bubblewrap"]["state"] == "missing"
    assert done.returncode == 0, done.stdout


def test_settings_that_do_not_go_together(cellblock):
    """No isolation cannot keep a promise about the network: that is said, and nothing is run."""
    done = cellblock("doctor", "--isolation", "none")
    assert done.returncode == 1 and "--network all" in done.stdout
    done = cellblock("run", "--isolation", "none", "-", input="print('ran')")
    assert done.returncode == 3 and "--network all" in done.stderr and done.stdout == ""


def test_packages_of_another_machine_are_not_mended_here(cellblock, tmp_path):
    """apt-get on this machine would not bring a package to where the command leads."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", tmp_path / "venv"],
                   check=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"environments": {"default": {
        "backend": "command", "command": ["env"], "network": "all",
        "python": str(tmp_path / "venv" / "bin" / "python3")}}}))
    done = cellblock("doctor", "--json", "--config", config)
    assert done.returncode == 0, done.stdout
    numpy = checks(done)["numpy"]
    assert numpy["state"] == "missing" and numpy["fix"].startswith("install it there")
