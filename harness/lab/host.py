"""What this host has for nodes: QEMU, firmware, a proven accelerator, the gate for new nodes, and the screen's font."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.guest.screen import Font
from harness.lab import builder, capacity, digest
from harness.lab import cache as default_cache
from harness.lab.admission import Admission
from harness.vm import accelerator, confine, firmware, qemu
from harness.vm.firmware import Firmware
from harness.vm.machine import Accelerator
from harness.vm.qemu import Qemu

# `newest` comes with the QEMU in the cache, if that has one; `system` is the distribution's.
FIRMWARES = ("newest", "system")


@dataclass(frozen=True)
class Host:
    """What runs nodes here: QEMU, firmware, the proven accelerator, and the gate that guards memory and CPUs.

    `font` returns the kernel's font for the screen, if the reference image is built.
    """

    qemu: Qemu
    firmware: Firmware
    accelerator: Accelerator
    admission: Admission
    font: Callable[[], Font | None]
    # Called with the seconds that each boot took to the firmware's first words.
    heard_firmware: Callable[[float], None] = lambda _: None

    def facts(self) -> dict[str, str]:
        """What nodes run on here, for readers of a verdict: QEMU, firmware, accelerator, and the factor of all deadlines."""
        return {
            "QEMU": ".".join(map(str, self.qemu.version)),
            "firmware": f"{self.firmware.code}, SHA-256 {digest.of(self.firmware.code)}",
            "accelerator": f"{self.accelerator.name} ({self.accelerator.reason})",
            "deadlines": f"x {self.accelerator.slowness:.2f}",
            "a guest's way out": "denied" if confine.supported() else "open: this kernel has no landlock for networks",
        }


def find(
    program: str | None,
    wish: str,
    cache: Path,
    scratch: Path,
    say: Callable[[str], None] = lambda _: None,
    build: str = FIRMWARES[0],
) -> Host:
    """Finds what runs nodes here and proves that it works, in the folder `scratch`; `build` is one of `FIRMWARES`.

    See `qemu.find`, `firmware.find` and `accelerator.choose` for the errors.
    """
    found = qemu.find(program, unpacked_qemu(cache))
    code = firmware_of(found, build)
    chosen = accelerator.choose(wish, found.path, code, cache / "accelerators.json", scratch)
    compare = functools.partial(accelerator.forget_if_wrong, cache / "accelerators.json", chosen)
    return Host(found, code, chosen, _gate(cache, say), functools.partial(_font, cache), compare)


def firmware_of(found: Qemu, build: str) -> Firmware:
    """The firmware of a build, one of `FIRMWARES`; raises HarnessError if there is none."""
    return firmware.find(first=found.firmware if build == FIRMWARES[0] else None)


def _gate(cache: Path, say: Callable[[str], None]) -> Admission:
    """The gate in the cache; if that cannot be written, one that only this user's runs share."""
    limit = capacity.shared(capacity.capacity())
    try:
        return Admission(cache / "admission", limit, say)
    except OSError as refused:
        own = Path(tempfile.gettempdir()) / f"kios-e2e-admission-{os.geteuid()}"
        say(f"nodes are admitted beside those of this user only: {cache} cannot be written ({refused.strerror})")
        try:
            return Admission(own, limit, say)
        except OSError as none:
            raise HarnessError(
                f"Neither {cache} nor {own} can be written ({none.strerror}): name a cache with --image-cache."
            ) from none


def unpacked_qemu(cache: Path) -> Path:
    """Where setup/qemu.sh has unpacked a QEMU: in this cache, else in the default one."""
    there = cache / "qemu"
    if not os.path.exists(there):  # noqa: PTH110 - Path.exists raises for another user's cache that may not be entered
        with contextlib.suppress(HarnessError):
            return default_cache.folder(None) / "qemu"
    return there


def _font(cache: Path) -> Font | None:
    """The font with which the kernel draws its screen; None if no reference image is built."""
    try:
        return Font.read(Path(builder.ask("find", "--cache", cache)) / "font-8x16.bin")
    except HarnessError:
        return None
