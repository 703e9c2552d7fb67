"""Cleans up after a run however it ends, even if pytest is killed by SIGKILL.

The keeper is a process of its own (`python -m harness.lab.keeper FOLDER`) that reads a pipe whose only write end is in
pytest. The kernel closes that end when pytest is gone, so all ways of ending look the same to the keeper. Processes that the
run started are recognised by a variable in their environment; a command line that names the folder could be anybody's.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError

TOKEN = "KIOS_E2E_RUN"
_SCAN_PAUSE_SECONDS = 0.1
_KILL_SECONDS = 10.0
_CLOSE_SECONDS = 15.0
# prctl(2); Linux, include/uapi/linux/prctl.h.
_PR_SET_PDEATHSIG = 1


class Keeper:
    """The run's handle of its keeper; `start` makes one."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, token_before: str | None) -> None:
        self._process = process
        self._folder = folder
        self._token_before = token_before

    @classmethod
    def start(cls, folder: Path) -> "Keeper":
        """Starts a keeper that, once this process is gone, kills what it started from now on and removes `folder`.

        `folder` must come fresh from `tempfile.mkdtemp`: empty, and with a name of its own. Raises HarnessError if it does not.
        """
        _check(folder)
        before = os.environ.pop(TOKEN, None)
        try:
            # Started without a token: the keeper of an inner run must outlive the outer run's clean-up.
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-m", "harness.lab.keeper", str(folder)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            if before is not None:
                os.environ[TOKEN] = before
        os.environ[TOKEN] = str(folder)
        return cls(process, folder, before)

    def close(self) -> None:
        """Tells the keeper to clean up now and waits for it; cleans up here if the keeper has died.

        Raises HarnessError if the folder is still there.
        """
        if os.environ.get(TOKEN) == str(self._folder):
            del os.environ[TOKEN]
            if self._token_before is not None:
                os.environ[TOKEN] = self._token_before
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode != 0:
            _clean_up(self._folder)
        if self._folder.exists():
            raise HarnessError(f"{self._folder} cannot be removed: remove it by hand.")


@contextlib.contextmanager
def scratch(prefix: str, where: Path | None = None) -> Iterator[Path]:
    """A folder for temporary files, which is removed with the block, or with this process if that is killed.

    Raises HarnessError if it cannot be made, or if no keeper can be started for it.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    except OSError as refused:
        place = where or tempfile.gettempdir()
        raise HarnessError(f"{place} takes no folder ({refused.strerror}): name another with TMPDIR.") from refused
    try:
        keeper = Keeper.start(folder)
    except OSError as refused:
        folder.rmdir()
        raise HarnessError(f"No process can be started that cleans up after this one: {refused}") from refused
    with contextlib.closing(keeper):
        yield folder


def end_with_parent() -> None:
    """Tells the kernel to kill this process, a worker of pytest-xdist, when its parent ends.

    Otherwise a worker goes on for many seconds after its pytest was killed.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _check(folder: Path) -> None:
    if not folder.is_absolute() or ".." in folder.parts or len(folder.parts) < 3:
        raise HarnessError(f"{folder} is no run's folder: wanted is an absolute path like /tmp/NAME or deeper")
    if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
        raise HarnessError(f"{folder} is no run's folder: wanted is an empty one, fresh from mkdtemp")


def _started(folder: Path) -> Iterator[int]:
    """The ids of the running processes that the run of `folder` started."""
    token = f"{TOKEN}={folder}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        # Other users' processes cannot be read; those that ended meanwhile are gone.
        with contextlib.suppress(OSError):
            if token in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def _end_started(folder: Path) -> None:
    """Kills what the run started, and what that forked meanwhile."""
    deadline = time.monotonic() + _KILL_SECONDS
    quiet_scans = 0
    while quiet_scans < 2 and time.monotonic() < deadline:
        killed = False
        for pid in _started(folder):
            # A child that became another user's cannot be killed.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed = True
        quiet_scans = 0 if killed else quiet_scans + 1
        if quiet_scans < 2:
            # A scan may miss a child that is forked during it, but the next one does not.
            time.sleep(_SCAN_PAUSE_SECONDS)


def _clean_up(folder: Path) -> None:
    _end_started(folder)
    # A folder without write permission could not be emptied.
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(place).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def main(folder: Path) -> int:
    """Waits for the end of stdin, then cleans up; returns the exit status: 0 if nothing is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 4096):
        continue
    _clean_up(folder)
    return int(folder.exists())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
