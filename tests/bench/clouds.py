"""Measurements of Modal: ours and the official Python SDK on one server, which the tests ship.

What the network adds in the real service, both would wait for; what is compared is the clients'
own part, and how many calls one after the other each makes of a run.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import wire
from remote import server, warm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "modal"))

from support_modal import ModalServer  # noqa: E402

OUTPUT = 100_000_000  # bytes
PRINT = f"import sys\nfor n in range({OUTPUT // 100_000}): sys.stdout.write('x' * 99_999 + '\\n')\n"


def used(pid):
    """(CPU seconds, peak MiB) of a process until now, its threads with it.

    Its clock is clock_getcpuclockid(3)'s, which Python does not have.
    """
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return time.clock_gettime(~pid << 3 | 2), peak / 1024


class Sdk:
    """The official client in a process of its own (sdk.py), asked line by line."""

    def __init__(self, env):
        self.process = subprocess.Popen([sys.executable, HERE / "sdk.py"], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.answer()

    def answer(self):
        """The next line, as an object."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the SDK's process ended")
        return json.loads(line)

    def ask(self, what, *words):
        """One thing done; what it printed."""
        self.process.stdin.write(json.dumps([what, *words]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def of_server(modal, **environment):
    """A cellblock on that server."""
    return server({"backend": "modal", "python": "3.11", "network": "all", **environment},
                  env=modal.environment())


def taking_turns(pairs, count):
    """For each of `pairs` (function, pid): milliseconds of each call, CPU ms a call, peak MiB.
    They take turns, so that whatever else goes on here, all have the same of it."""
    for once, _ in pairs:
        once()
    before = [used(pid)[0] for _, pid in pairs]
    found = [[] for _ in pairs]
    for _ in range(count):
        for (once, _), times in zip(pairs, found, strict=True):
            started = time.perf_counter()
            once()
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(0.2)
    after = [used(pid) for _, pid in pairs]
    return [(times, (end[0] - start) * 1000 / count, end[1])
            for times, start, end in zip(found, before, after, strict=True)]


def expect(answer, text):
    """Raises unless the text is in it."""
    answer = answer.decode() if isinstance(answer, bytes) else str(answer)
    if text not in answer:
        raise RuntimeError(f"{text!r} is not in {answer[:500]}")


def bench_ephemeral(report, modal):
    """A fresh sandbox for each run: end to end, CPU and memory of the client."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(of_server(modal, backend="modal-ephemeral"))
        sdk = stack.enter_context(Sdk(modal.environment()))
        line = wire.call(7, "print(1)")
        pairs = ((lambda: expect(one.ask(line), '"1\\n"'), one.pid),
                 (lambda: expect(sdk.ask("ephemeral", "print(1)"), "1\n"), sdk.pid),
                 (lambda: expect(sdk.ask("bare", "print(1)"), "1\n"), sdk.pid))
        found = taking_turns(pairs[:2], report.count(30))
        bare = taking_turns(pairs[2:], report.count(30))[0]
    (ours, our_cpu, our_peak), (theirs, their_cpu, their_peak) = found
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    report.add("modal-ephemeral: `print(1)` end to end, p50", ours, "ms")
    report.add("the official SDK: create, exec IPython, wait, read, terminate, p50", theirs, "ms")
    report.add("the same with a bare `python -c`, p50", statistics.median(bare[0]), "ms")
    report.add("… times faster than the SDK", theirs / ours, "×", 2)
    report.add("… of the SDK's CPU", our_cpu / their_cpu, "of it", 0.2,
               f"{our_cpu:.1f} ms a run, {their_cpu:.1f} ms")
    report.add("… of the SDK's memory", our_peak / their_peak, "of it", 0.1,
               f"{our_peak:.1f} MiB at the most, {their_peak:.1f} MiB")


def bench_stateful(report, times, modal):
    """Warm runs, and 100 MB of stdout, in one sandbox."""
    with of_server(modal) as one, Sdk(modal.environment()) as sdk:
        ours, found = warm(report, times, one, 500)
        report.add("modal: warm `1+1`, p50", ours, "ms", 2,
                   f"p99 {sorted(found)[int(.99 * len(found))]:.2f}")
        run = wire.call(7, PRINT, timeout_seconds=300)
        pairs = ((lambda: expect(one.ask(run), f"{OUTPUT:,}"[:3]), one.pid),
                 (lambda: expect(sdk.ask("output", PRINT), str(OUTPUT)), sdk.pid))
        (ours, our_cpu, _), (theirs, their_cpu, _) = taking_turns(pairs, 3)
    ours, theirs = (OUTPUT / 1e3 / statistics.median(one) for one in (ours, theirs))
    report.add("modal: 100 MB of stdout", ours, "MB/s")
    report.add("the official SDK: 100 MB of stdout", theirs, "MB/s")
    report.add("… times the SDK's throughput", ours / theirs, "×", 3,
               "all of it is printed; ours keeps the middle where it was, in the session's file, "
               "and sends what the answer shows")
    report.add("… of the SDK's CPU", our_cpu / their_cpu, "of it", None,
               f"{our_cpu:.0f} ms, {their_cpu:.0f} ms")


def bench_many(report, modal):
    """Sandboxes at once from one server."""
    count = report.count(100)
    modern = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                        "io.modelcontextprotocol/clientCapabilities": {}}}
    with of_server(modal) as one:
        started = time.perf_counter()
        one.write(b"".join(wire.encode(n, "tools/call", {
            **modern, "name": "run_code", "arguments": {"code": f"x = {n}; x"}})
            for n in range(count)))
        answers = [json.loads(one.line()) for _ in range(count)]
        took = (time.perf_counter() - started) * 1000
        cpu, peak = used(one.pid)
    right = sum(a["result"]["content"][0]["text"] == str(a["id"]) for a in answers)
    report.add(f"modal: {count} sandboxes at once, all answered", took, "ms", None,
               f"{right} right; our server {cpu * 1000:.0f} ms of CPU, {peak:.0f} MiB; the rest is "
               "the sandboxes, on two cores")
    if right != count:
        report.problems.append(f"modal: only {right} of {count} sandboxes gave the right answer")


def bench_modal(report, times):
    """All of it."""
    with ModalServer() as modal:
        bench_ephemeral(report, modal)
        bench_stateful(report, times, modal)
        bench_many(report, modal)


BENCHES = {"modal": bench_modal}
