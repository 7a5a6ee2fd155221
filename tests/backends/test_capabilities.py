"""What a backend lacks is refused as unsupported, naming those that have it."""

import json
import subprocess

import pytest
from support.client import binary


def holders(capability):
    """The backends that have a capability."""
    text = subprocess.run([binary(), "backends", "--json"], check=True, capture_output=True).stdout
    return [row["name"] for row in json.loads(text)["backends"] if row["capabilities"][capability]]


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


@pytest.mark.lacking("mount")
def test_mounts(box, host):
    result = box.share(host, "/workspace/mounted", "mount")
    assert "mount" in refused(result, "mount").text() and "copy" in result.text()
    assert box.value("1 + 1") == "2"


@pytest.mark.lacking("copy")
def test_copies(box, host):
    (host / "f").write_text("x")
    refused(box.share(host / "f", "/workspace/f"), "copy")


@pytest.mark.lacking("shell")
def test_shell(box):
    refused(box.shell("echo x"), "shell")


@pytest.mark.lacking("stdin")
def test_stdin(box):
    refused(box.run("input()", stdin="x"), "stdin")


def test_a_source_for_cloud_or_none_for_copy(py):
    assert "source" in py.call("add_share", type="copy", dest="/workspace/x").text()


def test_an_unknown_environment(server):
    result = server.run("1", environment="nosuch")
    assert result.is_error and "default" in result.text()


def test_an_environment_by_name(launch):
    with launch(environments={"other": {"env": {"WHICH": "other"}}}) as client:
        result = client.run("import os; os.environ.get('WHICH')", environment="other")
        assert result.text("result") == "'other'" and result.outcome["environment"] == "other"
        again = client.run("os.environ['WHICH']", session=result.session)
        assert again.text("result") == "'other'"
        wrong = client.run("1", session=result.session, environment="default")
        assert wrong.is_error and "other" in wrong.text()
