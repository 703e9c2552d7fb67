"""Tars from elsewhere, which may have been made to harm their reader."""

import tarfile
from collections.abc import Iterator

from images.errors import Flaw


def listed(tar: tarfile.TarFile, most: int) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar; raises Flaw if there are more than `most`, or one begins before the end of the one before.

    Python's reader goes back to what it has read already where a length is negative (CVE-2025-8194).
    """
    begin = -1
    for count, entry in enumerate(tar):
        if count == most:
            raise Flaw(f"it has more than {most} entries")
        if entry.size < 0 or entry.offset <= begin:
            raise Flaw(f"the length of its entry {entry.name!r} is negative")
        begin = entry.offset
        yield entry
