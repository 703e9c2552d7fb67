"""A node for a user: booted, its addresses shown, its console on this terminal, and removed when the user leaves."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.lab import builder, cache, host, place
from harness.lab.keeper import scratch
from harness.lab.maker import NodeMaker
from harness.lab.node import Node
from harness.lab.stock import Stock
from harness.lab.wanted import Wanted
from harness.serial import console_pod, terminal

_RESIZE_WITHIN = 5.0


def boot(wanted: Wanted, manifests: Sequence[Path]) -> int:
    """Boots a node with manifests, and stays until the user leaves or the node ends; returns the exit status."""
    wanted.check()
    folder = cache.folder(wanted.cache)
    cache.announce_to(_say)
    brought = wanted.bring(folder)
    if brought:
        _say(brought.belief.words())
    tested = wanted.tested(brought, lambda: builder.reference_image(folder))
    chosen = place.for_run()
    if chosen.words:
        _say(chosen.words)
    with scratch("kios-e2e-", chosen.folder) as run_folder:
        artifacts = run_folder / "artifacts"
        maker = NodeMaker(
            host.find(wanted.qemu, wanted.accelerator, folder, run_folder, _say, wanted.firmware),
            run_folder,
            artifacts,
            wanted.machine,
            Stock(lambda: builder.reference_image(folder), wanted.archives, folder / "stores"),
            initramfs=brought.initramfs if brought else None,
            built_in=brought.built_in if brought else None,
        )
        try:
            with closing(maker):
                node = maker.prepare(maker.order(tested, manifests))
                node.start()
                visit(node, sys.stdin.buffer, sys.stdout.buffer)
                node.boot.check_end()
                if node.boot.process.running() and not sys.stdin.isatty():
                    _say("stdin has ended, and so does the node: start it from a terminal to stay connected")
        except (HarnessError, NodeFailure) as failed:
            raise type(failed)(str(failed).replace(str(artifacts), str(kept(artifacts)))) from failed
    print("\nThe node has ended; nothing of it is left.")
    return 0


def kept(artifacts: Path) -> Path:
    """Moves the logs of a node that failed, if there are any, to a place where they outlive the run; returns that place."""
    if not artifacts.exists():
        return artifacts
    return Path(shutil.move(artifacts, tempfile.mkdtemp(prefix="kios-e2e-artifacts-")))


def _say(words: str) -> None:
    print(f"kios-e2e: {shown(words)}", file=sys.stderr)


def ways_in(node: Node) -> list[str]:
    """How a running node is reached by other programs of the user's."""
    keys, port = node.credentials, node.boot.kubelet.port
    trust = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return [
        f"kubelet API, once the node has its lease: curl -k --cert {keys.client} https://127.0.0.1:{port}/pods",
        f"SSH, with a pod that runs sshd: ssh -i {keys.ssh_user} -p {node.boot.ssh_port} {trust} root@127.0.0.1",
    ]


def visit(node: Node, keyboard: terminal.Seat, screen: terminal.Seat, why: str = "") -> None:
    """Shows the ways into a running node, and connects a keyboard and a screen to its console until the user leaves.

    `why` is the reason for the visit, in a line.
    """
    lines = [
        *([shown(why)] if why else []),
        *ways_in(node),
        "This terminal is the node's serial console; a shell that exits is restarted within seconds. Ctrl-] ends the node.",
    ]
    screen.write("".join(f"{line}\r\n" for line in lines).encode())
    screen.flush()
    sit_down(node, keyboard, screen)


def sit_down(node: Node, keyboard: terminal.Seat, screen: terminal.Seat) -> None:
    """Connects a keyboard and a screen to a running node's console until the user leaves."""
    # If the shell took commands, for lack of a second port, it would show the user no prompt.
    node.boot.shell.leave()

    def resize(window: os.terminal_size) -> bool:
        # The size is only a convenience: a node in trouble is not bothered with it.
        with contextlib.suppress(HarnessError, NodeFailure):
            return node.boot.agent.answers and node.boot.agent.run(_resized_to(window), _RESIZE_WITHIN) is not None
        return True

    terminal.interact(node.boot.console, lambda: not node.boot.process.running(), keyboard, screen, resize)


def _resized_to(window: os.terminal_size) -> str:
    return f"stty -F /host/dev/{console_pod.PORT} cols {window.columns} rows {window.lines}"
