"""The story that every official client tells: all tools of all toolsets, each called once at least.

`story.json` is a list of steps, told here for the Python SDK and in tests/node/story.mjs for the
TypeScript SDKs. A step is one of

    {"tool": NAME, "arguments": {…}, "says": RE}   a call whose answer is no error, and says RE
    … "refused": true                              whose answer is an error that says RE
    {"tool": "poll_run", …, "until": RE}           called again until what came so far says RE
    {"resource": NAME, "says": RE}                 found in resources/list, and read

RE is a regular expression that JavaScript knows too. "$session" and "$run" in an argument or RE are
the ids that the last answer with one had, "$host" is the folder with the user's files and "$wheel"
the name of the package in it. A tool that is listed and has no step is found by `tell`: it gives
back the names that were listed and those that were called.
"""

import json
import re
from pathlib import Path

STEPS = json.loads((Path(__file__).parent / "story.json").read_text())
POLLS = 40


def filled(value, known):
    """A step with the names that are known by now."""
    text = json.dumps(value)
    for name, found in known.items():
        text = text.replace(f"${name}", found)
    return json.loads(text)


def says(pattern, text):
    """Whether it is in there, by JavaScript's rules: [^] is any character."""
    return re.search(pattern.replace("[^]", r"[\s\S]"), text)


def learn(known, result):
    """The ids in an answer."""
    meta = result.meta or {}
    for name, found in (("session", meta.get("cellblock/session")),
                        ("run", meta.get("cellblock/run", {}).get("run"))):
        if found:
            known[name] = found


def text_of(result):
    """The text blocks of an answer, and the names of what it links to."""
    return "\n".join(getattr(b, "text", None) or getattr(b, "name", "") for b in result.content)


async def call(client, step, known):
    """One call: its text, checked."""
    result = await client.call_tool(step["tool"], step.get("arguments", {}))
    text = text_of(result)
    learn(known, result)
    assert result.is_error == step.get("refused", False), (step, text)
    assert says(step.get("says", ""), text), (step, text)
    return text, result


async def poll(client, step, known):
    """poll_run, from where the last one ended, until it is said."""
    text = ""
    for _ in range(POLLS):
        more, result = await call(client, step, known)
        text += more
        if says(step["until"], text):
            return
        step["arguments"]["cursor"] = result.meta["cellblock/run"]["cursor"]
    raise AssertionError((step, text))


async def read(client, step):
    """A resource, found page by page."""
    page, found = await client.list_resources(), []
    found += page.resources
    while page.next_cursor:
        page = await client.list_resources(cursor=page.next_cursor)
        found += page.resources
    uri = next(one.uri for one in found if one.name == step["resource"])
    content, = (await client.read_resource(uri)).contents
    assert says(step["says"], content.text), (step, content)


async def tell(client, host, wheel):
    """The whole story: the names listed and the names called."""
    known, called = {"host": str(host), "wheel": wheel}, set()
    for step in (filled(one, known) for one in STEPS):
        if "resource" in step:
            await read(client, step)
            continue
        called.add(step["tool"])
        await (poll if "until" in step else call)(client, step, known)
    listed = {tool.name for tool in (await client.list_tools()).tools}
    return listed, called
