"""A disk for one run over a shared image: what the run writes goes to a qcow2 file of its own."""

import errno
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import space, tools
from harness.errors import HarnessError, InputError, NodeFailure
from harness.storage import ext4

_CLUSTER = 64 << 10  # the cluster size of qemu-img; for a smaller write, qemu-io would have to read the base
_CHUNK = 1 << 20
_LONG = 600.0
# QEMU's docs/interop/qcow2.rst: magic, version, backing file (place, length), cluster bits, size, encryption, ...,
# incompatible features at byte 72.
_QCOW2_HEADER = struct.Struct(">4sIQIIQI36xQ")
_HEAD = 104

_STAT = re.compile(rb"Type: (\w+) +Mode: +(\d+).*?User: +(\d+) +Group: +(\d+).*? Size: (\d+)\n", re.DOTALL)
_FAST_LINK = re.compile(rb'^Fast link dest: "(.*)"$', re.MULTILINE)
_LONGEST_FAST_LINK = 59  # a longer target has a block of its own (kernel, Documentation/filesystems/ext4/ifork.rst)
_DIRECTORY_ENTRY = 12  # bytes of one beside its name, at most (Documentation/filesystems/ext4/directory.rst)

_Range = tuple[int, int]


@dataclass(frozen=True)
class File:
    """A regular file; `mode` holds its permission bits."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    """A symbolic link; `target` may be relative, and need not exist."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder with the permission bits `mode`: for one that stays empty, or is not 0755."""

    mode: int = 0o755


Entry = bytes | File | Link | Folder
Tree = Mapping[PurePosixPath, Entry]
"""Files for a file system, by absolute path; bytes are a file of mode 0644."""

_Node = File | Link | Folder


def create(base: Path, overlay: Path, size: int) -> None:
    """Makes `overlay`, a qcow2 disk of `size` bytes that reads as the raw image `base` and, beyond its end, as zeros.

    Raises InputError if `size` is smaller than `base`: a shortened disk would lose its backup partition table.
    """
    base_size = base.stat().st_size
    if size < base_size:
        raise InputError(f"a disk of {size} bytes cannot hold {base} of {base_size} bytes: ask for a larger one")
    backing = ("-F", "raw", "-b", base.resolve())
    with space.named(overlay.parent):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, overlay.absolute(), str(size))


def stack(frozen: Path, overlay: Path) -> None:
    """Makes `overlay`, a qcow2 disk that reads as the qcow2 disk `frozen` and keeps what is written to it."""
    backing = ("-F", "qcow2", "-b", frozen.resolve())
    with space.named(overlay.parent):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, overlay.absolute())


def rebase(overlay: Path, base: Path) -> None:
    """Rebases `overlay` from other overlays to the raw image `base` alone; it reads the same as before."""
    with space.named(overlay.parent):
        tools.run(
            "qemu-img", "rebase", "-q", "-f", "qcow2", "-F", "raw", "-b", base.resolve(), overlay.absolute(), timeout=_LONG
        )


def adopt(overlay: Path, base: Path, size: int) -> None:
    """Makes the raw image `base` the backing file of a qcow2 file from elsewhere, whatever it names itself.

    Raises InputError for one that is not of `size` bytes, is encrypted, keeps its data in another file, or has any other
    feature that overlays here never have: QEMU would open whatever such a file names.
    """
    try:
        header = _QCOW2_HEADER.unpack_from(_head_of(overlay))
    except struct.error as short:
        raise InputError("its disk is no qcow2 file.") from short
    magic, version, _, _, cluster_bits, there, crypt, incompatible = header
    if (magic, version) != (b"QFI\xfb", 3) or not 9 <= cluster_bits <= 21:
        raise InputError("its disk is no qcow2 file of version 3.")
    if crypt or incompatible:
        raise InputError("its disk is a qcow2 file with features that no node's disk has.")
    if there != size:
        raise InputError(f"its disk is one of {there} bytes, and its machine has one of {size}.")
    tools.run("qemu-img", "rebase", "-u", "-q", "-f", "qcow2", "-F", "raw", "-b", base.resolve(), overlay.absolute())


def inject(
    overlay: Path,
    base: Path,
    partition_offset: int,
    partition_size: int,
    files: Tree,
    scratch: Path,
) -> None:
    """Puts `files` on an ext4 partition of a disk that is not in use.

    They belong to root, replace files and links of the same name, and get the folders that they need. The partition is a range
    of `base` in bytes; `base` is only read. The result is made from `base` alone, so an overlay can take only one injection,
    before its first boot. `scratch` is the path of a folder that is made for the work, and removed. Raises as
    `Superblock.check_room` if there is no room, and HarnessError if a path is bad or cannot be written.
    """
    for path in files:
        _check_path(path)

    def write(partition: Path) -> None:
        _recover(partition)
        _write_files(partition, files)

    change(overlay, base, partition_offset, partition_size, write, scratch)


def change(
    overlay: Path,
    base: Path,
    partition_offset: int,
    partition_size: int,
    edit: Callable[[Path], None],
    scratch: Path,
) -> None:
    """Calls `edit` with a copy of a partition of `base`, alone in a folder, and writes what it changed to `overlay`.

    As with `inject`: from `base` alone, and once for each partition. Raises HarnessError if `base` ends before the partition.
    """
    if base.stat().st_size < partition_offset + partition_size:
        raise HarnessError(f"{base} ends before its partition of {partition_size} bytes at {partition_offset}")
    try:
        scratch.mkdir(parents=True)
    except FileExistsError as error:
        raise HarnessError(f"{scratch} is there already: remove it, or name another place for scratch files") from error
    try:
        partition = scratch / "partition"
        with (
            space.named(overlay.parent),
            base.open("rb", buffering=0) as source,
            partition.open("w+b", buffering=0) as copy,
        ):
            _copy(source.fileno(), partition_offset, partition_size, copy.fileno())
            edit(partition)
            changed = list(_changed(source.fileno(), partition_offset, copy.fileno(), partition_size))
            _patch(overlay, partition_offset, copy.fileno(), changed, scratch)
    finally:
        shutil.rmtree(scratch)


def flatten(overlay: Path, raw: Path) -> None:
    """Writes the content of `overlay` to the sparse raw image `raw`; the time depends on the data, not on the size."""
    with space.named(raw.parent):
        tools.run("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", overlay.absolute(), raw.absolute(), timeout=600)


def flatten_as_it_is(overlay: Path, raw: Path) -> None:
    """As `flatten`, for a disk to which a QEMU may be writing: the result is as after a power cut, or worse."""
    with space.named(raw.parent):
        command = ("qemu-img", "convert", "-U", "-q", "-f", "qcow2", "-O", "raw")
        tools.run(*command, overlay.absolute(), raw.absolute(), timeout=_LONG)


def _head_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(_HEAD)


def _check_path(path: PurePosixPath) -> None:
    if path.root != "/" or not path.name or ".." in path.parts:
        raise HarnessError(f"{str(path)!r} cannot be injected: a file's path starts with one '/' and has no '..'")
    ext4.quote(str(path))


def _recover(partition: Path) -> None:
    """Replays a pending journal: debugfs does not, and the node would replay it over what debugfs wrote."""
    try:
        superblock = ext4.read_superblock(partition, 0)
    except NodeFailure as error:
        raise HarnessError(f"files can be put on ext4 only: {error}") from error
    if superblock.needs_recovery:
        ext4.replay_journal(partition, 0)


def _write_files(partition: Path, files: Tree) -> None:
    """Writes `files` with one run of debugfs, in the folder of `partition`, and reads each of them back."""
    folder = partition.parent
    nodes: dict[PurePosixPath, _Node] = {
        path: File(entry) if isinstance(entry, bytes) else entry for path, entry in files.items()
    }
    folders = _folders(nodes)
    _check_room(ext4.read_superblock(partition, 0), nodes, folders)
    there = _kinds(partition, [*folders, *nodes])
    _check_kinds(nodes, folders, there)
    commands = [f"mkdir {ext4.quote(str(path))}" for path in folders if path not in there]
    commands += [f"rm {ext4.quote(str(path))}" for path in nodes if path in there and path not in folders]
    for number, (path, node) in enumerate(nodes.items()):
        if isinstance(node, File):
            (folder / f"in{number}").write_bytes(node.content)
        commands += _commands(number, ext4.quote(str(path)), node)
    done = _debugfs(partition, commands, "-w")
    if errors := ext4.complaints(done.stderr):
        raise HarnessError(f"debugfs could not inject the files: {'; '.join(errors[:3])}")
    for number, ((path, node), stat) in enumerate(zip(nodes.items(), _stats(done.stdout), strict=True)):
        _check_written(path, node, stat, folder / f"out{number}")


def _folders(nodes: Mapping[PurePosixPath, _Node]) -> Sequence[PurePosixPath]:
    """The folders among the `nodes` and those that the nodes need, each after its parent."""
    lines = [[path, *path.parents] if isinstance(node, Folder) else path.parents for path, node in nodes.items()]
    return list(dict.fromkeys(folder for line in lines for folder in reversed(line) if folder.name))


def _check_room(superblock: ext4.Superblock, nodes: Mapping[PurePosixPath, _Node], folders: Sequence[PurePosixPath]) -> None:
    """See `Superblock.check_room`; files that are replaced and folders that exist are not counted as room."""
    block = superblock.block_size
    entries = dict.fromkeys(folders, 0)
    for path in {*nodes, *folders}:
        if path.parent in entries:
            entries[path.parent] += len(os.fsencode(path.name)) + _DIRECTORY_ENTRY
    blocks = sum(-(-len(_blocks_of(node)) // block) for node in nodes.values())
    blocks += sum(size // block + 1 for size in entries.values())
    superblock.check_room(blocks, len({*nodes, *folders}))


def _kinds(partition: Path, paths: Sequence[PurePosixPath]) -> Mapping[PurePosixPath, bytes]:
    """The types, in debugfs's words, of those `paths` that exist already.

    They have to be asked for first: mkdir of debugfs 1.47 leaves a stray inode if the folder exists.
    """
    done = _debugfs(partition, [f"stat {ext4.quote(str(path))}" for path in paths])
    found = ((path, _STAT.search(stat)) for path, stat in zip(paths, _stats(done.stdout), strict=True))
    return {path: stat[1] for path, stat in found if stat}


def _check_kinds(
    nodes: Mapping[PurePosixPath, _Node], folders: Sequence[PurePosixPath], there: Mapping[PurePosixPath, bytes]
) -> None:
    for path in folders:
        if isinstance(nodes.get(path, Folder()), (File, Link)):
            raise HarnessError(f"{path} cannot be injected as it is: other files are to lie under it")
        # debugfs does not follow a link to the folder that it writes to.
        if there.get(path, b"directory") != b"directory":
            raise HarnessError(f"{path} cannot be a folder: it is a {there[path].decode()} in the file system")
    for path in nodes.keys() - set(folders):
        if there.get(path) == b"directory":
            raise HarnessError(f"{path} cannot be injected: it is a folder in the file system")


def _debugfs(partition: Path, commands: Iterable[str], *options: str) -> subprocess.CompletedProcess[bytes]:
    script = os.fsencode("".join(f"{command}\n" for command in commands))
    return tools.run("debugfs", *options, "-f", "-", partition.name, input=script, cwd=partition.parent)


def _stats(said: bytes) -> Sequence[bytes]:
    """The answers of debugfs to each `stat`, in order: each command is echoed before its answer."""
    return [stat.partition(b"\ndebugfs: ")[0] for stat in (b"\n" + said).split(b"\ndebugfs: stat ")[1:]]


def _commands(number: int, name: str, node: _Node) -> Sequence[str]:
    """The commands that make one node and read it back: files from `in<number>`, and what has blocks to `out<number>`."""
    _, mode = _type_and_mode(node)
    # What the new inode inherits from the source differs between versions of debugfs.
    owned = [f"sif {name} mode 0{mode:o}", f"sif {name} uid 0", f"sif {name} gid 0"]
    read = [f"dump {name} out{number}"] if isinstance(node, File) or _blocks_of(node) else []
    return [*_making(number, name, node), *owned, *read, f"stat {name}"]


def _making(number: int, name: str, node: _Node) -> Sequence[str]:
    match node:
        case File():
            return [f"write in{number} {name}"]
        case Link():
            return [f"symlink {name} {ext4.word(node.target)}"]
        case Folder():
            return []


def _check_written(path: PurePosixPath, node: _Node, stat: bytes, dumped: Path) -> None:
    kind, mode = _type_and_mode(node)
    found = _STAT.search(stat)
    if not found or (found[1], int(found[2], 8), int(found[3]), int(found[4])) != (kind, mode & 0o7777, 0, 0):
        said = " ".join(stat.decode(errors="replace").split())
        raise HarnessError(f"{path} reads back from the file system as another thing than was written: {said:.200}")
    link = _FAST_LINK.search(stat)
    # Content in the inode itself (inline_data) is padded to the room that there is for it.
    read = link[1] if link else dumped.read_bytes()[: int(found[5])] if dumped.exists() else b""
    if read != (os.fsencode(node.target) if isinstance(node, Link) else _blocks_of(node)):
        raise HarnessError(f"{path} reads back from the file system with another content than was written")


def _type_and_mode(node: _Node) -> tuple[bytes, int]:
    """debugfs's word for a node's type, and the mode of its inode, which includes the type (inode(7))."""
    match node:
        case File():
            return b"regular", 0o100000 | node.mode
        case Link():
            return b"symlink", 0o120777
        case Folder():
            return b"directory", 0o040000 | node.mode


def _blocks_of(node: _Node) -> bytes:
    """What a node stores in blocks of its own, without a folder's entries."""
    match node:
        case File():
            return node.content
        case Link():
            target = os.fsencode(node.target)
            return target if len(target) > _LONGEST_FAST_LINK else b""
        case Folder():
            return b""


def _changed(base: int, base_offset: int, copy: int, size: int) -> Iterator[_Range]:
    """Yields the ranges of whole clusters in which `copy` differs from `base` at `base_offset`; adjacent ones are joined."""
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
        # qemu-io writes from the start of a file, and its commands cannot quote a path.
        with (folder / f"patch{number}").open("wb", buffering=0) as patch:
            _copy(copy, start, end - start, patch.fileno())
        commands += ["-c", f"write -q -s patch{number} {offset + start} {end - start}"]
    if commands:
        # Not flushed to the medium: the page cache is enough for the QEMU of this run.
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
