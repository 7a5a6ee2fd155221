"""The official Python SDK of Modal as the rival: does what each line of stdin says, answers each.

    ["ephemeral", CODE]  a sandbox for this code, run by IPython in it, as asta-sandbox does
    ["bare", CODE]       the same by `python -c`
    ["output", CODE]     how many bytes the code prints in a sandbox that is there
"""

import json
import sys

import modal

RUNNER = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
result = shell.run_cell(json.load(sys.stdin)["code"])
sys.exit(0 if result.success else 1)
"""


def fresh(app, image, code, words, told):
    """One run in a sandbox of its own; what it printed. It is made as ours is, with a limit."""
    sandbox = modal.Sandbox.create(app=app, image=image, timeout=120, memory=(1024, 1088))
    try:
        process = sandbox.exec(*words)
        if told:
            process.stdin.write(json.dumps({"code": code}))
        process.stdin.write_eof()
        process.stdin.drain()
        process.wait()
        return process.stdout.read()
    finally:
        sandbox.terminate()


def main():
    """Until stdin ends."""
    app = modal.App.lookup("bench", create_if_missing=True)
    image = modal.Image.debian_slim(python_version="3.11")
    lasting = None
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, code = json.loads(line)
        if what == "output":
            lasting = lasting or modal.Sandbox.create(app=app, image=image, timeout=600)
            answer = len(lasting.exec("python", "-c", code).stdout.read())
        elif what == "bare":
            answer = fresh(app, image, code, ("python", "-c", code), False)
        else:
            answer = fresh(app, image, code, ("python", "-c", RUNNER), True)
        print(json.dumps(answer), flush=True)
    if lasting:
        lasting.terminate()


if __name__ == "__main__":
    main()
