"""Runs every test against every variant, as far as the variant's capabilities go."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from box import Box
from engines import ENGINES
from matrix import FOUND, TRAITS, abilities, matrix
from support.client import Client
from variants import LIBRARIES, SECRET, Setup, Variant, chosen, own_folder


def pytest_configure(config):
    """The suite's own marks."""
    for line in (
        "needs(*names): capabilities of the backend or libraries of the interpreter it is about "
        "(\"one|other\": either)",
        "lacking(name): only where this capability is missing",
        "verdict: about all that a variant's tests found; only where the whole suite is run",
        "once: says nothing new on a second variant of the same backend",
    ):
        config.addinivalue_line("markers", line)


def variant_of(item):
    """The variant that a test is run against, or None."""
    spec = getattr(item, "callspec", None)
    found = spec.params.get("variant") if spec else None
    return found if isinstance(found, Variant) else None


def words_of(item, mark):
    """All words of a test's marks of one kind."""
    return {word for one in item.iter_markers(mark) for word in one.args}


def fits(item):
    """Is this test about something that its variant has?"""
    variant = variant_of(item)
    if variant is None:
        return True
    needs, lacking = words_of(item, "needs"), words_of(item, "lacking")
    known = set(matrix()[variant.backend]) | LIBRARIES | TRAITS
    named = {name for word in needs | lacking for name in word.split("|")}
    assert named <= known, f"{item.nodeid}: unknown {named - known}"
    if variant.files and Path(item.path).stem not in (*variant.files, "test_capabilities"):
        return False
    if item.get_closest_marker("once") and not variant.main:
        return False
    if item.get_closest_marker("verdict") and variant.files:
        return False
    can = abilities(variant)
    return all(can & set(word.split("|")) for word in needs) and not lacking & can


def pytest_collection_modifyitems(config, items):
    """Leaves out what a variant cannot do; that it is refused is a test of its own."""
    here = Path(__file__).parent
    mine = [item for item in items if here in Path(item.path).parents]
    whole = {item.path for item in mine} >= set(here.glob("test_*.py")) and not (
        config.option.keyword or config.option.lf)
    out = {item for item in mine
           if not fits(item) or item.get_closest_marker("verdict") and not whole}
    config.hook.pytest_deselected(items=list(out))
    left = [item for item in items if item not in out]
    # What is about a variant's whole run comes last of it; pytest keeps a variant's tests together.
    items[:] = sorted(left, key=lambda item: item.get_closest_marker("verdict") is not None)
    for item in mine:
        if item.get_closest_marker("timeout") is None:
            # An engine's start and an image's build have limits of their own.
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes what a test that passed was about."""
    report = yield
    variant = variant_of(item)
    if variant and report.when == "call" and report.passed:
        found = FOUND.setdefault(variant.name, set())
        found |= {name for word in words_of(item, "needs") for name in word.split("|")
                  if name in abilities(variant)}
        found |= {f"no {word}" for word in words_of(item, "lacking")}
    return report


@pytest.fixture(scope="session")
def engines():
    """engines(name) starts one of tests/engines; those that were not running are ended at last."""
    started = []

    def start(name):
        engine = ENGINES[name]()
        if reason := engine.missing():
            pytest.skip(f"{reason} (or tests/run.sh --install)")
        if not engine.running():
            started.append(engine)
        return engine, engine.start()

    yield start
    for engine in started:
        engine.stop()


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
    return abilities(variant)


@pytest.fixture(scope="session")
def setup(variant, engines, scratch):
    """What was made for the variant; when its tests are over its engine must hold nothing."""
    folder = own_folder(scratch / variant.name)
    if not variant.engine:
        yield variant.prepare(folder) if variant.prepare else Setup()
        shutil.rmtree(folder, ignore_errors=True)
        return
    engine, info = engines(variant.engine)
    before = set(engine.leftovers())
    yield variant.prepare(info)
    shutil.rmtree(folder, ignore_errors=True)
    left = engine.wait_left(before)
    assert not left, f"left in {variant.engine}: {left}"


@pytest.fixture(scope="session")
def launch(variant, setup, scratch):
    """launch(*args, environment={…}) starts a server of the variant."""
    folder, shared = own_folder(scratch / variant.name), own_folder(scratch / "shared")
    count = iter(range(10_000))
    key = folder / "suite.key"
    key.write_text(SECRET + "\n", encoding="utf-8")
    key.chmod(0o600)

    def start(*args, environment=None, environments=None, max_foreground_seconds=0,
              secrets=None, policy=None, **options):
        if secrets is None:
            secrets = {"suite": {"variable": "SUITE_SECRET", "file": str(key)}}
        default = {"backend": variant.backend, **variant.environment, **setup.environment,
                   **(environment or {})}
        config = folder / f"config-{next(count)}.json"
        all_of_them = {"default": default, **{name: {**default, **other} for name, other in
                                              (environments or {}).items()}}
        # A run is answered by its own call, also when an image is built first.
        config.write_text(json.dumps({
            "environments": all_of_them, "max_foreground_seconds": max_foreground_seconds,
            "secrets": secrets, "policy": {"secrets": list(secrets), **(policy or {})}}),
                          encoding="utf-8")
        options.setdefault("era", "modern")
        options["env"] = {**setup.env, **options.get("env", {})}
        client = Client("--config", config, "--share-root", shared, "--toolsets", "all",
                        *variant.args, *setup.args, *args, **options)
        client.own_root = variant.own_root
        return client

    return start


@pytest.fixture(scope="session")
def server(launch):
    """One server for all tests of a variant. The first start may build an image."""
    with launch() as client:
        client.run("1", timeout=400)
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
