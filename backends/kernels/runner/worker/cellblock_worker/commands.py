"""Child processes: shell runs, !command, %%bash and %pip. They inherit fds 0, 1 and 2."""

import _signal as signal
import os
import sys
import time

SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh")
ARGUMENT_LIMIT = 100 * 1024
_STEPS = ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.2), (signal.SIGKILL, 1.0))
home = "/workspace"  # where this worker was started
_shell = None


def shell_path():
    """bash, or sh where there is none."""
    global _shell
    if _shell is None:
        _shell = next((path for path in SHELLS if os.access(path, os.X_OK)), "/bin/sh")
    return _shell


def stop(child):
    """Ends a child's whole group: asks first, within less than the server's patience."""
    for number, patience in _STEPS:
        try:
            os.killpg(child.pid, number)
        except OSError:
            pass
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if child.poll() is not None:
                return
            time.sleep(0.005)


def run(argv, stdin=None, env=None):
    """Runs a command to its end; returns its status as subprocess does. An interrupt ends it."""
    from subprocess import Popen

    child = Popen(argv, stdin=stdin, env=env, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        stop(child)
        raise


def to_bytes(text):
    """Text as a command gets it, whatever the locale."""
    return text.encode("utf-8", "surrogateescape")


def script(code, shell=None, run=run):
    """Runs the text of a shell script; returns the status."""
    shell = shell or shell_path()
    if "\0" in code:
        raise ValueError("a shell command cannot contain a NUL character")
    data = to_bytes(code)
    if len(data) <= ARGUMENT_LIMIT:
        return run([shell, "-c", data])
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="run-", suffix=".sh") as file:
        file.write(data)
        file.flush()
        return run([shell, file.name])


def system(command):
    """!command: the exit code, 128 + n (as a shell says it) for signal n."""
    status = script(command)
    return status if status >= 0 else 128 - status


def output_of(command):
    """x = !command: the lines that it prints."""
    import subprocess

    found = subprocess.run(
        [shell_path(), "-c", to_bytes(command)],
        stdout=subprocess.PIPE,
        check=False,
    )
    return found.stdout.decode("utf-8", "backslashreplace").splitlines()


def cell_script(code, shell=None):
    """%%bash: a status other than 0 is an error."""
    status = script(code, shell)
    if status != 0:
        raise _failure(status, "%%bash" if shell is None else shell)


def _failure(status, command):
    """The error of a command that should have gone well."""
    from subprocess import CalledProcessError

    return CalledProcessError(status, command)


def pip(arguments):
    """%pip: runs pip with this interpreter; a failure is an error of the run."""
    import importlib.util

    importlib.invalidate_caches()
    if importlib.util.find_spec("pip") is None:
        raise ModuleNotFoundError(
            "this Python (%s) has no pip: use an environment whose Python has it, or one that "
            "already contains the packages" % sys.version.split()[0],
            name="pip",
        )
    env = dict(os.environ)
    for name, value in _PIP_DEFAULTS.items():
        env.setdefault(name, value)
    status = run([sys.executable, "-m", "pip"] + arguments, env=env)
    importlib.invalidate_caches()
    if status != 0:
        command = "pip " + " ".join(arguments)
        raise _failure(status, command)


_PIP_DEFAULTS = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
}
