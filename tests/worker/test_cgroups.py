"""What the supervisor reads of the kernel's out-of-memory killer."""

import sys

import pytest
from driver import SOURCE

sys.path.insert(0, SOURCE)
from cellblock_worker import cgroups  # noqa: E402

MIB = 1 << 20


@pytest.fixture(params=["one", "two"])
def group(request, tmp_path, monkeypatch):
    """A control group of version one or two: `kills` and `limit` write what the kernel would."""
    new = request.param == "two"
    events, limit = (("memory.events", "memory.max") if new else
                     ("memory.oom_control", "memory.limit_in_bytes"))
    before = "low 0\noom 9\n" if new else "oom_kill_disable 0\nunder_oom 0\n"

    class Group:
        def kills(self, number):
            (tmp_path / events).write_text(f"{before}oom_kill {number}\n")

        def limit(self, text):
            (tmp_path / limit).write_text(f"{text}\n")

    one = Group()
    one.kills(3)
    one.limit(256 * MIB)
    monkeypatch.setattr(cgroups, "_folders", lambda: iter([(new, str(tmp_path))]))
    return one


def test_only_kills_after_the_beginning_count(group):
    watch = cgroups.OutOfMemory()
    assert not watch.struck_within(256 * MIB)
    group.kills(4)
    assert watch.struck_within(256 * MIB)
    assert watch.limit() == 256 * MIB
    watch.begin()
    assert not watch.struck_within(256 * MIB)


@pytest.mark.parametrize("limit", [257 * MIB, "max", 1 << 63])
def test_a_larger_group_may_be_anybodys(group, limit):
    group.limit(limit)
    watch = cgroups.OutOfMemory()
    group.kills(4)
    assert watch.struck() and not watch.struck_within(256 * MIB)


def test_without_a_group_nothing_is_said(monkeypatch):
    monkeypatch.setattr(cgroups, "_folders", lambda: iter([]))
    watch = cgroups.OutOfMemory()
    assert not watch.struck() and not watch.struck_within(256 * MIB)
