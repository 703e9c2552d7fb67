"""The keeper cleans up after a run, whichever way that ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.lab.keeper import Keeper

PROJECT = Path(__file__).parents[2]


def users_of(folder: Path) -> dict[int, bytes]:
    """Returns the command lines that hold the path of `folder`, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command_line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command_line:
                found[int(entry.name)] = command_line
    return found


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ignores(pid: int, signum: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) & 1 << (signum - 1))


def test_close_kills_the_users_of_the_folder_and_removes_it() -> None:
    folder = Path(tempfile.mkdtemp(prefix="keeper-"))
    keeper = Keeper.start(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "log").write_text("x")
    user = subprocess.Popen(["tail", "-f", str(folder / "sub" / "log")], stdout=subprocess.DEVNULL)
    keeper.close()
    assert user.wait(5) == -signal.SIGKILL
    assert not folder.exists()
    assert users_of(folder) == {}
    keeper.close()


def test_nothing_is_left_of_a_killed_run() -> None:
    folder = Path(tempfile.mkdtemp(prefix="keeper-"))
    program = (
        "import os, subprocess, sys, time, pathlib; from harness.lab.keeper import Keeper\n"
        "folder = pathlib.Path(os.environ['RUN']); keeper = Keeper.start(folder); (folder / 'disk').write_text('x')\n"
        "subprocess.Popen(['tail', '-f', str(folder / 'disk')], start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, env={**os.environ, "RUN": str(folder)}) as run:
        try:
            wait_until(lambda: len(users_of(folder)) == 2)
        finally:
            run.kill()
    wait_until(lambda: not folder.exists() and users_of(folder) == {})


def test_the_signals_that_end_a_run_do_not_end_its_keeper() -> None:
    folder = Path(tempfile.mkdtemp(prefix="keeper-"))
    keeper = Keeper.start(folder)
    wait_until(lambda: len(users_of(folder)) == 1)
    (pid,) = users_of(folder)
    assert os.getsid(pid) == pid
    wait_until(lambda: ignores(pid, signal.SIGINT) and ignores(pid, signal.SIGTERM))
    os.kill(pid, signal.SIGTERM)
    keeper.close()
    assert not folder.exists()


@pytest.mark.parametrize("folder", ["/", "/tmp", "relative/path/x", "/tmp/../etc", "/tmp/no-such-folder-here"])
def test_a_folder_that_is_no_runs_is_refused(folder: str) -> None:
    with pytest.raises(HarnessError, match="no run's folder"):
        Keeper.start(Path(folder))


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("x")
    with pytest.raises(HarnessError, match="empty"):
        Keeper.start(tmp_path)
    assert (tmp_path / "thesis").exists()
