"""An ext4 file system inside a raw image, read without a mount and without root; nothing in it is trusted.

`offset` is where the file system starts in the image, in bytes. e2fsprogs takes it as `image?offset=N` (libext2fs,
ext2fs_open2).
"""

import os
import re
import struct
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import HarnessError, InputError, NodeFailure

# Documentation/filesystems/ext4/super.rst of the kernel
_SUPERBLOCK_AT = 1024
_SUPERBLOCK_SIZE = 1024
_MAGIC = 0xEF53
_STATE_VALID = 0x1
_INCOMPAT_RECOVER = 0x4
_INCOMPAT_64BIT = 0x80

_LARGEST_BLOCK = 6  # 1024 << 6 bytes

MOST_READ = 64 << 20
"""The default limit, in bytes, for reading a file or listing a folder."""

_E2FSCK_USAGE = 16
_E2FSCK_CORRECTED = 1
_DEBUGFS_ENDS = (0, 1)  # 1: the file system could not be opened; its words say why
_LONGEST_WORD = 4000  # bytes: two of them fit into a line
_STAT = re.compile(rb"Type: ([\w ]+?) +Mode: .*? Size: (\d+)\n", re.DOTALL)
_ROW = re.compile(rb"/\d+/\d+/\d+/\d+/([^/\0]+)/\d*/\n")


# With less, a node cannot even log.
_LEAST_FREE, _LEAST_INODES = 1 << 20, 64


@dataclass(frozen=True)
class Superblock:
    """The content of the primary superblock; `block_size` is in bytes, `blocks` is the length of the file system in blocks.

    `free_blocks` includes root's reserve of `reserved_blocks`; `free_inodes` is the number of files that still fit.
    `smallest_group` is the bytes that a last block group needs for itself: resize2fs leaves a shorter rest of a partition
    unused (its adjust_fs_info). `clean`: unmounted in order. `needs_recovery`: the journal has changes that the file system
    does not have yet.
    """

    block_size: int
    blocks: int
    free_blocks: int
    free_inodes: int
    uuid: uuid.UUID
    label: str
    clean: bool
    needs_recovery: bool
    smallest_group: int
    reserved_blocks: int = 0

    @property
    def size(self) -> int:
        """The length of the file system in bytes."""
        return self.block_size * self.blocks

    @property
    def free(self) -> int:
        """The room for more content, in bytes."""
        return self.block_size * self.free_blocks

    @property
    def available(self) -> int:
        """The same as a kubelet sees it: without root's reserve (statvfs(3), f_bavail)."""
        return max(0, self.block_size * (self.free_blocks - self.reserved_blocks))

    def check_room(self, blocks: int, inodes: int) -> None:
        """Raises NodeFailure for a data partition that is full by itself, InputError for one that lacks so much room."""
        wanted = self.block_size * blocks
        if wanted > self.free:
            if self.free < _LEAST_FREE:
                raise NodeFailure(f"the image's data partition is full: {self.free >> 10} KiB are free")
            raise InputError(
                f"The data partition has {self.free >> 20} MiB free and {-(-wanted >> 20)} MiB are wanted: "
                "put less on it, or take an image with a larger one."
            )
        if inodes > self.free_inodes:
            if self.free_inodes < _LEAST_INODES:
                raise NodeFailure(f"the image's data partition has no inodes left: {self.free_inodes} are free")
            raise InputError(
                f"The data partition has room for {self.free_inodes} files and {inodes} are wanted: "
                "put fewer on it, or take an image with a larger one."
            )


def read_superblock(path: Path, offset: int) -> Superblock:
    """Reads the primary superblock (kernel, Documentation/filesystems/ext4/super.rst).

    Raises NodeFailure if there is none, or one that no kernel would mount.
    """
    with path.open("rb") as image:
        # A damaged partition table may name an offset that no file has.
        image.seek(min(offset + _SUPERBLOCK_AT, path.stat().st_size))
        raw = image.read(_SUPERBLOCK_SIZE)
    where = f"{path} has no ext4 file system at byte {offset}"
    if len(raw) < _SUPERBLOCK_SIZE or _u16(raw, 0x38) != _MAGIC:
        raise NodeFailure(f"{where}: its superblock has no magic {_MAGIC:#x}")
    if _u32(raw, 0x18) > _LARGEST_BLOCK:
        raise NodeFailure(f"{where}: its superblock is damaged, with blocks of 2^{10 + _u32(raw, 0x18)} bytes")
    if not _u32(raw, 0x20):
        raise NodeFailure(f"{where}: its superblock is damaged, with no blocks in a group")
    incompat = _u32(raw, 0x60)
    wide = bool(incompat & _INCOMPAT_64BIT)
    needs_recovery = bool(incompat & _INCOMPAT_RECOVER)
    block_size = 1024 << _u32(raw, 0x18)
    blocks = _u32(raw, 0x4) | (_u32(raw, 0x150) << 32 if wide else 0)
    return Superblock(
        block_size=block_size,
        blocks=blocks,
        free_blocks=_u32(raw, 0xC) | (_u32(raw, 0x158) << 32 if wide else 0),
        free_inodes=_u32(raw, 0x10),
        uuid=uuid.UUID(bytes=raw[0x68:0x78]),
        label=raw[0x78:0x88].partition(b"\0")[0].decode(errors="replace"),
        clean=bool(_u16(raw, 0x3A) & _STATE_VALID) and not needs_recovery,
        needs_recovery=needs_recovery,
        reserved_blocks=_u32(raw, 0x8) | (_u32(raw, 0x154) << 32 if wide else 0),
        smallest_group=_smallest_group(raw, block_size, blocks, (wide and _u16(raw, 0xFE)) or 32),
    )


def _smallest_group(raw: bytes, block_size: int, blocks: int, descriptor: int) -> int:
    """Two bitmaps, the inode table, a superblock with its group descriptors and their reserve, and 50 blocks for data."""
    groups = -(-blocks // _u32(raw, 0x20))
    descriptors = -(-groups * descriptor // block_size)
    inode_table = -(-_u32(raw, 0x28) * _u16(raw, 0x58) // block_size)
    return (2 + inode_table + 1 + descriptors + _u16(raw, 0xCE) + 50) * block_size


def check(path: Path, offset: int) -> None:
    """Has e2fsck check the whole file system without writing; raises NodeFailure with its words if it finds a fault.

    It does not look into the journal: if `needs_recovery`, use `replay_journal` on a copy first.
    """
    done = tools.run("e2fsck", "-fn", _device(path, offset), timeout=600, ok=range(_E2FSCK_USAGE))
    if done.returncode != 0:
        raise NodeFailure(f"e2fsck -fn ends with {done.returncode} on {path} at byte {offset}: {tools.words(done)}")


def read_file(path: Path, offset: int, name: str, limit: int = MOST_READ) -> bytes:
    """Returns the content of the regular file `name` (an absolute path in the file system).

    Raises NodeFailure if there is none. Links are followed, except one in the last place of the path, which counts as no file.
    Raises HarnessError if the file is larger than `limit` bytes: a sparse file of terabytes takes only a few blocks.
    """
    # debugfs also cats folders and links, as whatever their blocks contain.
    kind, size = _stat(path, offset, name, "read")
    if kind != b"regular":
        raise NodeFailure(f"{name} in {path} is not a regular file")
    _check_size(path, name, size, limit)
    # Only the echo of the command comes before the content. Content in the inode itself (inline_data) is padded to its room.
    return _ask(path, offset, f"cat {quote(name)}", name, "read")[:size]


def list_folder(path: Path, offset: int, name: str, limit: int = MOST_READ) -> list[str]:
    """Returns the names in the folder `name` (an absolute path in the file system), sorted, decoded by os.fsdecode.

    Raises NodeFailure if there is none, or if its entries are damaged; HarnessError if it is larger than `limit` bytes.
    """
    kind, size = _stat(path, offset, name, "listed")
    if kind != b"directory":
        raise NodeFailure(f"{name} cannot be listed in {path}: it is not a folder")
    _check_size(path, name, size, limit)
    # A row is /inode/mode/uid/gid/name/size/, in which the name may have line feeds; the last line is empty.
    listing = _ask(path, offset, f"ls -p {quote(name)}", name, "listed").removesuffix(b"\n")
    names, at = [], 0
    while at < len(listing):
        row = _ROW.match(listing, at)
        if not row:
            raise NodeFailure(f"{name} cannot be listed in {path}: an entry is damaged: {listing[at : at + 80]!r}")
        names.append(os.fsdecode(row[1]))
        at = row.end()
    return sorted(each for each in names if each not in (".", ".."))


def _stat(path: Path, offset: int, name: str, done: str) -> tuple[bytes, int]:
    """A file's type, as debugfs calls it, and its size in bytes."""
    said = _ask(path, offset, f"stat {quote(name)}", name, done)
    stat = _STAT.search(said)
    if not stat:
        raise NodeFailure(f"{name} cannot be {done} in {path}: its inode is damaged")
    return stat[1], int(stat[2])


def _check_size(path: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise HarnessError(f"{name} in {path} has {size} bytes: no more than {limit} are read. Ask with a larger limit.")


def _ask(path: Path, offset: int, question: str, name: str, done: str) -> bytes:
    """The answer of debugfs to one command; raises NodeFailure if it complains."""
    answer = tools.run("debugfs", "-f", "-", _device(path, offset), input=os.fsencode(f"{question}\n"), ok=_DEBUGFS_ENDS)
    if errors := complaints(answer.stderr):
        raise NodeFailure(f"{name} cannot be {done} in {path}: {errors[0]}")
    return answer.stdout.removeprefix(os.fsencode(f"debugfs: {question}\n"))


def replay_journal(path: Path, offset: int) -> None:
    """Replays the journal, as a mount would; writes to `path`, so give it a copy.

    Raises HarnessError if e2fsck cannot replay it.
    """
    size = read_superblock(path, offset).size
    name = str(path.absolute()).replace(",", ",,")
    window = f"driver=raw,offset={offset},size={size},file.driver=file,file.filename={name}"
    # e2fsck 1.47.0 forgets the offset when it reopens the file system after the replay, so it gets a copy without one.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "filesystem"
        tools.run("qemu-img", "convert", "-O", "raw", "--image-opts", window, copy, timeout=600)
        tools.run("e2fsck", "-y", "-E", "journal_only", copy, timeout=600, ok=(0, _E2FSCK_CORRECTED))
        tools.run("qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", copy, window, timeout=600)


def quote(name: str) -> str:
    """Returns the absolute path `name` as one word of a debugfs command; raises HarnessError if debugfs would misread it."""
    if not name.startswith("/"):
        raise HarnessError(f"{name!r} is no path for debugfs: it must start with '/'")
    return word(name)


def word(text: str) -> str:
    """Returns `text` as one word of a debugfs command, to be sent with os.fsencode.

    Raises HarnessError if debugfs would misread it: a command is one line of less than 8 KiB.
    """
    try:
        doubled = os.fsencode(text.replace('"', '""'))
    except UnicodeEncodeError:
        doubled = b""
    if not 0 < len(doubled) <= _LONGEST_WORD or any(end in doubled for end in (b"\n", b"\r", b"\0")):
        raise HarnessError(
            f"{text[:200]!r} is no path for debugfs: wanted are 1 to {_LONGEST_WORD} bytes, without line feed, CR and NUL"
        )
    return f'"{os.fsdecode(doubled)}"'


def complaints(stderr: bytes) -> list[str]:
    """Returns the complaints of debugfs, a line each: its exit status is 0 even if commands fail."""
    lines = stderr.decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("debugfs 1.")]


def _device(path: Path, offset: int) -> str:
    if "?" in str(path.absolute()):
        raise InputError(f"{path.absolute()} has a '?' in it, which e2fsprogs take for the start of options: rename it")
    return f"{path.absolute()}?offset={offset}"


def _u16(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", raw, at)[0])


def _u32(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", raw, at)[0])
