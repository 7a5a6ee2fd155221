#!/usr/bin/env python3
"""A conversation with cellblock as a host has it: JSON-RPC over the server's stdin and stdout.

usage: conversation.py [--server PATH] [--out DIR] CSV

The CSV (women's share of bachelor's degrees in the USA by field and year, as Debian's
python-matplotlib-data has it) is copied in, summarised with pandas and plotted. The transcript goes
to standard output, the figure to DIR. Only the standard library is used.
"""

import argparse
import base64
import json
import subprocess
import sys
from pathlib import Path

SUMMARY = """\
import pandas as pd
degrees = pd.read_csv("degrees.csv", index_col="Year")
change = (degrees.iloc[-1] - degrees.iloc[0]).sort_values()
print(f"{len(degrees)} years, {degrees.shape[1]} fields; change in percentage points:")
pd.concat([change.head(3), change.tail(3)]).round(1)
"""

PLOT = """\
ax = degrees[change.tail(4).index].plot(title="Women among bachelors, USA (%)", figsize=(7, 4))
ax.legend(frameon=False)
degrees["Computer Science"].idxmax()
"""


class Server:
    """A running cellblock, spoken to one request at a time."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last_id = 0

    def send(self, message):
        """Sends one message, a line."""
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method, params):
        """Sends a request and returns its result; other messages are passed over."""
        self.last_id += 1
        self.send({"id": self.last_id, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self.last_id and "method" not in message:
                if "error" in message:
                    raise RuntimeError(message["error"]["message"])
                return message["result"]
        raise RuntimeError("the server has ended")

    def call(self, tool, **arguments):
        """Calls a tool, shows both sides, and returns the images that came."""
        print(f">>> {tool}")
        for name, value in arguments.items():
            text = str(value).rstrip("\n").replace("\n", "\n        ")
            print(f"    {name}: {text}" if "\n" not in text else f"    {name}:\n        {text}")
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        images = []
        for block in result["content"]:
            part = block.get("_meta", {}).get("cellblock/part", "text")
            if block["type"] == "image":
                images.append(base64.b64decode(block["data"]))
                print(f"<<< {part}: {block['mimeType']}, {len(images[-1])} bytes")
            elif block["type"] == "resource_link":
                print(f"<<< {part}: {block['name']}, {block['size']} bytes: {block['uri']}")
            elif "text" in block:
                print(f"<<< {part}: " + block["text"].rstrip("\n").replace("\n", "\n    "))
        print()
        if result.get("isError"):
            raise RuntimeError(f"{tool} failed")
        return images

    def close(self):
        """Ends the server as a host does: its input ends."""
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=10)


def converse(server, csv, out):
    """The whole conversation; returns the path of the figure."""
    hello = server.request("initialize", {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "conversation.py", "version": "1"}})
    server.send({"method": "notifications/initialized"})
    tools = server.request("tools/list", {})["tools"]
    print(f"{hello['serverInfo']['name']} {hello['serverInfo']['version']}, MCP "
          f"{hello['protocolVersion']}: {', '.join(tool['name'] for tool in tools)}\n")
    server.call("add_share", type="copy", source=str(csv), dest="/workspace/degrees.csv")
    server.call("run_code", code=SUMMARY)
    images = server.call("run_code", code=PLOT)
    if len(images) != 1:
        raise RuntimeError(f"one figure was expected, {len(images)} came")
    figure = out / "degrees.png"
    figure.write_bytes(images[0])
    return figure


def main():
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="build/cellblock", help="the program")
    parser.add_argument("--out", type=Path, default=Path("examples/out"), help="for the figure")
    parser.add_argument("csv", type=Path)
    options = parser.parse_args()
    csv = options.csv.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    server = Server([options.server, "--share-root", str(csv.parent)])
    try:
        figure = converse(server, csv, options.out)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"conversation.py: {error}", file=sys.stderr)
        server.process.kill()
        return 1
    print(f"The figure is in {figure}")
    return server.close()


if __name__ == "__main__":
    sys.exit(main())
