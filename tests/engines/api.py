"""The Engine API over a unix socket, as far as the tests need it; Podman answers it too."""

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import quote, urlencode


class ApiError(Exception):
    """An answer that says no: `status` and the message."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status = status


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Api:
    """An engine by its socket."""

    def __init__(self, path):
        self.path = Path(str(path).removeprefix("unix://"))

    def call(self, method, target, body=None, query=None, timeout=60, kind="application/json"):
        """One request; the answer as JSON, or as text where it is none."""
        if query:
            target += "?" + urlencode(query)
        if body is not None and kind == "application/json":
            body = json.dumps(body)
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, target, body, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, text.strip())
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def ping(self):
        """Does it answer?"""
        return self.call("GET", "/_ping", timeout=2) == "OK"

    def containers(self, everything=True, **filters):
        """Containers, of all states."""
        query = {"all": int(everything)}
        if filters:
            query["filters"] = json.dumps({key: [value] for key, value in filters.items()})
        return self.call("GET", "/containers/json", query=query)

    def ownerless(self):
        """The containers that are not a living server's, as texts."""
        found = []
        for one in self.containers():
            pid = (one.get("Labels") or {}).get("cellblock.pid")
            if not pid or not Path(f"/proc/{pid}").exists():
                found.append(f"{' '.join(one['Names'])} {one['State']}")
        return found

    def remove(self, container):
        """Kills and removes a container and its anonymous volumes."""
        self.call("DELETE", f"/containers/{quote(container)}", query={"force": 1, "v": 1})

    def images(self):
        """The names of all images."""
        images = self.call("GET", "/images/json")
        return {tag for image in images for tag in image["RepoTags"] or ()}

    def load(self, archive, names):
        """Imports the archive of a file system under these names."""
        repository, _, tag = names[0].rpartition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": 'CMD ["python3"]'}
        with open(archive, "rb") as file:
            self.call("POST", "/images/create", file, query, 300, "application/x-tar")
        for name in names[1:]:
            repository, _, tag = name.rpartition(":")
            self.call("POST", f"/images/{quote(names[0])}/tag",
                      query={"repo": repository, "tag": tag})
