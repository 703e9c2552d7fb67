"""The `images` package, run as a program: it and the harness share nothing but files."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import tools
from harness.errors import HarnessError, InputError
from harness.lab.keeper import scratch


def reference_image(cache: Path) -> Path:
    """The folder of the reference node image, built now if it is missing."""
    try:
        return Path(ask("find", "--cache", cache))
    except HarnessError:
        return Path(_build("build", cache))


def build_kubelet_rules(cache: Path) -> None:
    """Builds the program that has the kubelet's own rules (see `kubelet_rules`), unless it exists."""
    _build("check-tool", cache)


def contents_of(image: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the reference image says it contains: the SHA-256 digests of its files, and the versions of its parts.

    The parts are named as a node names them (`guest.versions`). Raises HarnessError for an image that is not whole.
    """
    try:
        manifest = json.loads((image / "manifest.json").read_text())
        parts = {"kernel": manifest["kernel"], "kubelet": manifest["kubelet"], "CRI-O": manifest["crio"].removeprefix("v")}
        return manifest["sha256"], parts
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as damaged:
        raise HarnessError(
            f"The reference image {image} is damaged ({damaged}): remove this folder; it is built again, from what is kept."
        ) from damaged


def _build(command: str, cache: Path) -> str:
    # The keeper ends the build's compilers and package tools with this process.
    with scratch("kios-e2e-build-"):
        return ask(command, "--cache", cache)


def ask(command: str, *arguments: str | Path) -> str:
    """Runs a command of the `images` package and returns what it prints; the kernel ends it with this process.

    A build's messages go to the terminal as they come; those of other commands are in the HarnessError that is raised if they
    fail, which is an InputError if what they were given cannot be used.
    """
    argv: Sequence[str] = [sys.executable, "-m", "images", command, *map(str, arguments)]
    streams = command == "build"
    done = subprocess.run(
        [str(tools.find("setpriv")), "--pdeathsig", "KILL", "--", *argv],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=None if streams else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == os.EX_DATAERR and done.stderr:
        raise InputError(done.stderr.strip().removeprefix("images: "))
    if done.returncode:
        killed = tools.ended(done.returncode) if done.returncode < 0 else ""
        why = "it says why above" if streams and not killed else (done.stderr or "").strip() or "without a word"
        raise HarnessError(f"`python -m images {command}` {killed or 'failed'}: {why}")
    return done.stdout.strip()
