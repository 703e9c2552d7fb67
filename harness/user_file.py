"""A file that a user names: a regular one that can be read, or an InputError says what it is."""

import stat
from pathlib import Path

from harness.errors import InputError

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
}


def head(file: Path, size: int = 8) -> bytes:
    """Returns the first bytes of a file; raises InputError for one that is not regular, without opening it, or unreadable."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISBLK(mode):
            raise InputError(f"{file} is a block device, no regular file. Copy it to one: dd bs=1M if={file} of=kios.img")
        if not stat.S_ISREG(mode):
            raise InputError(f"{file} is no regular file: it is a {_KINDS.get(stat.S_IFMT(mode), 'special file')}.")
        with file.open("rb") as content:
            return content.read(size)
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise InputError(f"There is no file {file}.") from missing
    except OSError as unreadable:
        raise InputError(f"{file} cannot be read: {unreadable.strerror}.") from unreadable
