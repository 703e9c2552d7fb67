"""An ext4 file system inside a raw image, told from the outside: no mount, no root, nothing of it trusted.

`offset` is where the file system starts in the image, in bytes. e2fsprogs takes it as `image?offset=N` (libext2fs,
ext2fs_open2).
"""

import struct
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import HarnessError, NodeFailure

# Documentation/filesystems/ext4/super.rst of the kernel
_SUPERBLOCK_AT = 1024
_SUPERBLOCK_SIZE = 1024
_MAGIC = 0xEF53
_STATE_VALID = 0x1
_INCOMPAT_RECOVER = 0x4
_INCOMPAT_64BIT = 0x80

_E2FSCK_USAGE = 16
_E2FSCK_CORRECTED = 1
_DEBUGFS_ENDS = (0, 1)  # 1: the file system could not be opened; its words say why


@dataclass(frozen=True)
class Superblock:
    """What the primary superblock says; `block_size` in bytes, `blocks` the length of the file system in blocks.

    `free_blocks` counts root's reserve too, `free_inodes` is how many files more it can hold.
    `smallest_group`: bytes that a last group needs for itself; a shorter rest of a partition cannot be filled, and resize2fs
    leaves it (its adjust_fs_info). `clean`: unmounted in order. `needs_recovery`: the journal holds what the file system
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

    @property
    def size(self) -> int:
        """The length of the file system in bytes."""
        return self.block_size * self.blocks

    @property
    def free(self) -> int:
        """The room for more content, in bytes."""
        return self.block_size * self.free_blocks


def read_superblock(path: Path, offset: int) -> Superblock:
    """Reads the primary superblock (kernel, Documentation/filesystems/ext4/super.rst); NodeFailure if there is none."""
    with path.open("rb") as image:
        image.seek(offset + _SUPERBLOCK_AT)
        raw = image.read(_SUPERBLOCK_SIZE)
    if len(raw) < _SUPERBLOCK_SIZE or _u16(raw, 0x38) != _MAGIC:
        raise NodeFailure(f"{path} has no ext4 file system at byte {offset}: its superblock has no magic {_MAGIC:#x}")
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
        smallest_group=_smallest_group(raw, block_size, blocks),
    )


def _smallest_group(raw: bytes, block_size: int, blocks: int) -> int:
    """Two bitmaps, the inode table, a superblock with its group descriptors and their reserve, and 50 blocks for data."""
    groups = -(-blocks // _u32(raw, 0x20))
    descriptors = -(-groups * (_u16(raw, 0xFE) or 32) // block_size)
    inode_table = -(-_u32(raw, 0x28) * _u16(raw, 0x58) // block_size)
    return (2 + inode_table + 1 + descriptors + _u16(raw, 0xCE) + 50) * block_size


def check(path: Path, offset: int) -> None:
    """Lets e2fsck look over the whole file system, writing nothing; NodeFailure with its words if it finds a fault.

    What a journal still holds is not looked into: `replay_journal` on a copy comes first if `needs_recovery`.
    """
    done = tools.run("e2fsck", "-fn", _device(path, offset), timeout=600, ok=range(_E2FSCK_USAGE))
    if done.returncode != 0:
        raise NodeFailure(f"e2fsck -fn ends with {done.returncode} on {path} at byte {offset}: {tools.words(done)}")


def read_file(path: Path, offset: int, name: str) -> bytes:
    """Returns the content of the regular file `name` (absolute in the file system).

    NodeFailure if there is none. A symbolic link is none either: only links on the way to the last name are followed.
    """
    cat = f"cat {quote(name)}"
    # debugfs cats folders and links too, as what their blocks happen to hold: `stat` tells them from files.
    script = f"stat {quote(name)}\n{cat}\n".encode()
    done = tools.run("debugfs", "-f", "-", _device(path, offset), input=script, ok=_DEBUGFS_ENDS)
    stat, _, content = done.stdout.partition(f"debugfs: {cat}\n".encode())
    kind = stat.partition(b"Mode:")[0]
    if b"Type: " in kind and b"Type: regular" not in kind:
        raise NodeFailure(f"{name} in {path} is not a regular file")
    if errors := complaints(done.stderr):
        raise NodeFailure(f"{name} cannot be read in {path}: {errors[0]}")
    return content


def list_folder(path: Path, offset: int, name: str) -> list[str]:
    """Returns the names in the folder `name` (absolute in the file system), sorted; NodeFailure if there is none."""
    done = tools.run("debugfs", "-R", f"ls -p {quote(name)}", _device(path, offset), ok=_DEBUGFS_ENDS)
    if errors := complaints(done.stderr):
        raise NodeFailure(f"{name} cannot be listed in {path}: {errors[0]}")
    # A line is /inode/mode/uid/gid/name/size/
    rows = [line.split("/") for line in done.stdout.decode(errors="surrogateescape").splitlines() if line]
    return sorted(row[5] for row in rows if row[5] not in (".", ".."))


def replay_journal(path: Path, offset: int) -> None:
    """Brings the file system up to its journal, as a mount would; writes to `path`, so hand it a copy.

    HarnessError if e2fsck cannot replay it.
    """
    size = read_superblock(path, offset).size
    name = str(path.absolute()).replace(",", ",,")
    window = f"driver=raw,offset={offset},size={size},file.driver=file,file.filename={name}"
    # e2fsck 1.47.0 forgets the offset when it opens the file system again after the replay: it gets it at byte 0.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "filesystem"
        tools.run("qemu-img", "convert", "-O", "raw", "--image-opts", window, copy, timeout=600)
        tools.run("e2fsck", "-y", "-E", "journal_only", copy, timeout=600, ok=(0, _E2FSCK_CORRECTED))
        tools.run("qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", copy, window, timeout=600)


def quote(name: str) -> str:
    """Returns the absolute path `name` as one word of a debugfs command; HarnessError where debugfs would misread it."""
    if not name.startswith("/"):
        raise HarnessError(f"{name!r} is no path for debugfs: it must start with '/'")
    return word(name)


def word(text: str) -> str:
    """Returns `text` as one word of a debugfs command; HarnessError where debugfs would misread it."""
    if not text or '"' in text or not text.isprintable():
        raise HarnessError(f"{text!r} is no path for debugfs: it must be printable, without '\"', and not empty")
    return f'"{text}"'


def complaints(stderr: bytes) -> list[str]:
    """Returns what debugfs complains of, a line each: it ends with status 0 whether its commands failed or not."""
    lines = stderr.decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("debugfs 1.")]


def _device(path: Path, offset: int) -> str:
    return f"{path.absolute()}?offset={offset}"


def _u16(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", raw, at)[0])


def _u32(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", raw, at)[0])
