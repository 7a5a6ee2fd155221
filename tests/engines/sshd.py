"""sshd on the loopback, with keys and a configuration of its own."""

import getpass
import os
from pathlib import Path

from .common import Engine, connects, descendants, free_port, run, which

SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Banner {folder}/banner
PrintMotd no
"""
CLIENT = """\
Host cellblock-test
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    BatchMode yes
"""
RUN = Path("/run/sshd")  # where sshd of root insists on an empty folder


class Sshd(Engine):
    """start() answers {"command": ["ssh", "-F", …, "cellblock-test"], "port": …}."""

    name = "ssh"
    packages = ("openssh-server", "openssh-client")
    commands = ("sshd", "ssh", "ssh-keygen")

    def launch(self):
        self.folder.chmod(0o755)
        port = free_port()
        words = {"port": port, "folder": self.folder, "user": getpass.getuser()}
        for key in ("host_key", "user_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        host = (self.folder / "host_key.pub").read_text(encoding="ascii")
        self._write("known_hosts", f"[127.0.0.1]:{port} {host}")
        self._write("banner", "This machine belongs to the tests.\n")
        self._write("sshd_config", SERVER.format(**words))
        self._write("ssh_config", CLIENT.format(**words))
        if os.getuid() == 0 and not RUN.exists():
            RUN.mkdir(mode=0o755)
            self._write("made_run", "")
        process = self.spawn([which("sshd"), "-D", "-e", "-f", self.folder / "sshd_config"])
        self.wait("sshd does not listen", lambda: connects(port), process, 20)
        command = ["ssh", "-F", str(self.folder / "ssh_config"), "cellblock-test"]
        self.wait("ssh does not get in", lambda: run(*command, "true", timeout=10) == "",
                  process, 20)
        return {"command": command, "port": port}

    def _write(self, name, text):
        (self.folder / name).write_text(text, encoding="ascii")

    def leftovers(self):
        self.running()
        return descendants(self.state["processes"][0][0])

    def swept(self):
        if (self.folder / "made_run").exists():
            RUN.rmdir()


