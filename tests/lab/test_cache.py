"""What the cache keeps is made once and whole, stays while it is used, and goes when it is old or half made."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.lab import cache

PROJECT = Path(__file__).parents[2]

_ASK = """
import sys, time
from pathlib import Path
from harness.lab import cache
place, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
def make(partial):
    with log.open("a") as lines:
        lines.write("made\\n")
    partial.mkdir()
    time.sleep(pause)
    (partial / "part").write_text("whole")
with cache.kept(place, Path.exists, make) as found:
    assert (found / "part").read_text() == "whole"
"""


def ask(place: Path, log: Path, pause: float) -> subprocess.Popen[bytes]:
    """Another process that asks for what is at `place`, and takes so many seconds to make it."""
    return subprocess.Popen([sys.executable, "-c", _ASK, str(place), str(log), str(pause)], cwd=PROJECT)


def write(size: int = 1 << 16) -> "Writer":
    return Writer(size)


class Writer:
    """Makes a file of so many bytes, and counts."""

    def __init__(self, size: int) -> None:
        self.size, self.times = size, 0

    def __call__(self, partial: Path) -> None:
        self.times += 1
        partial.write_bytes(os.urandom(self.size))


def test_of_two_processes_one_makes_it(tmp_path: Path) -> None:
    place, log = tmp_path / "stores/store-1", tmp_path / "log"
    both = [ask(place, log, 0.5) for _ in range(2)]
    assert [process.wait(20) for process in both] == [0, 0]
    assert log.read_text() == "made\n"


def test_what_a_killed_process_left_half_made_is_removed_by_the_next(tmp_path: Path) -> None:
    place, log = tmp_path / "stores/store-1", tmp_path / "log"
    with ask(place, log, 60) as process:
        while not place.with_name("store-1.partial").exists():
            time.sleep(0.02)
        cache.make_room(tmp_path, 1 << 30)
        assert place.with_name("store-1.partial").exists(), "it was still being made"
        process.kill()
    with cache.kept(tmp_path / "images/2.img", Path.exists, write()):
        pass
    assert list((tmp_path / "stores").iterdir()) == []


def test_one_limit_is_over_all_kinds_and_the_longest_unused_goes(tmp_path: Path) -> None:
    places = [tmp_path / "templates/a", tmp_path / "stores/b", tmp_path / "images/c.img"]
    for age, place in enumerate(places):
        with cache.kept(place, Path.exists, write()):
            pass
        os.utime(place.with_name(f"{place.name}.lock"), (1000 + age, 1000 + age))
    with cache.kept(tmp_path / "images/d.img", Path.exists, write(), limit=3 << 16):
        pass
    assert [place.exists() for place in places] == [False, True, True]
    assert not (tmp_path / "templates/a.lock").exists()


def test_what_is_in_use_stays_and_the_newest_does(tmp_path: Path) -> None:
    with cache.kept(tmp_path / "images/old.img", Path.exists, write()) as old:
        with cache.kept(tmp_path / "images/new.img", Path.exists, write(), limit=1) as new:
            assert old.exists()
            assert new.exists()
        cache.make_room(tmp_path, 1)
        assert old.exists()
        assert not new.exists()


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.mkdir()
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError), cache.kept(tmp_path / "stores/b", Path.exists, fail):
        pass
    assert [file.name for file in (tmp_path / "stores").iterdir()] == ["b.lock"]


def test_what_another_run_removes_meanwhile_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_things", lambda _: [tmp_path / "images/gone.img"])
    cache.make_room(tmp_path, 0)


def test_a_lock_that_was_removed_with_its_place_binds_nobody(tmp_path: Path) -> None:
    place, make = tmp_path / "images/a.img", write()
    for _ in range(2):
        with cache.kept(place, Path.exists, make):
            pass
        cache.make_room(tmp_path, 0)
    assert make.times == 2
    assert list((tmp_path / "images").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "stores").write_text("no folder")
    with (
        pytest.raises(cache.NotKept, match=rf"The cache {tmp_path} takes nothing more \(.+\): make room, or"),
        ExitStack() as used,
    ):
        used.enter_context(cache.kept(tmp_path / "stores/a", Path.exists, write()))


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    refused = pytest.raises(cache.NotKept, match=r"takes nothing more \(No locks available\)")
    with refused, cache.kept(tmp_path / "stores/a", Path.exists, write()):
        pass


def test_a_fault_while_it_is_used_is_not_the_caches(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), cache.kept(tmp_path / "stores/a", Path.exists, write()):
        raise PermissionError(13, "of the test itself")


def test_the_cache_that_is_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache.folder(Path("x")) == tmp_path / "x"


def test_the_default_is_the_one_that_images_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from images.cache import default_root

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder(None) == default_root() == tmp_path / ".cache/kios-e2e"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder(None) == default_root() == tmp_path / "xdg/kios-e2e"


@pytest.mark.parametrize("home", ["/nonexistent", "relative", "/dev/null"])
def test_without_a_home_a_cache_is_to_be_named(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(InputError, match="--image-cache"):
        cache.folder(None)


def test_a_long_wait_and_a_long_making_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_QUIET_SECONDS", 0.2)
    monkeypatch.setattr(cache, "_listeners", [])
    said: list[str] = []
    cache.announce_to(said.append)
    place, log = tmp_path / "stores/store-1", tmp_path / "log"
    with ask(place, log, 1) as other:
        while not log.exists():
            time.sleep(0.02)
        with cache.kept(place, Path.exists, write()):
            pass

    def slowly(making: Path) -> None:
        time.sleep(0.4)
        making.touch()

    with (
        cache.kept(tmp_path / "images/2.img", Path.exists, slowly),
        cache.kept(tmp_path / "images/3.img", Path.exists, write()),
    ):
        pass
    assert said == [f"waits for process {other.pid}, which makes stores/store-1", "makes images/2.img"]
