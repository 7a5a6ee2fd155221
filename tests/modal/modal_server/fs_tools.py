#!/usr/bin/python3 -IS
"""The service's file tools inside a sandbox: one command as JSON, data on stdin or stdout.

ReadFile, WriteFile, ListFiles, MakeDirectory, Remove, Stat. What fails is JSON on stderr,
{"error_kind", "message", "detail"}, and status 1.
"""

import errno
import grp
import json
import os
import pwd
import shutil
import stat
import sys

LARGEST = 1 << 30  # bytes that ReadFile gives out
KINDS = {errno.ENOENT: "NotFound", errno.EISDIR: "IsDirectory", errno.ENOTDIR: "NotDirectory",
         errno.EACCES: "PermissionDenied", errno.EPERM: "PermissionDenied",
         errno.EROFS: "PermissionDenied", errno.EEXIST: "PathAlreadyExists",
         errno.ENOTEMPTY: "DirectoryNotEmpty", errno.EFBIG: "FileTooLarge",
         errno.ENOTSUP: "NotSupported"}


def name_of(number, lookup):
    """A user's or group's name, or its number."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def describe(path):
    """What Stat and ListFiles say of a path; links are not followed."""
    found = os.lstat(path)
    kind = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(found.st_mode))
    target = os.readlink(path) if kind == "symlink" else None
    return {"name": os.path.basename(path.rstrip("/")) or "/", "path": path, "type": kind or "file",
            "size": found.st_size, "mode": found.st_mode, "modified_time": found.st_mtime,
            "permissions": stat.filemode(found.st_mode),
            "owner": name_of(found.st_uid, pwd.getpwuid),
            "group": name_of(found.st_gid, grp.getgrgid), "symlink_target": target}


def read_file(path):
    """A file's content on stdout."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise OSError(errno.EFBIG, "File too large")
        shutil.copyfileobj(file, sys.stdout.buffer)


def write_file(path):
    """What stdin has into a file; its folders are made."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except FileExistsError as problem:
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from problem
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)


def list_files(path):
    """All in a folder, by name."""
    print(json.dumps([describe(os.path.join(path, name)) for name in sorted(os.listdir(path))]))


def make_directory(path, parents=True):
    """A folder, with those above it."""
    if not parents:
        os.mkdir(path)
        return
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError as problem:
        above = os.path.exists(path)
        code = errno.EEXIST if above else errno.ENOTDIR
        raise OSError(code, os.strerror(code)) from problem


def remove(path, recursive=False):
    """A file, an empty folder, or all in it."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
    elif recursive:
        shutil.rmtree(path)
    else:
        os.rmdir(path)


def show_stat(path):
    """One path."""
    print(json.dumps(describe(path)))


COMMANDS = {"ReadFile": read_file, "WriteFile": write_file, "ListFiles": list_files,
            "MakeDirectory": make_directory, "Remove": remove, "Stat": show_stat}


def main(text):
    """Runs a command; its status."""
    kind, message = "InvalidCommand", ""
    try:
        (name, words), = json.loads(text).items()
        COMMANDS[name](**words)
        sys.stdout.flush()
        return 0
    except OSError as problem:
        kind, message = KINDS.get(problem.errno, "Other"), problem.strerror or str(problem)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        message = f"not a command: {problem!r}"
    print(json.dumps({"error_kind": kind, "message": message, "detail": text[:200]}),
          file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
