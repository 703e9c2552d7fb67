"""The `images` package, asked as a program: it and the harness share nothing but files."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError


def cache_folder(named: Path | None) -> Path:
    """The cache folder: the one named, else the one that `images` has by itself."""
    return named.absolute() if named else Path(ask("cache"))


def reference_image(cache: Path) -> Path:
    """The folder of the reference node image, built now if it is missing."""
    try:
        return Path(ask("find", "--cache", cache))
    except HarnessError:
        return Path(ask("build", "--cache", cache))


def ask(command: str, *arguments: str | Path) -> str:
    """Runs a command of the `images` package and returns what it prints."""
    argv: Sequence[str] = [sys.executable, "-m", "images", command, *map(str, arguments)]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"`python -m images {command}` failed; it says why above.")
    return done.stdout.strip()
