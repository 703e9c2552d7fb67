"""A node that waits leaves its CPUs to others, and has them again when it works."""

import time

import pytest

from harness.lab import load_watch
from harness.lab.load_watch import LoadWatch, wanted_cpus


@pytest.mark.parametrize(("used", "wanted"), [(0.0, 0.1), (3.0, 0.6), (6.0, 1.0), (60.0, 1.0)])
def test_what_is_kept_is_what_was_used_of_late(used: float, wanted: float) -> None:
    assert wanted_cpus(used, 6.0, 1.0) == pytest.approx(wanted)


def test_a_node_that_idles_is_seen_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_watch, "_LOOK_SECONDS", 0.01)
    kept: list[float] = []
    began, busy = time.monotonic(), 0.3
    watch = LoadWatch(lambda: min(time.monotonic() - began, busy), kept.append, 1.0)
    deadline = time.monotonic() + 5
    while (not kept or kept[-1] > 0.2) and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.close()
    assert kept[0] > 0.5
    assert kept[-1] <= 0.2, "to the step by which it is kept"
