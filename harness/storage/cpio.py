"""An initramfs: concatenated cpio archives, plain or LZMA (kernel, driver-api/early-userspace/buffer-format.rst).

The file is not trusted: everything that is read has bounds, and the result is files or one InputError.
"""

import io
import lzma
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import InputError
from harness.storage.overlay import Entry, File, Folder, Link, Tree

MOST_UNPACKED = 4 << 30
"""The most bytes to which all LZMA streams of a file may unpack: no node has the memory for more."""
MOST_OF_A_FILE, MOST_WANTED = 4 << 20, 256 << 20
"""The most bytes of a wanted file, and of all of them."""

_LONGEST_NAME = 4096  # with its NUL: the kernel's PATH_MAX
_HEADER = 110
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"
_CHUNK = 1 << 16
_DECODER_MEMORY = 256 << 20
_OTHERS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\x02!L\x18": "LZ4"}
# The inode's number, and the major and minor number of its device.
_Inode = tuple[int, int, int]
_NO_INODE: _Inode = (0, 0, 0)
# How the kernel recognises LZMA: lc=3, lp=0, pb=2, and a dictionary that is a multiple of 256 bytes (lib/decompress.c).
_LZMA = b"\x5d\x00"


def read(file: Path, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, bytes]:
    """Returns the regular files that are `wanted`, by absolute path; of two with the same path the later one, as on the node.

    Raises InputError for what kiOS's kernel of generation B cannot unpack, and for content beyond the bounds above.
    """
    try:
        with file.open("rb") as raw:
            return _all_of(_files(raw, wanted, _Room(MOST_UNPACKED)))
    except OSError as unreadable:
        raise InputError(f"{file} cannot be read: {unreadable.strerror}.") from unreadable
    except UnfitError as unfit:
        raise InputError(f"{file} is no initramfs that kiOS's kernel can unpack: {unfit}.") from unfit


def first(stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, bytes]:
    """As `read`, for the one plain archive at the beginning of a stream, whatever follows it; raises UnfitError."""
    stream.read(len(_MAGICS[0]))
    return _all_of(_entries(stream, wanted))


def archive(files: Tree) -> bytes:
    """Returns a plain archive of files, all owned by root, and the folders that they need.

    The kernel accepts an archive that begins at a multiple of 4 bytes, even after zeros (init/initramfs.c).
    """
    folders = dict.fromkeys(folder for path in files for folder in reversed(path.parents) if folder.name)
    tree = {**{folder: Folder() for folder in folders}, **files}
    parts = [_entry(number, path, entry) for number, (path, entry) in enumerate(tree.items(), start=1)]
    return b"".join([*parts, _newc(0, 0, _TRAILER, b"")])


class UnfitError(Exception):
    """A file is not an initramfs that the kernel can unpack; in words, why."""


@dataclass
class _Room:
    """How many more bytes may be unpacked."""

    left: int

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnfitError(f"it unpacks to more than {MOST_UNPACKED >> 30} GiB")


@dataclass
class _File:
    """The wanted names of a file and its content. Of hard links, only one has the content (kernel, init/initramfs.c,
    maybe_link).
    """

    paths: list[PurePosixPath] = field(default_factory=list)
    content: bytes = b""


class _Decoded(io.RawIOBase):
    """The unpacked content of an LZMA stream; `source` is left at the stream's end."""

    def __init__(self, source: io.BufferedReader, room: _Room) -> None:
        self._source, self._room = source, room
        self._decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_DECODER_MEMORY)

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
            # There is no unused data before the stream's end.
            self._source.seek(-len(self._decoder.unused_data), io.SEEK_CUR)
            self._room.take(len(more))
            if more:
                buffer[: len(more)] = more
                return len(more)
        return 0


def _all_of(files: Iterable[tuple[PurePosixPath, bytes]]) -> dict[PurePosixPath, bytes]:
    """The files by path, the later one of two; each counts with its header, since there may be many that are empty."""
    found: dict[PurePosixPath, bytes] = {}
    size = 0
    for path, content in files:
        found[path] = content
        size += len(content) + _HEADER
        if size > MOST_WANTED:
            raise UnfitError(f"it has more than {MOST_WANTED >> 20} MiB of configuration and of lists")
    return found


def _files(
    stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool], room: _Room, *, inside: bool = False
) -> Iterator[tuple[PurePosixPath, bytes]]:
    while head := _next_head(stream):
        if head in _MAGICS:
            yield from _entries(stream, wanted)
        elif head.startswith(_LZMA) and not inside:
            stream.seek(-len(head), io.SEEK_CUR)
            yield from _files(io.BufferedReader(_Decoded(stream, room), _CHUNK), wanted, room, inside=True)
        else:
            other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
            raise UnfitError(f"it is {other}, not LZMA (xz --format=lzma)" if other else f"a part of it begins with {head!r}")


def _next_head(stream: io.BufferedReader) -> bytes:
    """The next bytes after the zeros that may stand between archives; empty at the end."""
    while ahead := stream.peek(_CHUNK):
        zeros = len(ahead) - len(ahead.lstrip(b"\0"))
        stream.read(zeros)
        if zeros < len(ahead):
            return stream.read(len(_MAGICS[0]))
    return b""


def _entries(stream: io.BufferedReader, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of one archive whose first magic has been read; the stream is left after its trailer."""
    magic = _MAGICS[0]
    linked: dict[_Inode, _File] = {}
    while magic in _MAGICS:
        mode, size, name, inode = _header(stream)
        if name == _TRAILER:
            return
        path = PurePosixPath("/" + name.decode(errors="surrogateescape").lstrip("/"))
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
    """Mode, size, name and inode of the next file; the inode is all zeros for a file with only one name."""
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
