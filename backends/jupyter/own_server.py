"""Started by own_server.c: python own_server.py FOLDER. Becomes a Jupyter Server or a gateway.

Says on stdout, in one line of JSON, which of them it is and where it listens. Ends when the process
that started it ends, and removes FOLDER when it ends.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import sys

TIME_TO_DEAD = 0.3  # seconds until a kernel that died is noticed
LIMITS = (
    "--ZMQChannelsWebsocketConnection.limit_rate=False",
    "--KernelRestarter.time_to_dead=%s" % TIME_TO_DEAD,
)


def die_with_parent():
    """A server that nobody uses any more must not stay."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() == 1:
        sys.exit("the process that started this server has ended")


def server(folder):
    """(what to say, the function that runs it)"""
    from jupyter_server import version_info
    from jupyter_server.serverapp import launch_new_instance

    path = os.path.join(folder, "socket")
    arguments = [
        "--ServerApp.sock=" + path,
        "--ServerApp.sock_mode=0600",
        "--ServerApp.root_dir=" + os.path.join(folder, "home"),
        "--ServerApp.open_browser=False",
        "--ServerApp.allow_root=True",
        "--ServerApp.jpserver_extensions={}",
        "--ServerApp.terminals_enabled=False",
        *LIMITS,
    ]
    if version_info[0] < 2:
        arguments += ["--ServerApp.iopub_data_rate_limit=0", "--ServerApp.iopub_msg_rate_limit=0"]
    return {"socket": path}, lambda: launch_new_instance(argv=arguments)


def gateway(_folder):
    """The same for a gateway, which has no unix socket."""
    from kernel_gateway import launch_instance

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        "--KernelGatewayApp.ip=127.0.0.1",
        "--KernelGatewayApp.port=%d" % port,
        "--KernelGatewayApp.port_retries=0",
        "--KernelGatewayApp.allow_root=True",
        "--JupyterWebsocketPersonality.list_kernels=True",
        *LIMITS,
    ]
    return {"port": port}, lambda: launch_instance(argv=arguments)


def choose(folder):
    """Jupyter Server, or else Kernel Gateway."""
    try:
        return server(folder)
    except ImportError as first:
        try:
            return gateway(folder)
        except ImportError:
            sys.exit(
                "%s has neither jupyter_server nor kernel_gateway (%s): install one of them and "
                "ipykernel there, or name another Python" % (sys.executable, first)
            )


def main(folder):
    """Runs until it is told to end."""
    die_with_parent()
    try:
        os.setsid()
    except OSError:
        pass
    for name in ("home", "runtime", "config", "ipython", "tmp"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    os.chdir(os.path.join(folder, "home"))
    # Of jsonschema's checks, one that no server asks for takes two seconds to be read (a grammar of
    # addresses in all languages). The kernels are processes of their own.
    sys.modules["rfc3987_syntax"] = None
    try:
        said, run = choose(folder)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        run()
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


main(sys.argv[1])
