"""`helm uninstall` while runs are under way, and many runs at once. Both take long."""

import re
from pathlib import Path

import pytest

import kube
import runs as make
from test_fleet import examine, fleet, succeeded

pytestmark = pytest.mark.whole


def test_a_release_that_is_removed_stops_its_runs_first(runs, operator, chain):
    runs.apply(fleet("last", seconds=600, patch=chain.patch()))
    runs.apply(make.run("single", make.lasting(600)))
    succeeded(runs, "last", 20)
    operator.uninstall()
    try:
        for name in ("last", "single"):
            status = runs.status(name)
            assert status["phase"] == "Finished" and status["verdict"] == "Inconclusive", status
            assert status["results"]["audit"]["matches"]
        assert len(chain.keys("bench.test.near")) == 1, "its keys are off the account"
        assert kube.call("kubectl", "get", "crd", "benchmarkruns.nearbench.dev", "--output=name"), "the runs stay"
    finally:
        operator.upgrade()


def memory_of(program):
    """The most memory that a process of this node held at once, in bytes: of the operator."""
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[:2] == [b"/nearbench", program]:
                return int(re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())[1]) * 1024
        except (OSError, TypeError):
            continue
    return None


def test_fifty_runs_at_once_all_come_to_their_end(runs, operator, audit, capsys):
    operator.upgrade(maxConcurrentRuns=4)
    try:
        for n in range(50):
            runs.apply(fleet(f"many-{n}", seconds=5, workers=1) if n % 5 == 0 else make.run(f"many-{n}"))
        for n in range(50):
            status = runs.complete(f"many-{n}", 1200)
            assert status["results"]["succeeded"] == 100 and status["results"]["audit"]["matches"], status
        peak = memory_of(b"operator")
        with capsys.disabled():
            print(f"\nthe operator's memory, at most: {(peak or 0) >> 20} MiB")
        assert peak is None or peak < 100 << 20
    finally:
        operator.upgrade()
