"""The host's programs that the harness runs, most of them on disk images: found, and run to their end."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Container, Mapping
from pathlib import Path

from harness.errors import HarnessError

_PACKAGES = {
    "cc": "gcc",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mcopy": "mtools",
    "mdir": "mtools",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
}


def find(name: str) -> Path:
    """Returns the path of the program `name`; raises HarnessError with the Debian package to install if there is none."""
    # Debian keeps the file system tools in sbin, which is not in the PATH of a normal user.
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=folders)
    if found is None:
        raise HarnessError(f"{name} is not installed: apt-get install {package(name)}")
    return Path(found)


def package(name: str) -> str:
    """The Debian package that has a program."""
    return _PACKAGES.get(name, name)


def run(
    name: str,
    *args: str | Path,
    timeout: float = 60,
    ok: Container[int] = (0,),
    input: bytes | None = None,  # noqa: A002 (subprocess.run's own word for it)
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs the program `name` in the folder `cwd`, with `input` as its stdin, and returns what it wrote.

    Raises HarnessError with the program's words if its exit status is not in `ok`, or if it runs for more than `timeout`
    seconds; it is then killed.
    """
    argv = [str(find(name)), *map(str, args)]
    try:
        done = subprocess.run(argv, input=input or b"", capture_output=True, timeout=timeout, cwd=cwd, env=_environment())
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{name} did not end in {timeout} s; run it by hand: {argv}") from error
    except OSError as error:
        raise HarnessError(f"{name} cannot be run: {error}") from error
    _check(name, done, ok)
    return done


def head(size: int, name: str, *args: str | Path, timeout: float = 60, ok: Container[int] = (0,)) -> bytes:
    """Runs the program `name` as `run` does, and returns the first `size` bytes that it writes; it is then killed."""
    argv = [str(find(name)), *map(str, args)]
    is_late = threading.Event()
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=_environment()
        ) as running:

            def end() -> None:
                is_late.set()
                running.kill()

            clock = threading.Timer(timeout, end)
            clock.start()
            assert running.stdout
            found: bytes = running.stdout.read(size)
            if len(found) == size:
                running.kill()
            clock.cancel()
        if len(found) == size:
            return found
        if is_late.is_set():
            raise HarnessError(f"{name} did not end in {timeout} s; run it by hand: {argv}")
        errors.seek(0)
        _check(name, subprocess.CompletedProcess(argv, running.returncode, b"", errors.read()), ok)
    return found


def _environment() -> Mapping[str, str]:
    """The environment of each program: its messages in English, file names in UTF-8, and no settings of the user's for mtools.

    mtools would refuse a disk without a geometry, which no disk has any more (mtools(1), mtools_skip_check).
    """
    return {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull}


def _check(name: str, done: subprocess.CompletedProcess[bytes], ok: Container[int]) -> None:
    if done.returncode not in ok:
        raise HarnessError(f"{name} {ended(done.returncode)}: {words(done) or 'without a word'}; run it by hand: {done.args}")


def ended(status: int) -> str:
    """How a program failed, in words; a negative status is a signal, as in Python."""
    if status >= 0:
        return f"failed with status {status}"
    # The kernel kills so what takes the most memory where there is no more.
    why = ", perhaps because this host has no memory left" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status}{why}"


def words(done: subprocess.CompletedProcess[bytes]) -> str:
    """Returns what a program wrote to stdout and stderr, as one text for a message."""
    return (done.stdout + b"\n" + done.stderr).decode(errors="replace").strip()
