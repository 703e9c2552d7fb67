"""Kernel modules as `depmod` lists them: one folder per kernel version, with a `modules.dep` in it."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

Modules = Mapping[str, frozenset[str]]
"""The names of the modules of each kernel version, as the kernel has them: with underscores."""


def names_in(modules_dep: bytes) -> frozenset[str]:
    """The modules that a `modules.dep` lists."""
    files = (PurePosixPath(line.partition(b":")[0].decode(errors="replace")) for line in modules_dep.splitlines())
    return frozenset(file.name.partition(".ko")[0].replace("-", "_") for file in files)


def in_folder(folder: Path) -> Modules:
    """The modules in a folder `lib/modules`."""
    return {file.parent.name: names_in(file.read_bytes()) for file in sorted(folder.glob("*/modules.dep"))}


def has(modules: Modules, name: str) -> bool:
    """Whether a module of that name, with - or _ in it, is there for any kernel version."""
    return any(name.replace("-", "_") in names for names in modules.values())
