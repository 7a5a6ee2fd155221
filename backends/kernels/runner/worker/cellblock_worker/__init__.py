"""The Python worker of cellblock: runs code for the server and reports by frames.

`prepare()` is called once, in a process that forks workers later; `serve(fd)` in each worker.
"""

from cellblock_worker.session import main, prepare, serve

__all__ = ["main", "prepare", "serve"]
