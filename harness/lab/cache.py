"""The cache: where it is, and how its entries are made, used and removed.

Each entry has a lock beside it: shared for those who use it, exclusive for the one who makes or removes it. The kernel drops a
lock with its process, so an entry that a killed run left half made is recognised by its free lock.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from harness.errors import HarnessError, InputError

# A template of a node with 1 GiB of memory takes half of it on the disk.
LIMIT = 8 << 30
_KEPT = ("templates", "stores", "images")
_LOCK, _PARTIAL = ".lock", ".partial"
# Between making and using an entry, another run may remove it to make room.
_TRIES = 5
# Some file systems on a network have no locks.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOLCK}
_CURE = "make room, or name another with --image-cache"
_LOOK_AGAIN_SECONDS = 0.1
# A longer silent wait looks as if it hung.
_QUIET_SECONDS = 5.0
# The longest boot on a slow host, and a build of the reference image.
_WITHIN = 3600.0
_HELD = contextlib.ExitStack()
_listeners: list[Callable[[str], None]] = [lambda _: None]


class NotKept(HarnessError):  # noqa: N818 - a state of the cache, which callers go on with
    """The cache cannot be written, or its disk is full."""


def folder(named: Path | None) -> Path:
    """The cache folder: the one named, else `kios-e2e` under `$XDG_CACHE_HOME` or `~/.cache` (XDG Base Directory).

    Raises InputError if there is no home folder either.
    """
    if named:
        return named.absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "kios-e2e"
    try:
        home = Path.home()
        if home.is_absolute() and home.is_dir():
            return home / ".cache" / "kios-e2e"
    except (RuntimeError, OSError):
        pass
    raise InputError("There is no home folder for the cache: name one with --image-cache DIR, or set XDG_CACHE_HOME.")


@contextlib.contextmanager
def kept(
    place: Path,
    whole: Callable[[Path], bool],
    make: Callable[[Path], None],
    limit: int = LIMIT,
    say: Callable[[str], None] | None = None,
) -> Iterator[Path]:
    """Yields the entry at `place`, protected from removal meanwhile; `make` makes it, at another path, if it is not whole.

    Of all who ask, one makes it and the others wait; a long wait is told to `say`, or to the function given to `announce_to`.
    The entries that have gone unused longest make room in the cache, which is the folder two levels up. Raises NotKept if the
    cache cannot be written, or is full.
    """
    say = say or _listeners[-1]
    with contextlib.ExitStack() as used:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            used.enter_context(_waited_for(place, fcntl.LOCK_SH, say))
            for _ in range(_TRIES):
                if whole(place):
                    break
                used.close()
                with _waited_for(place, fcntl.LOCK_EX, say) as lock:
                    _sign(lock)
                    if not whole(place):
                        with _told_if_it_takes_long(f"makes {place.parent.name}/{place.name}", say):
                            _make(place, make)
                make_room(place.parents[1], limit, place)
                used.enter_context(_waited_for(place, fcntl.LOCK_SH, say))
            else:
                raise HarnessError(f"{place} was changed by something other than the harness: use another --image-cache.")
        except OSError as refused:
            if refused.errno not in _REFUSALS:
                raise
            raise NotKept(f"The cache {place.parents[1]} takes nothing more ({refused.strerror}): {_CURE}.") from refused
        # The lock's time is that of the last use. Another user's cache may be read-only.
        with contextlib.suppress(OSError):
            os.utime(_lock_of(place))
        yield place


def announce_to(say: Callable[[str], None]) -> None:
    """Sets the function that later waits for the cache report to, unless they name another."""
    _listeners[:] = [say]


def hold(place: Path, whole: Callable[[Path], bool], make: Callable[[Path], None]) -> Path:
    """As `kept`, until this process ends."""
    return _HELD.enter_context(kept(place, whole, make))


def make_room(root: Path, limit: int, newest: Path | None = None) -> None:
    """Removes what killed runs left half made, then the entries unused longest, until the rest is within `limit` bytes.

    Entries in use stay, and so does `newest`.
    """
    for left in [left for kind in _KEPT for left in (root / kind).glob(f"*{_PARTIAL}")]:
        _remove_unused(left.with_name(left.name.removesuffix(_PARTIAL)), left)
    total = 0
    for place in sorted(_things(root), key=_used, reverse=True):
        total += _bytes_of(place)
        if total > limit and place != newest:
            _remove_unused(place, place)


@contextlib.contextmanager
def _told_if_it_takes_long(words: str, say: Callable[[str], None]) -> Iterator[None]:
    timer = threading.Timer(_QUIET_SECONDS, say, [words])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _make(place: Path, make: Callable[[Path], None]) -> None:
    """Makes an entry. The caller must hold its lock."""
    partial = place.with_name(place.name + _PARTIAL)
    for left in (partial, place):
        _remove(left)
    try:
        make(partial)
        partial.rename(place)
    except BaseException:
        _remove(partial)
        raise


def _things(root: Path) -> list[Path]:
    return [
        thing
        for kind in _KEPT
        for thing in (root / kind).glob("*")
        if not thing.name.endswith((_LOCK, _PARTIAL)) and not thing.name.startswith(".")
    ]


def _remove_unused(place: Path, what: Path) -> None:
    """Removes `what` unless someone holds the lock of `place`, and the lock's file if nothing is left that needs it."""
    with contextlib.suppress(OSError), _locked(place, fcntl.LOCK_EX):
        _remove(what)
        if not place.exists():
            _lock_of(place).unlink(missing_ok=True)


def _remove(what: Path) -> None:
    if what.is_dir() and not what.is_symlink():
        shutil.rmtree(what, ignore_errors=True)
    else:
        what.unlink(missing_ok=True)


def _waited_for(place: Path, how: int, say: Callable[[str], None]) -> IO[str]:
    """The lock of a place, as soon as nobody else holds it; raises HarnessError after an hour."""
    began, said = time.monotonic(), False
    while True:
        try:
            return _locked(place, how)
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited > _WITHIN:
            raise HarnessError(f"Process {_signed(place)} has used {place} for an hour: end it, or name another --image-cache.")
        if waited > _QUIET_SECONDS and not said:
            say(f"waits for process {_signed(place)}, which makes {place.parent.name}/{place.name}")
            said = True
        time.sleep(_LOOK_AGAIN_SECONDS)


def _locked(place: Path, how: int) -> IO[str]:
    """The lock of a place, shared or exclusive; raises BlockingIOError if somebody else holds it."""
    path = _lock_of(place)
    while True:
        lock = _opened(path)
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            # Whoever removed the entry may have removed the lock's file meanwhile: then this lock binds nobody.
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def _sign(lock: IO[str]) -> None:
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _signed(place: Path) -> str:
    """The process that last held the lock exclusively."""
    with contextlib.suppress(OSError):
        return _lock_of(place).read_text()
    return "?"


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a")
    except OSError:
        # Another user's cache, or a read-only one, can still be read.
        if path.exists():
            return path.open()
        raise


def _lock_of(place: Path) -> Path:
    return place.with_name(place.name + _LOCK)


def _used(place: Path) -> float:
    for witness in (_lock_of(place), place):
        with contextlib.suppress(OSError):
            return witness.stat().st_mtime
    return 0.0


def _bytes_of(place: Path) -> int:
    """The bytes that an entry takes on the disk; files that another run removes meanwhile count as 0."""
    total = 0
    for file in (place, *place.rglob("*")) if place.is_dir() else (place,):
        with contextlib.suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total
