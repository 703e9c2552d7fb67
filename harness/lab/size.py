"""Sizes as people write them: `512M`, `4G`."""

import re

from harness.errors import InputError


def size_in_bytes(size: int | str) -> int:
    """The bytes of `512M`, `2G` or a plain number; raises InputError for anything else."""
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"([0-9]{1,20})([KMGT]?)", str(size).upper())
    if match is None:
        raise InputError(f"{str(size)[:40]!r} is no size: write bytes, or a number with K, M, G or T behind it.")
    return int(match[1]) << (10 * " KMGT".index(match[2] or " "))
