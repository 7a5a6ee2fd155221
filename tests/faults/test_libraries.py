"""A library that is loaded when it is needed, and is not there then."""

import json

from support.client import Client


def test_copies_without_libarchive(tmp_path):
    """Code runs; a copy is refused with what is to be installed, and the session goes on."""
    tmp_path.chmod(0o755)
    (tmp_path / "libarchive.so.13").write_bytes(b"")  # found first, and no library
    (tmp_path / "file").write_text("text", encoding="ascii")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"environments": {"default": {
        "backend": "command", "command": ["env"], "network": "all"}}}), encoding="ascii")
    with Client("--config", config, "--share-root", tmp_path,
                env={"LD_LIBRARY_PATH": str(tmp_path)}) as client:
        assert client.run("print(1)").text("stdout") == "1\n"
        share = client.tool("add_share", {"type": "copy", "source": str(tmp_path / "file"),
                                          "dest": "/workspace/file"})
        assert share.is_error and "install libarchive13" in share.text(), share
        assert client.run("print(2)").text("stdout") == "2\n"
