"""What people would use instead, measured the same way in the same run.

Each rival is a context manager that yields a function doing one run; one that is not installed
raises ImportError or FileNotFoundError and is reported as not measured.
"""

import contextlib
import subprocess

BWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink",
         "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin",
         "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
PYTHON = ["/usr/bin/python3", "-I", "-S", "-c", "print(1)"]


@contextlib.contextmanager
def command(*words):
    """A command that is started and waited for."""
    def once():
        if subprocess.run(words, capture_output=True, check=True).stdout != b"1\n":
            raise RuntimeError(f"{words[0]} did not print 1")
    yield once


def python():
    """A bare interpreter, no walls."""
    return command(*PYTHON)


def bwrap_python():
    """The same in all of bubblewrap's namespaces."""
    return command(*BWRAP, *PYTHON)


@contextlib.contextmanager
def ipykernel(code="1+1"):
    """A warm kernel through jupyter_client's blocking client."""
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        def once():
            client.execute_interactive(code, timeout=10, output_hook=lambda message: None)
        yield once
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def ipython(code="1+1"):
    """IPython's shell in this very process, output captured, as in-process sandboxes do."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    shell = InteractiveShell.instance()

    def once():
        with capture_output():
            shell.run_cell(code, store_history=True)
    yield once


@contextlib.contextmanager
def monty(code="print(1)"):
    """pydantic-monty, a subset of Python: a fresh session of its pool of processes for each run."""
    import pydantic_monty
    with pydantic_monty.Monty() as pool:
        def once():
            printed = pydantic_monty.CollectString()
            with pool.checkout() as session:
                session.feed_run(code, print_callback=printed)
        yield once
