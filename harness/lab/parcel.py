"""Files in one tar.zst that begins with a document: packed within a size limit, and unpacked without trusting the file.

A parcel is a plain tar (ustar) of regular files, which `tar` lists and unpacks. Its first file is the document: JSON with the
names and sizes of the others.
"""

import contextlib
import json
import os
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from harness import space
from harness.errors import HarnessError, InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DOCUMENT = "bundle.json"
_MOST_DOCUMENT = 16 << 20
_MOST_FILES = 10_000
_MOST_BYTES = 64 << 30
_STAYS_FREE = 256 << 20
_BLOCK = 1 << 20
_RECORD = 512
# No name that leads out of a folder, is hidden, or has a meaning to a shell.
_NAME = re.compile(r"[A-Za-z0-9_][\w.+@=~-]*(/[A-Za-z0-9_][\w.+@=~-]*)*", re.ASCII)
_LONGEST_NAME = 100
_SAY_SECONDS = 5.0
# Fast, and hardly larger than the best: a node's memory is mostly zeros and programs.
_LEVEL = 3

_UNFIT = (zstd.ZstdError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError)

Say = Callable[[str], None]


class TooLargeError(HarnessError):
    """What was to be packed exceeds the limit."""


def pack(parcel: Path, told: Mapping[str, object], files: Mapping[str, Path], limit: int, say: Say = lambda _: None) -> None:
    """Packs files, by name, with the document `told`, into a parcel that only this user may read.

    The files must not change meanwhile. One whose name a parcel cannot have is left out. Raises TooLargeError if the parcel
    would take more than `limit` bytes, HarnessError if the disk has no room; nothing of it is left then. `say` is told the
    progress.
    """
    sizes = {name: file.stat().st_size for name, file in files.items() if _is_good(name)}
    document = json.dumps({"files": sizes, "told": told}, indent=1).encode()
    partial = parcel.with_name(f"{parcel.name}.partial")
    progress = _Progress(f"packs {parcel.name}", sum(sizes.values()), say)
    try:
        with space.named(parcel.parent), _made(partial) as output, _compressed(output, parcel.parent, limit) as stream:
            _add(stream, DOCUMENT, len(document), [document])
            for name, size in sizes.items():
                with files[name].open("rb") as content:
                    _add(stream, name, size, progress.through(_blocks(content, size)))
            stream.write(bytes(2 * _RECORD))
        partial.rename(parcel)
    finally:
        partial.unlink(missing_ok=True)


def unpack(parcel: Path, folder: Path, say: Say = lambda _: None) -> Mapping[str, Any]:
    """Unpacks a parcel into a folder that it makes, and returns what was `told`; only this user may read the files.

    Raises InputError for a file that is not a parcel, is damaged, or differs from what `pack` makes; HarnessError if the disk
    has no room.
    """
    folder.mkdir(mode=0o700)
    try:
        with parcel.open("rb") as packed, zstd.ZstdFile(packed) as stream, space.named(folder):
            name, size = _next(stream)
            if name != DOCUMENT or size > _MOST_DOCUMENT:
                raise ValueError(f"it does not begin with {DOCUMENT}")
            document = json.loads(b"".join(_exactly(stream, size)))
            sizes = _sizes(document["files"])
            total = sum(sizes.values())
            space.check(folder, total + _STAYS_FREE, f"{parcel.name}, unpacked,")
            progress = _Progress(f"unpacks {parcel.name}", total, say)
            for _ in range(len(sizes)):
                name, size = _next(stream)
                if sizes.pop(name, None) != size:
                    raise ValueError(f"{name!r} is not what it lists")
                _write(folder / name, progress.through(_exactly(stream, size)))
            told: Mapping[str, Any] = document["told"]
            return told
    except FileNotFoundError as missing:
        raise InputError(f"There is no file {parcel}.") from missing
    except (*_UNFIT, OSError) as unfit:
        raise InputError(f"{parcel} is no bundle of a failed node, or is damaged: {unfit}.") from unfit


class _Progress:
    """Reports now and then what share of some bytes has passed."""

    def __init__(self, what: str, total: int, say: Say) -> None:
        self._what, self._total, self._say = what, max(total, 1), say
        self._done, self._said = 0, time.monotonic()

    def through(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            yield block
            self._done += len(block)
            if time.monotonic() - self._said > _SAY_SECONDS:
                self._said = time.monotonic()
                self._say(f"{self._what}: {100 * self._done // self._total} %")


class _Limited:
    """A file that takes no more than a limit, and leaves some room on its disk."""

    def __init__(self, output: IO[bytes], folder: Path, limit: int) -> None:
        self._output, self._folder, self._left, self._limit = output, folder, limit, limit

    def write(self, block: bytes) -> int:
        self._left -= len(block)
        if self._left < 0:
            raise TooLargeError(f"it takes more than the {self._limit >> 20} MiB that are left for it")
        space.check(self._folder, len(block) + _STAYS_FREE, "a bundle")
        return self._output.write(block)

    def close(self) -> None:
        self._output.close()


@contextlib.contextmanager
def _compressed(output: IO[bytes], folder: Path, limit: int) -> Iterator[zstd.ZstdFile]:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.nb_workers: len(os.sched_getaffinity(0)),
    }
    stream = zstd.ZstdFile(_Limited(output, folder, limit), "wb", options=options)
    try:
        yield stream
    except BaseException:
        # An orderly close would go on writing.
        with contextlib.suppress(HarnessError, OSError):
            stream.close()
        raise
    stream.close()


def _add(stream: zstd.ZstdFile, name: str, size: int, blocks: Iterable[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    stream.write(entry.tobuf(tarfile.USTAR_FORMAT))
    for block in blocks:
        stream.write(block)
    stream.write(bytes(-size % _RECORD))


def _blocks(content: IO[bytes], size: int) -> Iterator[bytes]:
    while size and (block := content.read(min(_BLOCK, size))):
        size -= len(block)
        yield block
    if size:
        raise HarnessError(f"{content.name} became shorter while it was packed: let nothing write to it")


def _next(stream: zstd.ZstdFile) -> tuple[str, int]:
    """The name and size of the next file. Read by hand, because tarfile would accept headers of any size before it."""
    entry = tarfile.TarInfo.frombuf(b"".join(_exactly(stream, _RECORD, padded=False)), "ascii", "strict")
    if entry.type != tarfile.REGTYPE:
        raise ValueError(f"{entry.name!r} is no regular file")
    return entry.name, entry.size


def _exactly(stream: zstd.ZstdFile, size: int, padded: bool = True) -> Iterator[bytes]:
    left = size
    while left:
        block = stream.read(min(_BLOCK, left))
        if not block:
            raise EOFError("it ends too early")
        left -= len(block)
        yield block
    if padded:
        stream.read(-size % _RECORD)


def _sizes(listed: object) -> dict[str, int]:
    if not isinstance(listed, dict) or len(listed) > _MOST_FILES:
        raise ValueError("its list of files is none")
    for name, size in listed.items():
        if not _is_good(name) or name == DOCUMENT:
            raise ValueError(f"it has a file of the name {name!r}")
        if type(size) is not int or size < 0:
            raise ValueError(f"{name} has no size")
    if sum(listed.values()) > _MOST_BYTES:
        raise ValueError(f"it unpacks to more than {_MOST_BYTES >> 30} GiB")
    return dict(listed)


def _is_good(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and bool(_NAME.fullmatch(name))


def _write(file: Path, blocks: Iterator[bytes]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _made(file) as output:
        for block in blocks:
            output.write(block)


def _made(file: Path) -> IO[bytes]:
    """A new file that only this user may read."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
