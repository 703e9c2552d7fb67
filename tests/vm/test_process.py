"""A process that stands in for QEMU: it is heard of when it ends, and cannot outlive what started it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QemuContinued, QemuExit, QemuStopped
from harness.vm.process import QemuProcess

PROJECT = Path(__file__).parents[2]


@contextmanager
def started(argv: list[str], folder: Path, pass_fds: tuple[int, ...] = ()) -> Iterator[tuple[QemuProcess, Feed]]:
    feed = Feed()
    process = QemuProcess.start(argv, pass_fds, folder / "stderr", feed)
    try:
        yield process, feed
    finally:
        process.kill()


def ends_within(pid: int, seconds: float) -> bool:
    """Says whether the process ends in time; a zombie that nobody reaps has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_an_end_is_published_with_its_status_and_words(tmp_path: Path) -> None:
    with started(["sh", "-c", "echo out; echo no such machine >&2; exit 3"], tmp_path) as (process, feed):
        assert process.wait(5) == 3
        assert not process.running()
        (end,) = feed.since(0)
        assert isinstance(end, QemuExit)
        assert (end.status, end.words) == (3, "out\nno such machine\n")


def test_words_are_the_last_4_kib(tmp_path: Path) -> None:
    with started(["sh", "-c", "head -c 10000 /dev/zero | tr '\\0' x; echo end"], tmp_path) as (process, feed):
        process.wait(5)
        (end,) = feed.since(0)
        assert isinstance(end, QemuExit)
        assert end.words == "x" * 4092 + "end\n"


def test_kill_reaps_and_may_be_repeated(tmp_path: Path) -> None:
    with started(["sleep", "60"], tmp_path) as (process, feed):
        assert process.running()
        assert process.wait(0.01) is None
        process.kill()
        process.kill()
        assert process.wait(0) == -signal.SIGKILL
        assert not Path(f"/proc/{process.pid}").exists()
        assert feed.position() == 1


def test_one_that_is_stopped_by_a_signal_is_heard_of_and_still_reaped(tmp_path: Path) -> None:
    with started(["sleep", "60"], tmp_path) as (process, feed):
        for number, told in ((signal.SIGSTOP, QemuStopped), (signal.SIGCONT, QemuContinued), (signal.SIGSTOP, QemuStopped)):
            before = feed.position()
            os.kill(process.pid, number)
            feed.wait_beyond(before, 5)
            assert [type(each) for each in feed.since(before)] == [told]
        process.kill()
        assert [type(each) for each in feed.since(3)] == [QemuExit]
        assert process.wait(0) == -signal.SIGKILL


def test_it_has_a_session_of_its_own_no_stdin_and_the_passed_files(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing), started(["sleep", "60"], tmp_path, (reading,)) as (process, _):
        assert os.getsid(process.pid) == process.pid
        files = Path(f"/proc/{process.pid}/fd")
        assert (files / "0").readlink() == Path("/dev/null")
        assert (files / str(reading)).exists()
        assert not (files / str(writing)).exists()


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no-such-qemu"):
        QemuProcess.start(["no-such-qemu"], (), tmp_path / "stderr", Feed())


def test_it_ends_with_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from harness.verdict.feed import Feed; from harness.vm.process import QemuProcess\n"
        f"print(QemuProcess.start(['sleep', '60'], (), pathlib.Path({str(tmp_path / 'stderr')!r}), Feed()).pid)\n"
        "sys.stdout.flush(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # Until setpriv has executed sleep, the death signal may not be set.
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        parent.kill()
    assert ends_within(pid, 2)


def test_it_has_no_powers_and_gains_none(tmp_path: Path) -> None:
    with started(["sleep", "60"], tmp_path) as (process, _):
        deadline = time.monotonic() + 5
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh")} == {0}


def test_one_that_somebody_else_reaps_is_known_to_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reaped, waitid = threading.Event(), os.waitid

    def wait_late(*about: int) -> object:
        assert reaped.wait(10)
        return waitid(*about)

    monkeypatch.setattr(os, "waitid", wait_late)
    with started(["sh", "-c", "exit 3"], tmp_path) as (process, _):
        assert process._process.wait(10) == 3
        reaped.set()
        assert process.wait(10) == 3


def test_what_a_hypervisor_takes_from_this_host_is_lost_to_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr("harness.vm.process._STAT", stat)

    def steal(seconds: float) -> None:
        ticks = round(seconds * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1))
        stat.write_text(f"cpu  1286122 209177 151473 793728 9488 0 6689 {ticks} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")

    steal(100)
    with started(["sleep", "60"], tmp_path) as (process, _):
        began = time.monotonic()
        time.sleep(0.5)
        before = process.waited_for_cpu()
        steal(100.2)
        assert before + 0.19 <= process.waited_for_cpu()
        steal(1000)
        assert process.waited_for_cpu() <= time.monotonic() - began + 1, "no more than has passed is lost"
        stat.unlink()
        assert process.waited_for_cpu() < time.monotonic() - began, "a host may not tell"
        process.kill()
        steal(1000)
        assert process.waited_for_cpu() == 0, "one that has ended waits for nothing"
