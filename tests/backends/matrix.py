"""The capability matrix as the program tells it, and what the suite found of it."""

import functools
import json
import subprocess

from support.client import binary

TRAITS = {"walls", "own_root", "elsewhere", "plain_user"}
FOUND = {}  # variant → what its tests that passed were about: "copy", or "no cloud" (refused)


@functools.cache
def matrix():
    """name → capability → has it, as `cellblock backends --json` says."""
    text = subprocess.run([binary(), "backends", "--json"], check=True, capture_output=True).stdout
    return {row["name"]: row["capabilities"] for row in json.loads(text)["backends"]}


def capabilities(variant):
    """The capabilities of a variant's backend that its settings leave."""
    row = matrix()[variant.backend]
    return {name for name, has in row.items() if has} - variant.lacks


def abilities(variant):
    """What a variant can do: capabilities, libraries and traits."""
    traits = {name for name in TRAITS if getattr(variant, name)}
    return capabilities(variant) | variant.libraries | traits
