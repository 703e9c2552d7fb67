"""A disk that fills up while a node runs ends every wait, and nothing that the node did counts against it."""

from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import Party
from harness.lab import disk_watch
from harness.lab.disk_watch import DiskWatch
from harness.verdict.feed import ConsoleLine, DiskFull, Feed, QemuExit
from harness.verdict.judge import Judge, Patience
from harness.verdict.outcome import GuestDied, NoSpace, cause, party

_PANIC = ConsoleLine("[    9.000000] Kernel panic - not syncing: write error")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "_LOOK_SECONDS", 0.02)


def test_a_wait_ends_when_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    feed = Feed()
    with closing(DiskWatch([tmp_path, small_disk], feed)) as watch:
        assert watch.full() == ""
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "disk.qcow2").write_bytes(bytes(5 << 20))
        outcome = Judge(feed).wait(lambda _: False, Patience(10, 10))
    assert outcome == NoSpace(str(small_disk))
    assert cause(outcome).startswith(f"no space is left in {small_disk}")
    assert party(outcome) is Party.HOST


def test_it_is_said_once_and_stays_when_room_is_made(small_disk: Path) -> None:
    feed = Feed()
    with closing(DiskWatch([small_disk], feed)) as watch:
        file = small_disk / "disk.qcow2"
        with pytest.raises(OSError, match="No space left"):
            file.write_bytes(bytes(5 << 20))
        assert watch.full() == str(small_disk)
        file.unlink()
        assert watch.full() == str(small_disk)
    (told,) = feed.since(0)
    assert told == DiskFull(str(small_disk), told.at)


def test_what_the_node_died_of_came_of_it() -> None:
    feed = Feed()
    judge = Judge(feed)
    feed.publish_all([_PANIC, QemuExit(-7, "")])
    assert judge.verdict() == GuestDied("kernel panic: write error")
    feed.publish(DiskFull("/tmp/run"))
    assert judge.verdict() == NoSpace("/tmp/run")
