"""A disk for one run over an image that is shared by all: what the run writes goes to a qcow2 file of its own."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from harness import ext4, tools
from harness.errors import HarnessError, NodeFailure

_CLUSTER = 64 << 10  # what qemu-img makes a qcow2 file of; a smaller write would have qemu-io read the base
_CHUNK = 1 << 20

# What debugfs complains of where there is nothing to replace, or a folder is there already.
_EXPECTED = (
    "rm: File not found by ext2_lookup while trying to resolve filename",
    "ext2fs_mkdir: Ext2 directory already exists",
    "mkdir: Ext2 directory already exists",
)

_Range = tuple[int, int]


def create(base: Path, overlay: Path, size: int) -> None:
    """Makes `overlay`, a qcow2 disk of `size` bytes that reads as the raw image `base` and, beyond its end, as zeros.

    HarnessError if `size` is smaller than `base`: a disk that loses its end loses the backup partition table.
    """
    base_size = base.stat().st_size
    if size < base_size:
        raise HarnessError(f"a disk of {size} bytes cannot hold {base} of {base_size} bytes: ask for a larger one")
    backing = ("-F", "raw", "-b", base.resolve())
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, overlay.absolute(), str(size))


def stack(frozen: Path, overlay: Path) -> None:
    """Makes `overlay`, a qcow2 disk that reads as the qcow2 disk `frozen` and keeps what is written to it."""
    backing = ("-F", "qcow2", "-b", frozen.resolve())
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, overlay.absolute())


def inject(
    overlay: Path,
    base: Path,
    partition_offset: int,
    partition_size: int,
    files: Mapping[PurePosixPath, bytes],
    scratch: Path,
) -> None:
    """Puts `files` (absolute path in the partition: content) on an ext4 partition of a disk that is not running.

    They belong to root with mode 0644, take the place of files of that name, and get the folders they need. The
    partition is the range of `base` in bytes; `base` is only read. The result depends on `base` alone, so that one
    overlay can take one injection only, and before its first boot. `scratch` is a path where a folder for the work can
    be made; it is gone afterwards. HarnessError if a path is bad or the file system does not take a file.
    """
    for path in files:
        _check_path(path)
    if base.stat().st_size < partition_offset + partition_size:
        raise HarnessError(f"{base} ends before its partition of {partition_size} bytes at {partition_offset}")
    try:
        scratch.mkdir(parents=True)
    except FileExistsError as error:
        raise HarnessError(f"{scratch} is there already: remove it, or name another place for scratch files") from error
    try:
        partition = scratch / "partition"
        with base.open("rb", buffering=0) as source, partition.open("w+b", buffering=0) as copy:
            _copy(source.fileno(), partition_offset, partition_size, copy.fileno())
            _recover(partition)
            _write_files(partition, files)
            changed = list(_changed(source.fileno(), partition_offset, copy.fileno(), partition_size))
            _patch(overlay, partition_offset, copy.fileno(), changed, scratch)
    finally:
        shutil.rmtree(scratch)


def flatten(overlay: Path, raw: Path) -> None:
    """Writes what `overlay` reads as to the sparse raw image `raw`; takes as long as there is data, not as size."""
    tools.run("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", overlay.absolute(), raw.absolute(), timeout=600)


def _check_path(path: PurePosixPath) -> None:
    if path.root != "/" or not path.name or ".." in path.parts:
        raise HarnessError(f"{str(path)!r} cannot be injected: a file's path starts with one '/' and has no '..'")
    ext4.quote(str(path))


def _recover(partition: Path) -> None:
    """Replays a journal that awaits it: debugfs does not, and the node would replay it over what debugfs wrote."""
    try:
        superblock = ext4.read_superblock(partition, 0)
    except NodeFailure as error:
        raise HarnessError(f"files can be put on ext4 only: {error}") from error
    if superblock.needs_recovery:
        ext4.replay_journal(partition, 0)


def _write_files(partition: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Writes `files` with one run of debugfs, in the folder of `partition`, and reads each of them back."""
    folder = partition.parent
    parents = dict.fromkeys(parent for path in files for parent in reversed(path.parents) if parent.name)
    commands = [f"mkdir {ext4.quote(str(parent))}" for parent in parents]
    for number, (path, content) in enumerate(files.items()):
        (folder / f"in{number}").write_bytes(content)
        name = ext4.quote(str(path))
        commands += [
            f"rm {name}",
            f"write in{number} {name}",
            # What the new inode gets from the source differs between the versions of debugfs.
            f"sif {name} mode 0100644",
            f"sif {name} uid 0",
            f"sif {name} gid 0",
            f"dump {name} out{number}",
        ]
    script = "".join(f"{command}\n" for command in commands).encode()
    done = tools.run("debugfs", "-w", "-f", "-", partition.name, input=script, cwd=folder)
    errors = [line for line in ext4.complaints(done.stderr) if not line.startswith(_EXPECTED)]
    if errors:
        raise HarnessError(f"debugfs could not inject the files: {'; '.join(errors)}")
    for number, (path, content) in enumerate(files.items()):
        if (folder / f"out{number}").read_bytes() != content:
            raise HarnessError(f"{path} reads back from the file system with another content than was written")


def _changed(base: int, base_offset: int, copy: int, size: int) -> Iterator[_Range]:
    """Yields the ranges of whole clusters in which `copy` differs from `base` at `base_offset`; neighbours are one."""
    start = end = 0
    for cluster in _changed_clusters(base, base_offset, copy, size):
        if cluster != end:
            if start < end:
                yield start, end
            start = cluster
        end = min(cluster + _CLUSTER, size)
    if start < end:
        yield start, end


def _changed_clusters(base: int, base_offset: int, copy: int, size: int) -> Iterator[int]:
    data = [(start - base_offset, end - base_offset) for start, end in _data(base, base_offset, base_offset + size)]
    data += _data(copy, 0, size)
    for chunk in sorted({chunk for start, end in data for chunk in range(start // _CHUNK, -(-end // _CHUNK))}):
        start = chunk * _CHUNK
        length = min(_CHUNK, size - start)
        old, new = os.pread(base, length, base_offset + start), os.pread(copy, length, start)
        if old != new:
            for at in range(0, length, _CLUSTER):
                if old[at : at + _CLUSTER] != new[at : at + _CLUSTER]:
                    yield start + at


def _patch(overlay: Path, offset: int, copy: int, changed: Iterable[_Range], folder: Path) -> None:
    """Writes the `changed` ranges of `copy` to `overlay`, each `offset` bytes further, with one run of qemu-io."""
    commands: list[str] = []
    for number, (start, end) in enumerate(changed):
        # qemu-io takes what it writes from the start of a file, and its commands know no quotes for a path.
        with (folder / f"patch{number}").open("wb", buffering=0) as patch:
            _copy(copy, start, end - start, patch.fileno())
        commands += ["-c", f"write -q -s patch{number} {offset + start} {end - start}"]
    if commands:
        # No flush to the medium: the page cache is all that the QEMU of this run needs.
        done = tools.run("qemu-io", "-f", "qcow2", "-t", "unsafe", *commands, overlay.absolute(), cwd=folder)
        if said := tools.words(done):
            raise HarnessError(f"qemu-io could not write to {overlay}: {said}")


def _copy(source: int, offset: int, size: int, target: int) -> None:
    """Makes the empty file `target` a copy of a range of `source`; holes stay holes."""
    os.truncate(target, size)
    for start, end in _data(source, offset, offset + size):
        os.lseek(target, start - offset, os.SEEK_SET)
        while start < end:
            sent = os.sendfile(target, source, start, end - start)
            if sent == 0:
                raise HarnessError("the base image became shorter while it was copied: let nothing write to it")
            start += sent


def _data(file: int, start: int, end: int) -> Iterator[_Range]:
    """Yields the ranges between `start` and `end` that are not holes (lseek(2), SEEK_DATA)."""
    while start < end:
        try:
            first = os.lseek(file, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if first >= end:
            return
        start = min(os.lseek(file, first, os.SEEK_HOLE), end)
        yield first, start
