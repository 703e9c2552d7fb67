"""Cleans up after a run whichever way it ends, a SIGKILLed pytest included.

The keeper is a process of its own (`python -m harness.lab.keeper FOLDER`) that reads a pipe whose only write end is in
pytest. The kernel closes that end when pytest goes, so the orderly end and the disorderly one are the same to it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.errors import HarnessError

_SCAN_PAUSE_SECONDS = 0.1
_KILL_SECONDS = 10.0
_CLOSE_SECONDS = 15.0


class Keeper:
    """The run's end of the keeper; `start` makes one."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder

    @classmethod
    def start(cls, folder: Path) -> "Keeper":
        """Has `folder` removed, and each process killed whose command line holds its path, once this process is gone.

        `folder` must come fresh from `tempfile.mkdtemp`: empty, and with a random name that no other process can have
        in its command line by chance. HarnessError if it is not.
        """
        _check(folder)
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-m", "harness.lab.keeper", str(folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return cls(process, folder)

    def close(self) -> None:
        """Has the keeper clean up now and waits for it; HarnessError if processes or the folder are left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            raise HarnessError(f"the keeper of {self._folder} did not end within {_CLOSE_SECONDS:.0f} s") from error
        if status != 0 or self._folder.exists():
            raise HarnessError(f"the keeper could not clean up (status {status}): remove {self._folder} by hand")


def _check(folder: Path) -> None:
    if not folder.is_absolute() or ".." in folder.parts or len(folder.parts) < 3:
        raise HarnessError(f"{folder} is no run's folder: wanted is an absolute path like /tmp/NAME or deeper")
    if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
        raise HarnessError(f"{folder} is no run's folder: wanted is an empty one, fresh from mkdtemp")


def _users(folder: Path) -> list[int]:
    """Returns the ids of the other processes whose command line holds the path of `folder`."""
    path = os.fsencode(folder)
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            command_line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if path in command_line:
            found.append(int(process.name))
    return found


def _end_users(folder: Path) -> bool:
    """Kills the users of `folder`, and whatever they forked meanwhile; says whether all are gone."""
    deadline = time.monotonic() + _KILL_SECONDS
    quiet_scans = 0
    while quiet_scans < 2:
        if time.monotonic() > deadline:
            return False
        users = _users(folder)
        for pid in users:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        quiet_scans = 0 if users else quiet_scans + 1
        if quiet_scans < 2:
            # A child forked during a scan may be passed over by it, but not by one that starts after.
            time.sleep(_SCAN_PAUSE_SECONDS)
    return True


def main(folder: Path) -> int:
    """Waits for the end of stdin, then cleans up; returns the exit status: 0 if nothing is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 4096):
        continue
    all_gone = _end_users(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if all_gone and not folder.exists() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
