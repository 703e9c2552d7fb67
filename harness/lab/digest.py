"""SHA-256 digests of files, taken again only where a size or a time of change differs."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

Stamp = tuple[Path, int, int]
"""What a file was when it was last looked at: its path, size in bytes, and time of change in nanoseconds."""


def of(*files: Path) -> str:
    """The digest of the files' content, one behind the other: images are large, and a run asks for them at each node."""
    return _of(stamps(files))


def stamps(files: Sequence[Path]) -> tuple[Stamp, ...]:
    """The key under which what was read of files can be kept."""
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@functools.lru_cache
def _of(files: tuple[Stamp, ...]) -> str:
    total = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                total.update(block)
    return total.hexdigest()
