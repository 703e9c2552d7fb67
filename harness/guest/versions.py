"""What runs in a node, by its own word: kernel, init, kubelet and CRI-O, each with its version."""

import re
from collections.abc import Callable

from harness.serial.result import Result

# Programs of the host's, whose /bin has no shell.
_ASKED = {
    "kernel": ("uname -r", re.compile(r"^(\S+)$")),
    "kubelet": ("chroot /host /bin/kubelet --version", re.compile(r"^Kubernetes (v\S+)$")),
    # It has no version: what runs is told by its bytes.
    "init, SHA-256": ("sha256sum /host/proc/1/exe", re.compile(r"^([0-9a-f]{64}) ")),
    "CRI-O": ("chroot /host /bin/crio --version", re.compile(r"^crio version (\S+)$")),
}


def of(run: Callable[[str], Result]) -> dict[str, str]:
    """Asks a node by `run`, a shell of the console container's; what does not answer as these do has no version."""
    found: dict[str, str] = {}
    for name, (command, pattern) in _ASKED.items():
        line = run(command).text.strip().partition("\n")[0]
        if match := pattern.match(line):
            found[name] = match[1]
    return found
