"""What happens to the nodes of a failed test: a user visits them, or they are frozen into files."""

import shlex
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.lab import bundle
from harness.lab.bundle import Failure
from harness.lab.host import Host
from harness.lab.maker import NodeMaker
from harness.lab.node import Node
from harness.scribe import commit
from harness.summary import tell


@dataclass(frozen=True)
class Bundling:
    """How bundles are made: `limit` is the total size of all below the folder `root`, in bytes."""

    limit: int
    root: Path
    run_folder: Path
    host: Host
    say: Callable[[str], None]


def freeze(nodes: Iterable[Node], failure: Failure, how: Bundling, config: pytest.Config) -> None:
    """Freezes nodes into files, one each; the summary says where each is, or why it could not be made."""
    failure = replace(failure, environment={"harness": commit(), **how.host.facts()})
    for node in [node for node in nodes if node.was_started and node.overlay.exists()]:
        place, began = node.artifacts / bundle.NAME, time.monotonic()
        try:
            left = bundle.left(how.limit, how.root)
            with tempfile.TemporaryDirectory(dir=how.run_folder) as scratch:
                bundle.make(node, failure, how.host, place, Path(scratch), left, how.say)
        except (HarnessError, NodeFailure, OSError) as failed:
            tell(config, f"no bundle of {node.name} of {failure.test}: {str(failed).partition(chr(10))[0]}")
        else:
            size, seconds = place.stat().st_size >> 20, time.monotonic() - began
            tell(config, f"{failure.test} ({size} MiB in {seconds:.0f} s): kios-e2e enter {shlex.quote(str(place))}")


def visit(maker: NodeMaker, why: str, config: pytest.Config) -> None:
    """Connects the terminal, if there is one, to the consoles of the running nodes in turn; then keeps their disks."""
    from harness import by_hand

    seat, capture = _seat(config), config.pluginmanager.get_plugin("capturemanager")
    if seat and capture:
        with seat, capture.global_and_fixture_disabled():
            for node in maker.nodes:
                if node.was_started and node.boot.process.running():
                    by_hand.visit(node, seat, seat, why)
    else:
        tell(config, "--keep-on-failure: there is no terminal at which to visit a node; its disk is with its artifacts")
    maker.keep_disks()
    for node in maker.nodes:
        tell(config, f"kept: {node.artifacts}; for a whole disk: qemu-img convert -O qcow2 disk.qcow2 FILE")


def _seat(config: pytest.Config) -> FileIO | None:
    """The terminal, opened anew because pytest has replaced stdin. Workers of pytest-xdist share one, and get none."""
    if hasattr(config, "workerinput"):
        return None
    try:
        return Path("/dev/tty").open("r+b", buffering=0)
    except OSError:
        return None
