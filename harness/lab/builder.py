"""The `images` package, asked as a program: it and the harness share nothing but files."""

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
    """Builds the program that has the kubelet's own rules (see `kubelet_rules`), unless it is there."""
    _build("check-tool", cache)


def contents_of(image: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the reference image says is in it: the SHA-256 digests of its files, and the versions of its parts.

    They are named as a node names them (`guest.versions`).
    """
    manifest = json.loads((image / "manifest.json").read_text())
    parts = {"kernel": manifest["kernel"], "kubelet": manifest["kubelet"], "CRI-O": manifest["crio"].removeprefix("v")}
    return manifest["sha256"], parts


def _build(command: str, cache: Path) -> str:
    # A build runs compilers and package tools, which the keeper ends with this process.
    with scratch("kios-e2e-build-"):
        return ask(command, "--cache", cache)


def ask(command: str, *arguments: str | Path) -> str:
    """Runs a command of the `images` package and returns what it prints; the kernel ends it with this process.

    What a build says goes to the terminal as it comes, what others say is in the HarnessError that their failure raises. It
    is an InputError where what they were given cannot be used.
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
        why = "it says why above" if streams else done.stderr.strip() or "without a word"
        raise HarnessError(f"`python -m images {command}` failed: {why}")
    return done.stdout.strip()
