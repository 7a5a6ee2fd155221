"""The real engines that the suites run on, started privately and stopped without a trace."""

from . import docker, jupyter, modal, podman, slurm, sshd

ENGINES = {engine.name: engine for engine in (
    docker.Docker, podman.Podman, jupyter.JupyterServer, jupyter.JupyterServerOld,
    jupyter.KernelGateway, sshd.Sshd, slurm.Slurm, modal.Modal)}
