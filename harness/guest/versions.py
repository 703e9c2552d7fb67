"""What runs in a node, as it says itself: kernel, init, kubelet and CRI-O, each with its version."""

import re
from collections.abc import Callable

from harness.serial.result import Result

# The host's own programs are run by chroot, because its /bin has no shell.
_ASKED = {
    "kernel": ("uname -r", re.compile(r"^(\S+)$")),
    "kubelet": ("chroot /host /bin/kubelet --version", re.compile(r"^Kubernetes (v\S+)$")),
    # Init has no version, so its digest identifies it.
    "init, SHA-256": ("sha256sum /host/proc/1/exe", re.compile(r"^([0-9a-f]{64}) ")),
    "CRI-O": ("chroot /host /bin/crio --version", re.compile(r"^crio version (\S+)$")),
}


def of(run: Callable[[str], Result]) -> dict[str, str]:
    """Asks a node through `run`, a shell in the console container; programs that give no such answer are left out."""
    found: dict[str, str] = {}
    for name, (command, pattern) in _ASKED.items():
        line = run(command).text.strip().partition("\n")[0]
        if match := pattern.match(line):
            found[name] = match[1]
    return found
