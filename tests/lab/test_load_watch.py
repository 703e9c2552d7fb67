"""A node that waits leaves its CPUs to others, and has them again when it works."""

import itertools
import threading
from collections.abc import Iterator

import pytest

from harness.lab import load_watch
from harness.lab.load_watch import LoadWatch, wanted_cpus


@pytest.mark.parametrize(("used", "wanted"), [(0.0, 0.1), (3.0, 0.6), (6.0, 1.0), (60.0, 1.0)])
def test_what_is_kept_is_what_was_used_of_late(used: float, wanted: float) -> None:
    assert wanted_cpus(used, 6.0, 1.0) == pytest.approx(wanted)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """The CPU time at each look: of a node that is busy for ten of them, idle for twenty, and busy from then on."""
    monkeypatch.setattr(load_watch, "_LOOK_SECONDS", 0.01)
    return itertools.accumulate(0.0 if 10 <= look < 30 else 0.01 for look in itertools.count())


def test_a_node_that_idles_is_seen_and_so_is_one_that_works_again(used: Iterator[float]) -> None:
    kept: list[float] = []
    done = threading.Event()

    def keep(cpus: float) -> None:
        kept.append(cpus)
        if len(kept) > 5 and cpus == pytest.approx(1.0):
            done.set()

    watch = LoadWatch(lambda: next(used), keep, 1.0)
    assert done.wait(10)
    watch.close()
    assert kept == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_gate_that_cannot_be_written_to_ends_no_watch(used: Iterator[float]) -> None:
    tried = threading.Semaphore(0)

    def keep(_: float) -> None:
        tried.release()
        raise OSError("no space left")

    watch = LoadWatch(lambda: next(used), keep, 1.0)
    for _ in range(5):
        assert tried.acquire(timeout=10)
    watch.close()
