"""Measures cellblock and its rivals in the same run, and prints the figures as a table.

    python3 tests/bench/bench.py [--json FILE] [--quick] [NAME…]

Figures are reported, never asserted: the exit status is 0 whatever they are, and 1 only when
something could not be measured that should have been.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import clouds
import remote
import rivals
import wire
from support import processes


def quantile(values, share):
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def times(once, count, pause=0.0):
    """Milliseconds of each of `count` calls, after one that warms up."""
    once()
    found = []
    for _ in range(count):
        if pause:
            time.sleep(pause)
        started = time.perf_counter()
        once()
        found.append((time.perf_counter() - started) * 1000)
    return found


class Report:
    """Rows of the table, and everything measured for --json."""

    def __init__(self, quick):
        self.quick, self.rows, self.problems = quick, [], []

    def count(self, full):
        """How many repetitions."""
        return max(5, full // 10) if self.quick else full

    def add(self, measure, value, unit, goal=None, note=""):
        """One figure; a goal is an upper limit, or a lower one for `×`."""
        verdict = ""
        if goal is not None:
            verdict = "PASS" if (value >= goal if unit == "×" else value <= goal) else "MISS"
        self.rows.append({"measure": measure, "value": round(value, 3), "unit": unit, "goal": goal,
                          "verdict": verdict, "note": note})
        return value

    def rival(self, name, rival, count):
        """Measures a rival; returns its p50 in ms or None when it is not there."""
        try:
            with rival as once:
                found = times(once, self.count(count))
        except (ImportError, FileNotFoundError, subprocess.CalledProcessError) as why:
            self.rows.append({"measure": name, "value": None, "unit": "ms", "goal": None,
                              "verdict": "", "note": f"not measured: {why}"})
            return None
        return self.add(name, statistics.median(found), "ms",
                        note=f"p99 {quantile(found, .99):.2f}")

    def table(self):
        """Markdown."""
        lines = ["| measure | value | goal | | note |", "|---|---:|---:|---|---|"]
        for row in self.rows:
            sign = "≥" if row["unit"] == "×" else "≤"
            value = "–" if row["value"] is None else f"{row['value']:,.2f} {row['unit']}"
            goal = "" if row["goal"] is None else f"{sign} {row['goal']:g} {row['unit']}"
            lines.append(f"| {row['measure']} | {value} | {goal} | {row['verdict']} | "
                         f"{row['note']} |")
        return "\n".join(lines)


def spawn_true():
    """`true`, started and waited for; milliseconds."""
    started = time.perf_counter()
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(pid, 0)
    return (time.perf_counter() - started) * 1000


def spawn_server():
    """The server, started the same way, until initialize is answered; milliseconds."""
    request = wire.encode(0, "initialize", wire.INITIALIZE)
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, in_read, 0), (os.POSIX_SPAWN_DUP2, out_write, 1)]
    program = wire.binary()
    started = time.perf_counter()
    pid = os.posix_spawn(program, [program, *wire.default_args()], os.environ, file_actions=actions)
    os.write(in_write, request)
    answer = os.read(out_read, 65536)
    took = (time.perf_counter() - started) * 1000
    for fd in (in_read, in_write, out_read, out_write):
        os.close(fd)
    os.waitpid(pid, 0)
    if b'"result"' not in answer:
        raise RuntimeError(answer)
    return took


def bench_spawn(report):
    """From spawn to initialize, and the memory of a server that was never used."""
    spawn_true(), spawn_server()
    pairs = [(spawn_true(), spawn_server()) for _ in range(report.count(300))]
    bare, ours = (statistics.median(one) for one in zip(*pairs, strict=True))
    report.add("spawn `true`, p50", bare, "ms")
    report.add("spawn → `initialize` answered, p50", ours, "ms")
    report.add("… above `true`", ours - bare, "ms", 3)
    with wire.Wire() as server:
        server.ask(wire.encode(1, "tools/list", {}))
        report.add("memory (PSS) before the first run", processes.pss_kib(server.pid) / 1024, "MiB",
                   6)


@contextlib.contextmanager
def plain_python():
    """An interpreter without IPython that anybody may run."""
    folder = tempfile.mkdtemp(prefix="cellblock-bench-")
    try:
        os.chmod(folder, 0o755)
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder], check=True)
        yield f"{folder}/bin/python3"
    finally:
        shutil.rmtree(folder)


def warm(report, name, goal, *args):
    """1+1 in a warm session through the whole server."""
    with wire.Wire(*args) as server:
        if server.run("1+1")["content"][0]["text"] != "2":
            raise RuntimeError("1+1 is not 2")
        line = wire.call(7, "1+1")
        found = times(lambda: server.ask(line), report.count(3000))
    return report.add(f"warm `1+1`, {name}, p50", statistics.median(found), "ms", goal,
                      f"p99 {quantile(found, .99):.2f}")


def bench_warm(report):
    """A warm run, plain and with IPython."""
    with plain_python() as python:
        warm(report, "plain", 0.25, "--python", python)
    ours = warm(report, "IPython", 0.4)
    report.rival("IPython's `run_cell` in process, no walls, p50", rivals.ipython(), 2000)
    kernel = report.rival("ipykernel through jupyter_client, p50", rivals.ipykernel(), 300)
    if kernel:
        report.add("… times faster than ipykernel", kernel / ours, "×", 12)


@contextlib.contextmanager
def pool_config(size):
    """A config file for ephemeral runs with a pool of `size`; yields its path."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="ascii") as file:
        json.dump({"default_environment": "bench",
                   "environments": {"bench": {"mode": "ephemeral", "pool": size}}}, file)
        file.flush()
        yield file.name


POOL = 16


def bursts(ask, count):
    """Milliseconds of runs that follow each other at once while the pool still has cells, with
    time in between to fill it up again."""
    found = []
    while len(found) < count:
        time.sleep(0.4)
        found += times(ask, POOL - 4)
    return found


def bench_fresh(report):
    """A fresh isolated run."""
    line = wire.call(7, "print(1)")
    with wire.Wire("--mode", "ephemeral") as server:
        if server.run("print(1)")["content"][0]["text"] != "1\n":
            raise RuntimeError("print(1) did not print 1")
        paced = times(lambda: server.ask(line), report.count(100), pause=0.05)
        sustained = times(lambda: server.ask(line), report.count(500))
    with pool_config(POOL) as config, wire.Wire("--config", config) as server:
        server.run("print(1)")
        found = bursts(lambda: server.ask(line), report.count(240))
    report.add("fresh `print(1)` while the pool has cells, p50", statistics.median(found), "ms",
               0.6, f"one after the other, a pool of {POOL}; p99 {quantile(found, .99):.2f}")
    report.add("… 50 ms after the last one, p50", statistics.median(paced), "ms", None,
               f"caches cold, a pool of 2; p99 {quantile(paced, .99):.2f}")
    report.add("fresh `print(1)` sustained, p50", statistics.median(sustained), "ms", 8,
               f"mean {statistics.mean(sustained):.2f}, p99 {quantile(sustained, .99):.2f}")
    report.rival("pydantic-monty (a subset of Python), p50", rivals.monty(), 500)
    report.rival("`python3 -I -S -c`, no walls, p50", rivals.python(), 100)
    report.rival("`bwrap python3 -I -S -c`, p50", rivals.bwrap_python(), 100)


def peak_mib(pid):
    """The most memory that a process ever had."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def bench_output(report):
    """10 MB printed."""
    with wire.Wire() as server:
        server.run("1")
        code = "import sys; sys.stdout.write(('x' * 99 + '\\n') * 100_000);"
        found = times(lambda: server.run(code), report.count(20))
        outcome = server.run(code)["_meta"]["cellblock/outcome"]
        kept = server.run(f"import os; os.path.getsize('/workspace/.cellblock/{outcome['run']}"
                          ".stdout')")["content"][0]["text"]
        report.add("10 MB printed → cut result, p50", statistics.median(found), "ms", 100,
                   f"max {max(found):.0f}; {int(kept):,} bytes readable in the session")
        report.add("… the server's peak memory", peak_mib(server.pid), "MiB")


def bench_sessions(report):
    """100 live sessions at once."""
    with wire.Wire() as server:
        modern = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                            "io.modelcontextprotocol/clientCapabilities": {}}}
        names = []
        for n in range(100):
            answer = json.loads(server.ask(wire.encode(n, "tools/call", {
                **modern, "name": "run_code", "arguments": {"code": f"x = {n}"}})))
            names.append(answer["result"]["_meta"]["cellblock/session"])
        for _ in range(2):
            started = time.perf_counter()
            server.write(b"".join(wire.call(n, "x", session=s) for n, s in enumerate(names)))
            answers = [json.loads(server.line()) for _ in names]
            took = (time.perf_counter() - started) * 1000
        right = sum(a["result"]["content"][0]["text"] == str(a["id"]) for a in answers)
        report.add("100 live sessions asked at once, all answered", took, "ms", None,
                   f"{right} of 100 right")
        total = processes.tree_pss_kib(server.pid) / 1024
        report.add("… memory (PSS) a session, everything counted", total / 100, "MiB", 6,
                   f"{total:.0f} MiB in all")
        if right != 100:
            report.problems.append(f"only {right} of 100 sessions gave the right answer")


def rival_reading(report):
    """A MB read as those read files that have only a kernel: by code, its text as the result."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        code = f"import base64; base64.b64encode(open({file.name!r}, 'rb').read()).decode()"
        report.rival("… by code in ipykernel, between runs only, p50", rivals.ipykernel(code), 50)


def bench_files(report):
    """The toolset `files` on real files, idle and beside a run."""
    def tool(name, **arguments):
        return wire.encode(7, "tools/call", {"name": name, "arguments": arguments})

    def measured(line, holds):
        if holds not in server.ask(line):
            raise RuntimeError(f"{holds} is not in the answer")
        return statistics.median(times(lambda: server.ask(line), report.count(100)))

    read = tool("read_file", path="mb", encoding="base64", length=1 << 20)
    text = tool("read_file", path="text", length=1 << 20)
    entries = tool("list_files", path="many", limit=10_000)
    with wire.Wire("--toolsets", "files,runs") as server:
        server.run("import os\nopen('mb', 'wb').write(os.urandom(1 << 20))\n"
                   "open('text', 'w').write(('x' * 63 + '\\n') * (1 << 14))\nos.mkdir('many')\n"
                   "for n in range(10_000): open(f'many/{n}', 'w').close()")
        for when in "idle", "beside a run":
            report.add(f"read_file of 1 MiB, base64, {when}, p50", measured(read, b"A" * 2), "ms",
                       15)
            report.add(f"… text, {when}, p50", measured(text, b"x" * 63), "ms", 15)
            report.add(f"list_files of 10,000 entries, {when}, p50",
                       measured(entries, b" of 10000"), "ms", 50,
                       "all are read and sorted, one page of 38 KB is answered")
            server.run("import time\nwhile True: time.sleep(.001)", background=True)
        rival_reading(report)
        server.process.terminate()


def bench_death(report):
    """How soon a death of the interpreter is told."""
    with wire.Wire("--mode", "ephemeral") as server:
        line = wire.call(7, "import os; os._exit(1)")
        found = times(lambda: server.ask(line), report.count(100), pause=0.05)
    report.add("fresh run that ends in `os._exit`, told after, p50", statistics.median(found), "ms",
               10)


BENCHES = {"spawn": bench_spawn, "warm": bench_warm, "fresh": bench_fresh, "output": bench_output,
           "sessions": bench_sessions, "files": bench_files, "death": bench_death,
           **{name: functools.partial(one, times=times)
              for name, one in {**remote.BENCHES, **clouds.BENCHES}.items()}}


def main():
    """Runs the benches that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(BENCHES)}")
    options = parser.parse_args()
    report = Report(options.quick)
    for name in options.names or BENCHES:
        try:
            BENCHES[name](report)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError) as why:
            report.problems.append(f"{name}: {type(why).__name__}: {why}")
    print(report.table())
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"rows": report.rows, "problems": report.problems}, file, indent=1)
    for problem in report.problems:
        print(f"PROBLEM {problem}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
