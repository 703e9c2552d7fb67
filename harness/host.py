"""What this machine has for nodes: QEMU, firmware, a proven accelerator, the cache, and the reference image in it."""

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import accelerator, admission, firmware, qemu
from harness.admission import Admission
from harness.errors import HarnessError
from harness.node import Host
from harness.screen import Font


def cache_folder(named: Path | None) -> Path:
    """The cache folder: the one named, else the one that `images` has by itself."""
    return named.absolute() if named else Path(ask_images("cache"))


def find(program: str | None, wish: str, cache: Path) -> Host:
    """Finds what runs nodes here and proves it; see `qemu.find`, `firmware.find` and `accelerator.choose` for the errors."""
    found = qemu.find(program, cache_folder(None) / "qemu")
    code = firmware.find(first=found.firmware)
    chosen = accelerator.choose(wish, found.path, code, cache / "accelerators.json")
    return Host(found, code, chosen, Admission(cache / "admission", admission.capacity()), functools.partial(_font, cache))


def _font(cache: Path) -> Font | None:
    """What the kernel draws its screen with; None while no reference image is built."""
    try:
        return Font.read(Path(ask_images("find", "--cache", cache)) / "font-8x16.bin")
    except HarnessError:
        return None


def reference_image(cache: Path) -> Path:
    """The folder of the reference node image, built now if it is missing."""
    try:
        return Path(ask_images("find", "--cache", cache))
    except HarnessError:
        return Path(ask_images("build", "--cache", cache))


def ask_images(command: str, *arguments: str | Path) -> str:
    """Asks the `images` package, as a program: it and the harness share nothing but files."""
    argv: Sequence[str] = [sys.executable, "-m", "images", command, *map(str, arguments)]
    done = subprocess.run(argv, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"`python -m images {command}` failed; it says why above.")
    return done.stdout.strip()
