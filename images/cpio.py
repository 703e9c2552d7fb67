"""The initramfs: a cpio archive in the kernel's `newc` form (Documentation/driver-api/early-userspace/buffer-format.rst)."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class _Entry:
    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)
    inode: int | None = None
    links: int = 1


def write(folder: Path, archive: Path) -> None:
    """Writes a folder as an archive in which everything is root's and dates from 1970, so that equal trees give equal bytes.

    Names of one file stay hard links. Adds `/dev/console`, which PID 1 gets as its standard streams.
    """
    with archive.open("wb") as output:
        for number, entry in enumerate(_entries(folder), start=1):
            _write_entry(output, number, entry)
        _write_entry(output, 0, _Entry("TRAILER!!!", 0))


def _entries(folder: Path) -> Iterator[_Entry]:
    yield _Entry("dev", stat.S_IFDIR | 0o755)
    yield _Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    # An inode's number here is that of its first name's place, which is the same for equal trees.
    first: dict[int, int] = {}
    for number, path in enumerate(sorted(folder.rglob("*")), start=3):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield _Entry(name, stat.S_IFLNK | 0o777, str(path.readlink()).encode())
        elif path.is_dir():
            yield _Entry(name, stat.S_IFDIR | 0o755)
        else:
            status = path.stat()
            inode = first.setdefault(status.st_ino, number)
            # The kernel takes the content with the first name, and links the others to it.
            content = path.read_bytes() if inode == number else b""
            yield _Entry(name, stat.S_IFREG | (status.st_mode & 0o777), content, inode=inode, links=status.st_nlink)


def _write_entry(output: BinaryIO, number: int, entry: _Entry) -> None:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else entry.links
    fields = (
        number if entry.inode is None else entry.inode,
        entry.mode,
        0,
        0,
        links,
        0,
        len(entry.content),
        0,
        0,
        *entry.device,
        len(name),
        0,
    )
    output.write(b"070701" + b"".join(b"%08x" % field for field in fields))
    output.write(name)
    _pad(output)
    output.write(entry.content)
    _pad(output)


def _pad(output: BinaryIO) -> None:
    output.write(b"\0" * (-output.tell() % 4))
