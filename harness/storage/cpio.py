"""An initramfs: cpio archives one behind the other, plain or LZMA (kernel, driver-api/early-userspace/buffer-format.rst).

Read as hostile: what is looked at has bounds, and whatever it holds ends in files or in one InputError.
"""

import io
import lzma
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import InputError
from harness.storage.overlay import Entry, File, Folder, Link, Tree

MOST_UNPACKED = 4 << 30
"""Bytes that one LZMA stream may unpack to: no node has the memory for more."""
MOST_OF_A_FILE = 4 << 20
"""Bytes of a file that is asked for."""

_LONGEST_NAME = 4096  # with its NUL: the kernel's PATH_MAX
_HEADER = 110
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"
_CHUNK = 1 << 16
_DECODER_MEMORY = 256 << 20
_OTHERS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\x02!L\x18": "LZ4"}
# Its number and its device's, of two numbers.
_Inode = tuple[int, int, int]
_NO_INODE: _Inode = (0, 0, 0)
# As the kernel knows LZMA: lc=3, lp=0, pb=2, and a dictionary of whole 256 bytes (lib/decompress.c).
_LZMA = b"\x5d\x00"


def read(file: Path, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, bytes]:
    """Returns the regular files that are `wanted`, by absolute path; of two of one path the later one, as on the node.

    Raises InputError for what kiOS's kernel of generation B cannot unpack, and for more than the bounds above.
    """
    try:
        with file.open("rb") as raw:
            return dict(_files(raw, wanted))
    except OSError as unreadable:
        raise InputError(f"{file} cannot be read: {unreadable.strerror}.") from unreadable
    except UnfitError as unfit:
        raise InputError(f"{file} is no initramfs that kiOS's kernel can unpack: {unfit}.") from unfit


def first(stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, bytes]:
    """As `read`, of the one plain archive that begins a stream, whatever is behind it; raises UnfitError."""
    stream.read(len(_MAGICS[0]))
    return dict(_entries(stream, wanted))


def archive(files: Tree) -> bytes:
    """Returns a plain archive of files, which all belong to root, and the folders that they need.

    The kernel takes it where it begins at a multiple of 4 bytes, behind zeros as well (init/initramfs.c).
    """
    folders = dict.fromkeys(folder for path in files for folder in reversed(path.parents) if folder.name)
    tree = {**{folder: Folder() for folder in folders}, **files}
    parts = [_entry(number, path, entry) for number, (path, entry) in enumerate(tree.items(), start=1)]
    return b"".join([*parts, _newc(0, 0, _TRAILER, b"")])


class UnfitError(Exception):
    """Why it is no initramfs."""


@dataclass
class _File:
    """What is wanted of a file. Of several names one comes with the content, and the others with none (kernel,
    init/initramfs.c, maybe_link).
    """

    paths: list[PurePosixPath] = field(default_factory=list)
    content: bytes = b""


class _Decoded(io.RawIOBase):
    """What an LZMA stream unpacks to; `source` is left directly behind it."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_DECODER_MEMORY)
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decoder.eof:
            data = self._source.read(_CHUNK) if self._decoder.needs_input else b""
            if not data and self._decoder.needs_input:
                raise UnfitError("its LZMA stream ends in the middle")
            try:
                more = self._decoder.decompress(data, len(buffer))
            except (lzma.LZMAError, MemoryError) as damaged:
                raise UnfitError(f"its LZMA stream is damaged ({damaged})") from damaged
            # None before the stream's end.
            self._source.seek(-len(self._decoder.unused_data), io.SEEK_CUR)
            self._total += len(more)
            if self._total > MOST_UNPACKED:
                raise UnfitError(f"it unpacks to more than {MOST_UNPACKED >> 30} GiB")
            if more:
                buffer[: len(more)] = more
                return len(more)
        return 0


def _files(
    stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool], *, inside: bool = False
) -> Iterator[tuple[PurePosixPath, bytes]]:
    while head := _next_head(stream):
        if head in _MAGICS:
            yield from _entries(stream, wanted)
        elif head.startswith(_LZMA) and not inside:
            stream.seek(-len(head), io.SEEK_CUR)
            yield from _files(io.BufferedReader(_Decoded(stream), _CHUNK), wanted, inside=True)
        else:
            other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
            raise UnfitError(f"it is {other}, not LZMA (xz --format=lzma)" if other else f"a part of it begins with {head!r}")


def _next_head(stream: io.BufferedReader) -> bytes:
    """The first bytes behind any zeros, which are between two archives; none at the end."""
    while ahead := stream.peek(_CHUNK):
        zeros = len(ahead) - len(ahead.lstrip(b"\0"))
        stream.read(zeros)
        if zeros < len(ahead):
            return stream.read(len(_MAGICS[0]))
    return b""


def _entries(stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """One archive's files, from behind its first magic; the stream is left behind its trailer."""
    magic = _MAGICS[0]
    linked: dict[_Inode, _File] = {}
    while magic in _MAGICS:
        mode, size, name, inode = _header(stream)
        if name == _TRAILER:
            return
        path = PurePosixPath("/", *(part for part in PurePosixPath(name.decode(errors="surrogateescape")).parts if part != "/"))
        file = linked.get(inode) or _File()
        if stat.S_ISREG(mode) and wanted(path):
            file.paths.append(path)
            if any(inode):
                linked[inode] = file
        if size > MOST_OF_A_FILE and file.paths:
            raise UnfitError(f"its {path} has {size} bytes, where no more than {MOST_OF_A_FILE} are read")
        if size and file.paths:
            file.content = _exactly(stream, size)
        else:
            _leave_out(stream, size)
        yield from ((each, file.content) for each in file.paths)
        _leave_out(stream, -size % 4)
        magic = _exactly(stream, len(magic))
    raise UnfitError(f"where a file of its archive should begin is {magic!r}")


def _header(stream: io.BufferedReader) -> tuple[int, int, bytes, _Inode]:
    """Mode, size, name and inode of the file that comes next; that of a file with one name is nothing but zeros."""
    text = _exactly(stream, _HEADER - len(_MAGICS[0]))
    try:
        fields = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    except ValueError as damaged:
        raise UnfitError("a header of its archive is damaged") from damaged
    mode, links, size, length = fields[1], fields[4], fields[6], fields[11]
    inode = (fields[0], fields[7], fields[8]) if links > 1 and stat.S_ISREG(mode) else _NO_INODE
    if not 1 <= length <= _LONGEST_NAME:
        raise UnfitError(f"a name in its archive has {length} bytes")
    name = _exactly(stream, length).rstrip(b"\0")
    _leave_out(stream, -(_HEADER + length) % 4)
    return mode, size, name, inode


def _exactly(stream: io.BufferedReader, size: int) -> bytes:
    if len(content := stream.read(size)) < size:
        raise UnfitError("its archive ends in the middle")
    return content


def _leave_out(stream: io.BufferedReader, size: int) -> None:
    while size:
        size -= len(_exactly(stream, min(size, _CHUNK)))


def _entry(number: int, path: PurePosixPath, entry: Entry) -> bytes:
    name = str(path).lstrip("/").encode(errors="surrogateescape")
    match entry:
        case bytes():
            return _newc(number, stat.S_IFREG | 0o644, name, entry)
        case File(content, mode):
            return _newc(number, stat.S_IFREG | mode, name, content)
        case Link(target):
            return _newc(number, stat.S_IFLNK | 0o777, name, target.encode(errors="surrogateescape"))
        case Folder(mode):
            return _newc(number, stat.S_IFDIR | mode, name, b"")


def _newc(number: int, mode: int, name: bytes, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = _MAGICS[0] + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
