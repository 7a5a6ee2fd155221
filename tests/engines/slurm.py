"""A cluster of one node: munged, slurmctld and slurmd with folders and ports of their own."""

import os
import secrets
import socket

from .common import Engine, free_port, run, which

CONFIG = """\
ClusterName=cellblock
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
InactiveLimit=0
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 Boards=1 SocketsPerBoard=1 CoresPerSocket=64 \
ThreadsPerCore=1 RealMemory=1000000 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES State=UP OverSubscribe=YES
SlurmdParameters=config_overrides
"""


class Slurm(Engine):
    """start() answers {"command": ["srun", …], "env": {"SLURM_CONF": …}}."""

    name = "slurm"
    packages = ("munge", "slurmctld", "slurmd", "slurm-client")
    commands = ("munged", "slurmctld", "slurmd", "srun", "sinfo", "squeue", "scancel")
    root_only = True

    def launch(self):
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(mode=0o755)
        self._munge()
        config = self.folder / "slurm.conf"
        config.write_text(CONFIG.format(
            host=socket.gethostname().partition(".")[0], controller=free_port(), node=free_port(),
            folder=self.folder), encoding="ascii")
        env = dict(os.environ, SLURM_CONF=str(config))
        controller = self.spawn([which("slurmctld"), "-D", "-f", config], env, "slurmctld")
        node = self.spawn([which("slurmd"), "-D", "-f", config], env, "slurmd")
        self.wait("the controller does not answer", lambda: "tests" in run(
            "sinfo", "-h", "-o", "%R", env=env, timeout=10), controller)
        self.wait("the node is not ready", lambda: "idle" in run(
            "sinfo", "-h", "-o", "%T", env=env, timeout=10), node)
        self.wait("srun does not run", lambda: run("srun", "true", env=env, timeout=20) == "", node)
        # Without --export a job has the environment of who asks for it, secrets and all.
        return {"command": ["srun", "--unbuffered", "--export=PATH", "--cpus-per-task=1",
                            "--mem={memory_mib}M"],
                "env": {"SLURM_CONF": str(config)}}

    def _munge(self):
        key, here = self.folder / "munge" / "key", self.folder / "munge"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        process = self.spawn([
            which("munged"), "--foreground", "--force", "--key-file", key, "--socket",
            here / "socket", "--pid-file", here / "pid", "--log-file", here / "log",
            "--seed-file", here / "seed"], log="munged")
        trial = f"munge -n -S {here}/socket | unmunge -S {here}/socket"
        self.wait("munged does not answer", lambda: "STATUS" in run("sh", "-c", trial, timeout=5),
                  process)

    def leftovers(self):
        env = dict(os.environ, **self.running()["env"])
        return run("squeue", "--noheader", timeout=10, env=env).splitlines()

    def cleanup(self):
        run("scancel", "--quiet", "--partition=tests", timeout=10,
            env=dict(os.environ, SLURM_CONF=str(self.folder / "slurm.conf")))


