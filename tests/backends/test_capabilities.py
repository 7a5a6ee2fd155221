"""What a backend lacks is refused as unsupported, naming those that have it."""

import json
import subprocess

import pytest
from matrix import FOUND, capabilities, matrix
from support.client import binary

# What a limit's setting is called.
LIMITS = {"memory_limit": {"memory_mib": 512}, "disk_limit": {"disk_mib": 64},
          "process_limit": {"processes": 64}}
# Lacked without anything that could be asked for: a run's result has no such figures then.
SILENT = {"usage"}


def holders(capability):
    """The backends that have a capability."""
    return [name for name, row in matrix().items() if row[capability]]


def refused(result, capability):
    """An error that names who has the capability, if anybody has."""
    assert result.is_error, result
    for name in holders(capability):
        assert name in result.text(), result
    if result.outcome:
        assert result.cause == "unsupported"
    return result


def test_the_matrix_is_complete(has):
    text = subprocess.run([binary(), "backends", "--json"], check=True, capture_output=True).stdout
    for row in json.loads(text)["backends"]:
        assert row["capabilities"]["stateful"] or row["capabilities"]["ephemeral"]
        assert "python" in row["languages"] and row["summary"]
        assert ("shell" in row["languages"]) == row["capabilities"]["shell"]


@pytest.mark.lacking("cloud")
def test_cloud_shares(py):
    result = py.call("add_share", type="cloud", bucket="b", dest="/workspace/bucket")
    assert "cloud" in refused(result, "cloud").text()
    assert py.value("1 + 1") == "2"


@pytest.mark.needs("cloud")
def test_a_bucket(launch):
    share = {"type": "cloud", "bucket": "suite", "dest": "/data/bucket"}
    with launch(environment={"shares": [share]}) as client:
        assert client.run("import os; os.listdir('/data/bucket')").text("result") == "[]"
        result = client.run("open('/data/bucket/new', 'w')")
    assert result.outcome["error"]["etype"] in ("OSError", "PermissionError")


@pytest.mark.lacking("snapshot")
def test_snapshots(box):
    assert box.value("1 + 1") == "2"
    refused(box.call("create_snapshot"), "snapshot")
    assert box.value("1 + 1") == "2"


@pytest.mark.needs("snapshot", "stateful")
def test_a_snapshot(box):
    box.run("word = 'kept'; open('mark', 'w').write(word)")
    made = box.call("create_snapshot")
    assert not made.is_error, made
    ask = box.server.tool
    id_ = json.loads(ask("list_snapshots", {}).text())["snapshots"][0]["id"]
    session = ask("create_session", {"snapshot": id_}).session
    assert box.server.run("open('mark').read()", session=session).text("result") == "'kept'"
    assert not ask("end_session", {"session": session}).is_error
    assert not ask("delete_snapshot", {"snapshot": id_}).is_error
    assert box.value("word") == "'kept'"


@pytest.mark.lacking("snapshot_memory")
def test_a_snapshot_with_variables(box):
    assert box.value("1 + 1") == "2"
    result = box.call("create_snapshot", memory=True)
    assert result.is_error, result
    assert any(word in result.text() for word in ("modal", '"memory_snapshots": true')), result


@pytest.mark.lacking("network_hosts")
def test_some_hosts(variant):
    done = subprocess.run([binary(), "run", "--backend", variant.backend, "--network", "pypi.org",
                           "-"], input="1", capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "pypi.org" in done.stderr
    assert all(name in done.stderr for name in holders("network_hosts"))


@pytest.mark.lacking("mount", "mount_copy")
def test_mounts(box, host):
    result = box.share(host, "/workspace/mounted", "mount")
    assert "mount" in refused(result, "mount").text() and "copy" in result.text()
    assert box.value("1 + 1") == "2"


@pytest.mark.needs("mount|mount_copy")
@pytest.mark.lacking("mount_write")
def test_writable_mounts(box, host):
    refused(box.share(host, "/workspace/mounted", "mount", read_only=False), "mount_write")
    assert box.value("1 + 1") == "2"


@pytest.mark.lacking("mount", "mount_copy", "mount_write")
def test_writable_mounts_where_there_are_none(box, host):
    refused(box.share(host, "/workspace/mounted", "mount", read_only=False), "mount_write")


@pytest.mark.lacking("copy")
def test_copies(box, host):
    (host / "f").write_text("x")
    refused(box.share(host / "f", "/workspace/f"), "copy")


@pytest.mark.lacking("files")
def test_files(box):
    refused(box.call("write_file", path="a", content="x"), "files")
    assert box.value("1 + 1") == "2"


@pytest.mark.lacking("stateful")
def test_a_state(launch):
    with launch(environment={"mode": "stateful"}) as client:
        refused(client.run("1"), "stateful")


@pytest.mark.lacking("shell")
def test_shell(box):
    refused(box.shell("echo x"), "shell")


@pytest.mark.lacking("stdin")
def test_stdin(box):
    refused(box.run("input()", stdin="x"), "stdin")


@pytest.mark.lacking("kernelspecs")
def test_other_languages(py):
    result = py.call("run_code", code="echo x", language="bash_kernel")
    assert result.is_error and "python" in result.text() and "shell" in result.text()


@pytest.mark.needs("kernelspecs")
class TestKernelspecs:
    def test_another_language(self, box):
        result = box.run("echo one; x=kept; echo err >&2", language="bash")
        assert result.cause == "ok" and result.text("stdout").startswith("one\n"), result
        assert "err" in result.text("stderr") + result.text("stdout")  # a pty, in bash_kernel

    def test_it_has_a_state_of_its_own(self, box):
        box.ok("x = 'python'")
        box.ok("x=bash", language="bash")
        assert box.printed("echo $x", language="bash") == "bash\n"
        assert box.value("x") == "'python'"

    def test_files_are_shared(self, box):
        box.ok("with open('f', 'w') as f: f.write('from python')")
        assert box.printed("cat f", language="bash").strip() == "from python"

    def test_its_errors(self, box):
        result = box.run("no-such-command", language="bash")
        assert result.is_error and "no-such-command" in result.text(), result
        assert box.printed("echo alive", language="bash") == "alive\n"

    def test_its_time_out(self, box):
        result = box.run("echo before; sleep 60", language="bash", timeout_seconds=1)
        assert result.cause == "timeout" and "before" in result.text("stdout"), result
        assert box.printed("echo alive", language="bash") == "alive\n"

    def test_one_that_is_not_there_is_refused_and_names_those_that_are(self, box):
        box.ok("kept = 1")
        result = box.run("1", language="cobol")
        assert result.is_error and "bash" in result.text() and "cobol" in result.text(), result
        assert box.value("kept") == "1"


def test_a_source_for_cloud_or_none_for_copy(py):
    assert "source" in py.call("add_share", type="copy", dest="/workspace/x").text()


def test_an_unknown_environment(server):
    result = server.run("1", environment="nosuch")
    assert result.is_error and "default" in result.text()


@pytest.mark.needs("stateful")
def test_an_environment_by_name(launch):
    with launch(environments={"other": {"env": {"WHICH": "other"}}}) as client:
        result = client.run("import os; os.environ.get('WHICH')", environment="other")
        assert result.text("result") == "'other'" and result.outcome["environment"] == "other"
        again = client.run("os.environ['WHICH']", session=result.session)
        assert again.text("result") == "'other'"
        wrong = client.run("1", session=result.session, environment="default")
        assert wrong.is_error and "other" in wrong.text()


@pytest.mark.parametrize("capability", LIMITS)
def test_a_limit_that_cannot_be_held_is_refused(launch, variant, capability):
    if matrix()[variant.backend][capability]:
        return  # test_limits.py is about those
    with launch(environment=LIMITS[capability]) as client:
        result = client.run("1")
    (setting,) = LIMITS[capability]
    assert result.is_error and setting in result.text(), result


@pytest.mark.verdict
def test_the_matrix_is_what_the_suite_found(variant):
    """Each capability was met by a test that passed, and each that is lacking was refused."""
    found = FOUND.get(variant.name, set())
    has = capabilities(variant)
    unproved = has - found
    assert not unproved, f"claimed, and no test that needs it passed: {sorted(unproved)}"
    lacks = set(matrix()[variant.backend]) - has - SILENT - set(LIMITS)
    unrefused = {name for name in lacks if f"no {name}" not in found}
    assert not unrefused, f"lacking, and no test saw it refused: {sorted(unrefused)}"
