"""Runs every test against every variant, as far as the variant's capabilities go."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from box import Box
from support.client import Client, binary
from variants import LIBRARIES, Setup, Variant, chosen, own_folder

TRAITS = {"walls", "own_root"}


def pytest_configure(config):
    """The suite's own marks."""
    for line in (
        "needs(*names): capabilities of the backend or libraries of the interpreter it is about",
        "lacking(name): only where this capability is missing",
        "once: says nothing new on a second variant of the same backend",
    ):
        config.addinivalue_line("markers", line)


def matrix():
    """name → capabilities, as `cellblock backends --json` says."""
    text = subprocess.run([binary(), "backends", "--json"], check=True, capture_output=True).stdout
    return {row["name"]: {name for name, has in row["capabilities"].items() if has}
            for row in json.loads(text)["backends"]}


def abilities(variant, backends):
    """What a variant can do: capabilities, libraries and traits."""
    traits = {name for name in TRAITS if getattr(variant, name)}
    return (backends[variant.backend] - variant.lacks) | variant.libraries | traits


def fits(item, backends):
    """Is this test about something that its variant has?"""
    spec = getattr(item, "callspec", None)
    if spec is None or not isinstance(spec.params.get("variant"), Variant):
        return True
    variant = spec.params["variant"]
    has = abilities(variant, backends)
    if item.get_closest_marker("once") and not variant.main:
        return False
    known = set().union(*backends.values(), LIBRARIES, TRAITS, _all_capabilities())
    for mark in item.iter_markers("needs"):
        assert set(mark.args) <= known, f"{item.nodeid}: unknown {set(mark.args) - known}"
        if not set(mark.args) <= has:
            return False
    return not any(set(mark.args) & has for mark in item.iter_markers("lacking"))


def _all_capabilities():
    text = subprocess.run([binary(), "backends", "--json"], check=True, capture_output=True).stdout
    return json.loads(text)["backends"][0]["capabilities"].keys()


def pytest_collection_modifyitems(config, items):
    """Leaves out what a variant cannot do; that it is refused is a test of its own."""
    here = Path(__file__).parent
    mine = [item for item in items if here in Path(item.path).parents]
    if not mine:
        return
    backends = matrix()
    out = [item for item in mine if not fits(item, backends)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in set(out)]


@pytest.fixture(scope="session", params=chosen(), ids=lambda variant: variant.name)
def variant(request):
    """The row of the table that a test is run against."""
    missing = [name for name in request.param.wanted if not shutil.which(name)]
    if missing:
        pytest.skip(f"apt-get install {' '.join(missing)}")
    return request.param


@pytest.fixture(scope="session")
def scratch():
    """A folder for the tests' own files that the sandbox's user can reach."""
    with tempfile.TemporaryDirectory(prefix="cellblock-suite.") as name:
        yield own_folder(name)


@pytest.fixture
def host(scratch, request):
    """An empty folder of this test's own, under the share root."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)
    folder = own_folder(scratch / "shared" / name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def has(variant):
    """What this variant can do."""
    return abilities(variant, matrix())


@pytest.fixture(scope="session")
def launch(variant, scratch):
    """launch(*args, environment={…}) starts a server of the variant."""
    folder = own_folder(scratch / variant.name)
    setup = variant.prepare(folder) if variant.prepare else Setup()
    shared = own_folder(scratch / "shared")
    count = iter(range(10_000))

    def start(*args, environment=None, environments=None, **options):
        default = {"backend": variant.backend, **variant.environment, **(environment or {})}
        config = folder / f"config-{next(count)}.json"
        all_of_them = {"default": default, **(environments or {})}
        config.write_text(json.dumps({"environments": all_of_them}), encoding="utf-8")
        options.setdefault("era", "modern")
        options["env"] = {**setup.env, **options.get("env", {})}
        client = Client("--config", config, "--share-root", shared, *variant.args, *setup.args,
                        *args, **options)
        client.own_root = variant.own_root
        return client

    yield start
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(launch):
    """One server for all tests of a variant."""
    with launch() as client:
        yield client


@pytest.fixture(scope="session")
def structured_server(launch):
    """The same with --structured."""
    with launch("--structured") as client:
        yield client


@pytest.fixture(scope="session")
def common(server):
    """The session behind `py`."""
    return Box(server)


@pytest.fixture(scope="session")
def common_structured(structured_server):
    """The session behind `rich`."""
    return Box(structured_server)


@pytest.fixture
def py(common):
    """A session that other tests have used: what a test needs, it makes."""
    return common


@pytest.fixture
def rich(common_structured, has):
    """As `py`, with structuredContent."""
    common_structured.has = has
    return common_structured


@pytest.fixture
def box(server):
    """A session of the test's own, not started."""
    one = Box(server)
    yield one
    one.end()


@pytest.fixture
def boxes(server):
    """boxes() makes sessions, as many as are wanted."""
    made = []

    def make(**defaults):
        made.append(Box(server, **defaults))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def wheel(host):
    """wheel(name, files) builds a pure-Python wheel and returns its path."""
    from wheels import build

    return lambda name, files: build(host, name, files)


os.umask(0o022)
