"""The cache of built parts, keyed by content: a part is made once for all that it is made from.

A part is made in a folder beside its place and renamed into it, so an interrupted build leaves nothing that a later one
would take for a part. Two builds at a time wait for each other, part by part.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.errors import BuildError

_KEPT_OF_EACH_PART = 3
# A run that goes on may use what was asked for so lately: nodes and templates lie on the image's own file.
_IN_USE_SECONDS = 12 * 3600
_NEEDED_BYTES = 6 << 30


@dataclass(frozen=True)
class Part:
    """One thing to make: its name, what it is made from (name to digest or version), and what fills its folder."""

    name: str
    inputs: Mapping[str, str]
    make: Callable[[Path], None]

    @property
    def key(self) -> str:
        """The digest of all the inputs: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(dict(self.inputs), sort_keys=True).encode()).hexdigest()[:16]


def default_root() -> Path:
    """The cache folder: under `$XDG_CACHE_HOME`, which is `~/.cache` if unset or relative (XDG Base Directory Specification).

    Raises BuildError if there is no home folder either.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "kios-e2e"
    except RuntimeError as homeless:
        raise BuildError(
            "There is no home folder for the cache.", "Name one with --cache, or set XDG_CACHE_HOME."
        ) from homeless


class Cache:
    """Parts under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        for folder in ("parts", "locks", "work", "logs"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def get(self, part: Part) -> Path:
        """Returns the folder of a part, made now if it is not there."""
        place = self.root / "parts" / f"{part.name}-{part.key}"
        if place.is_dir():
            os.utime(place)
            return place
        with self.locked(part.name):
            if not place.is_dir():
                self._make(part, place)
        return place

    def workspace(self, name: str) -> Path:
        """A folder for a build that goes on where it was, such as a compiler's tree; its tool must bear an interruption."""
        place = self.root / "work" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the lock of a name against other builds on this cache."""
        with (self.root / "locks" / name).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{name}: waiting for another build")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, part: Part, place: Path) -> None:
        making = place.with_name(f".{place.name}.making")
        for left in place.parent.glob(f".{part.name}-{'?' * 16}.making"):
            shutil.rmtree(left, ignore_errors=True)
        making.mkdir()
        say(f"{part.name}: building")
        start = time.monotonic()
        part.make(making)
        (making / "inputs.json").write_text(json.dumps(dict(part.inputs), indent=1, sort_keys=True))
        making.rename(place)
        say(f"{part.name}: done in {time.monotonic() - start:.0f} s")
        self._drop_old(part.name)

    def _drop_old(self, name: str) -> None:
        parts = self.root / "parts"
        same = [place for place in parts.iterdir() if place.name.rpartition("-")[0] == name]
        for old in sorted(same, key=lambda place: place.stat().st_mtime, reverse=True)[_KEPT_OF_EACH_PART:]:
            if time.time() - old.stat().st_mtime > _IN_USE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)


def free_bytes_missing(root: Path) -> int:
    """How many bytes a cold build lacks on the filesystem of `root`; 0 if there is room."""
    return max(0, _NEEDED_BYTES - shutil.disk_usage(root).free)


def digest_of(*paths: Path) -> str:
    """The sha256 of files and folders: names, executable bits and bytes, and where the links in a folder lead."""
    total = hashlib.sha256()
    for path in paths:
        if path.is_dir():
            for each in sorted(path.rglob("*")):
                if "__pycache__" not in each.parts:
                    total.update(_described(each, os.fsencode(each.relative_to(path))))
        else:
            total.update(_described(path.resolve(strict=True), os.fsencode(path.name)))
    return total.hexdigest()


def _described(file: Path, name: bytes) -> bytes:
    """What a digest knows of a file or a link; nothing of a folder, whose files have it in their names."""
    if file.is_symlink():
        return b"%b\0%b\0" % (name, os.fsencode(file.readlink()))
    if not file.is_file():
        return b""
    state = file.stat()
    executable = str(bool(state.st_mode & 0o100)).encode()
    with file.open("rb") as content:
        return b"%b\0%b\0%d\0" % (name, executable, state.st_size) + hashlib.file_digest(content, "sha256").digest()


def say(words: str) -> None:
    """One line of progress."""
    print(f"images: {words}", file=sys.stderr, flush=True)
