"""Which shared libraries a program needs, read from the programs themselves."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from images import command
from images.errors import BuildError

_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(?P<name>[^]]+)\]")
_INTERPRETER = re.compile(r"Requesting program interpreter: (?P<path>[^]]+)\]")
_RUNPATH = re.compile(r"\((?:RUNPATH|RPATH)\)\s+Library (?:runpath|rpath): \[(?P<folders>[^]]+)\]")
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib", "lib64", "usr/lib64")


def install(programs: Iterable[tuple[Path, str]], system: Path, root: Path) -> None:
    """Copies programs to paths under `root`, and every library they need from the unpacked packages in `system`.

    Libraries land in `/lib/x86_64-linux-gnu`, the loader where the programs ask for it.
    """
    wanted = []
    for program, path in programs:
        copy(program, root / path.lstrip("/"))
        wanted.append(program)
    done: set[str] = set()
    while wanted:
        file = wanted.pop()
        for name in _needed(file):
            if name in done:
                continue
            done.add(name)
            library = _find(name, system, file)
            copy(library, root / "lib/x86_64-linux-gnu" / name)
            wanted.append(library)
        interpreter = _interpreter(file)
        if interpreter and interpreter not in done:
            done.add(interpreter)
            copy(_find(Path(interpreter).name, system, file), root / interpreter.lstrip("/"))


def copy(source: Path, target: Path) -> None:
    """Copies a file's bytes, with the mode of a program."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _needed(file: Path) -> list[str]:
    return [m["name"] for m in _NEEDED.finditer(command.capture(["readelf", "--dynamic", "--wide", file]))]


def _runpath(file: Path) -> list[str]:
    """Where a program says that its own libraries are, as systemd's are beside the others' folder."""
    match = _RUNPATH.search(command.capture(["readelf", "--dynamic", "--wide", file]))
    return [folder.lstrip("/") for folder in match["folders"].split(":")] if match else []


def _interpreter(file: Path) -> str | None:
    match = _INTERPRETER.search(command.capture(["readelf", "--program-headers", "--wide", file]))
    return match["path"] if match else None


def _find(name: str, system: Path, wanted_by: Path) -> Path:
    for folder in (*_LIBRARY_FOLDERS, *_runpath(wanted_by)):
        candidate = system / folder / name
        if candidate.exists():
            return candidate.resolve()
    raise BuildError(
        f"{wanted_by.name} needs {name}, which none of its packages has.", "Add the package that has it to the recipe."
    )
