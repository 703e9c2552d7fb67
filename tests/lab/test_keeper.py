"""The keeper cleans up after a run, whichever way that ends, and after nobody else."""

import errno
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
from harness.lab import keeper as keeping
from harness.lab.keeper import TOKEN, Keeper

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Path:
    """The folder of a run that a test starts."""
    return Path(tempfile.mkdtemp(prefix="keeper-"))


def started_for(folder: Path) -> list[int]:
    """The processes that bear the folder's token."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"{TOKEN}={folder}".encode() in environment:
                found.append(int(entry.name))
    return found


def keepers_of(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"harness.lab.keeper" in words and os.fsencode(folder) in words:
                found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], bool], within: float = 3) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ignores(pid: int, signum: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) & 1 << (signum - 1))


def test_close_kills_what_the_run_started_and_removes_the_folder(folder: Path) -> None:
    before = os.environ.get(TOKEN)
    keeper = Keeper.start(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "log").write_text("x")
    (folder / "sub").chmod(0o500)
    # Its command line does not name the folder, and it has a session of its own.
    started = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)
    wait_until(lambda: len(started_for(folder)) == 3)
    keeper.close()
    assert started.wait(5) == -signal.SIGKILL
    assert not folder.exists()
    assert started_for(folder) == []
    assert os.environ.get(TOKEN) == before
    keeper.close()


def test_a_users_own_process_that_looks_into_the_folder_lives(folder: Path) -> None:
    keeper = Keeper.start(folder)
    environment = {name: value for name, value in os.environ.items() if name != TOKEN}
    with subprocess.Popen(["tail", "-f", "/dev/null", str(folder)], env=environment, stderr=subprocess.DEVNULL) as users:
        keeper.close()
        assert users.poll() is None
        users.kill()


def test_what_may_not_be_killed_does_not_keep_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signum: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        patched.setattr(keeping, "_started", lambda _: [1])
        keeping._clean_up(folder)
    assert not folder.exists()


def test_nothing_is_left_of_a_killed_run(folder: Path) -> None:
    program = (
        "import os, subprocess, time, pathlib; from harness.lab.keeper import Keeper\n"
        "folder = pathlib.Path(os.environ['RUN']); keeper = Keeper.start(folder); (folder / 'disk').write_text('x')\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, env={**os.environ, "RUN": str(folder)}) as run:
        try:
            wait_until(lambda: len(started_for(folder)) == 1)
        finally:
            run.kill()
    wait_until(lambda: not folder.exists() and started_for(folder) == [] and keepers_of(folder) == [])


def test_a_run_within_a_run_cleans_up_when_the_outer_one_is_killed() -> None:
    outer, inner = (Path(tempfile.mkdtemp(prefix="keeper-")) for _ in range(2))
    wait = (
        "import sys, pathlib, subprocess; from harness.lab.keeper import Keeper; k = Keeper.start(pathlib.Path(sys.argv[1]));"
    )
    inside = f"{wait} (pathlib.Path(sys.argv[1]) / 'ready').touch(); import time; time.sleep(60)"
    around = f"{wait} subprocess.run([sys.executable, '-c', sys.argv[3], sys.argv[2]])"
    with subprocess.Popen([sys.executable, "-c", around, str(outer), str(inner), inside], cwd=PROJECT) as run:
        try:
            wait_until(lambda: (inner / "ready").exists())
        finally:
            run.kill()
    wait_until(lambda: not outer.exists() and not inner.exists())


def test_a_keeper_that_was_killed_is_stood_in_for(folder: Path) -> None:
    keeper = Keeper.start(folder)
    (folder / "disk").write_text("x")
    with subprocess.Popen(["sleep", "60"]) as started:
        wait_until(lambda: len(keepers_of(folder)) == 1)
        os.kill(keepers_of(folder)[0], signal.SIGKILL)
        keeper.close()
        assert started.wait(5) == -signal.SIGKILL
    assert not folder.exists()


def test_the_signals_that_end_a_run_do_not_end_its_keeper(folder: Path) -> None:
    keeper = Keeper.start(folder)
    wait_until(lambda: len(keepers_of(folder)) == 1)
    (pid,) = keepers_of(folder)
    assert os.getsid(pid) == pid
    wait_until(lambda: ignores(pid, signal.SIGINT) and ignores(pid, signal.SIGTERM))
    os.kill(pid, signal.SIGTERM)
    assert keepers_of(folder) == [pid]
    keeper.close()
    assert not folder.exists()


def test_a_worker_ends_at_once_with_the_process_that_started_it(tmp_path: Path) -> None:
    worker = (
        "import os, sys, time; from pathlib import Path; from harness.lab.keeper import end_with_parent; end_with_parent()\n"
        "Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    )
    pid = tmp_path / "pid"
    starter = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    with subprocess.Popen([sys.executable, "-c", starter, worker, str(pid)], cwd=PROJECT) as pytest_itself:
        wait_until(lambda: pid.exists() and pid.read_text() != "")
        pytest_itself.kill()
    gone = Path("/proc", pid.read_text(), "cmdline")
    wait_until(lambda: not gone.exists() or not gone.read_bytes(), within=1)


@pytest.mark.parametrize("folder", ["/", "/tmp", "relative/path/x", "/tmp/../etc", "/tmp/no-such-folder-here"])
def test_a_folder_that_is_no_runs_is_refused(folder: str) -> None:
    with pytest.raises(HarnessError, match="no run's folder"):
        Keeper.start(Path(folder))


def test_a_keeper_that_cannot_be_started_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.delenv(TOKEN, raising=False)
    refused = pytest.raises(HarnessError, match=r"No process can be started .*temporarily unavailable")
    with refused, keeping.scratch("kios-e2e-", tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    assert TOKEN not in os.environ


def test_a_place_that_takes_no_folder_is_named(tmp_path: Path) -> None:
    refused = pytest.raises(HarnessError, match=f"{tmp_path}/none takes no folder .No such file.*TMPDIR")
    with refused, keeping.scratch("kios-e2e-", tmp_path / "none"):
        pass


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("x")
    with pytest.raises(HarnessError, match="empty"):
        Keeper.start(tmp_path)
    assert (tmp_path / "thesis").exists()
