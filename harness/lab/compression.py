"""Disk images that are compressed with gzip, xz or zstd."""

import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness import space
from harness.errors import DamagedImageError, InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": zstd.ZstdFile,
}
_BLOCK = 1 << 20
# A released image has less than 1 GiB, but a few bytes can unpack to zeros for any size.
_MOST = 64 << 30
# For everything else that needs the disk meanwhile.
_STAYS_FREE = 256 << 20
_AGAIN = "Copy it again, or unpack it by hand"


def is_compressed(head: bytes) -> bool:
    """Whether a file with this beginning is compressed in one of the formats that are known here."""
    return any(head.startswith(magic) for magic in _OPENERS)


def head_of(file: Path, size: int) -> bytes:
    """The first `size` bytes of the unpacked content of a file; raises InputError if it is damaged."""
    with _opened(file) as content:
        return content.read(size)


def unpack(file: Path, raw: Path) -> None:
    """Unpacks a file to `raw`, in which zeros become holes.

    Raises InputError if it is truncated, damaged, or unpacks to more than 64 GiB, HarnessError if the disk has no room.
    """
    size = 0
    with _opened(file) as content, raw.open("wb") as output:
        while block := content.read(_BLOCK):
            size += len(block)
            if size > _MOST:
                raise InputError(f"{file} unpacks to more than {_MOST >> 30} GiB: that is no image of a kiOS disk.")
            if not any(block):
                output.seek(len(block), os.SEEK_CUR)
                continue
            space.check(raw.parent, len(block) + _STAYS_FREE, f"{file}, unpacked,")
            output.write(block)
        output.truncate(size)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as packed:
        head = packed.read(8)
    opener = next(opener for magic, opener in _OPENERS.items() if head.startswith(magic))
    try:
        with opener(file) as content:
            yield content  # type: ignore[misc] # these have all of IO that is used here
    except EOFError as short:
        raise DamagedImageError(f"{file} is truncated: it ends before what is compressed in it does. {_AGAIN}.") from short
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError, MemoryError) as broken:
        raise DamagedImageError(f"{file} is damaged and cannot be unpacked ({broken}). {_AGAIN}.") from broken
