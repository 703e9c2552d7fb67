"""SHA-256 digests of files, computed again only if a size or modification time differs."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

Stamp = tuple[Path, int, int]
"""A file's path, size in bytes, and modification time in nanoseconds."""


def of(*files: Path) -> str:
    """The digest of the files' concatenated content; kept, because images are large and each node asks for it."""
    return _of(stamps(files))


def stamps(files: Sequence[Path]) -> tuple[Stamp, ...]:
    """The key under which what was read from files can be kept."""
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@functools.lru_cache
def _of(files: tuple[Stamp, ...]) -> str:
    total = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                total.update(block)
    return total.hexdigest()
