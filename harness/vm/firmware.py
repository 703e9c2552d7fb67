"""UEFI firmware, found by the descriptor files that distributions install (QEMU's docs/interop/firmware.json)."""

import contextlib
import fnmatch
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError


def _of_user() -> tuple[Path, ...]:
    """The folder of a user's own descriptors; none for one without a home."""
    named = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        return ((named if named.is_absolute() else Path.home() / ".config") / "qemu/firmware",)
    except RuntimeError:
        return ()


# In the specification's order: a user's own descriptors come before those of the system.
_FOLDERS = (*_of_user(), Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
_UNWANTED = frozenset({"enrolled-keys", "requires-smm", "secure-boot"})


@dataclass(frozen=True)
class Firmware:
    """Read-only code, and the template of each node's variable store; both are raw flash images."""

    code: Path
    variables: Path


def find(machine_type: str = "pc-q35-10.0", folders: tuple[Path, ...] = _FOLDERS, first: Path | None = None) -> Firmware:
    """Returns the first UEFI firmware for x86-64 without Secure Boot; raises HarnessError if there is none.

    The folder `first`, if given, is searched before all others.
    """
    if first is not None:
        with contextlib.suppress(HarnessError):
            return find(machine_type, (first,))
    for file, descriptor in _descriptors(folders):
        try:
            firmware = _firmware_of(descriptor, machine_type, file)
        except (AttributeError, KeyError, TypeError) as odd:
            raise HarnessError(f"The firmware descriptor {file} is not shaped as QEMU's firmware.json says.") from odd
        if firmware is not None:
            return firmware
    raise HarnessError(
        f"No UEFI firmware is installed: no descriptor in {', '.join(map(str, folders))} is for {machine_type} on x86_64.\n"
        "Install it: sudo apt-get install ovmf"
    )


def _descriptors(folders: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, object]]]:
    by_name: dict[str, Path] = {}
    for folder in reversed(folders):
        by_name.update({file.name: file for file in folder.glob("*.json")})
    for name in sorted(by_name):
        try:
            content = json.loads(by_name[name].read_text())
        except (OSError, ValueError) as broken:
            raise HarnessError(f"The firmware descriptor {by_name[name]} cannot be read: {broken}") from broken
        yield by_name[name], content


def _firmware_of(descriptor: dict[str, object], machine_type: str, file: Path) -> Firmware | None:
    mapping = descriptor.get("mapping")
    if not isinstance(mapping, dict) or mapping.get("device") != "flash":
        return None
    if "uefi" not in _strings(descriptor, "interface-types") or _UNWANTED & _strings(descriptor, "features"):
        return None
    if not _targets(descriptor, machine_type):
        return None
    try:
        parts = mapping["executable"], mapping["nvram-template"]
    except KeyError:
        return None
    if any(part.get("format") != "raw" for part in parts):
        return None
    code, variables = (_relocated(Path(part["filename"]), file) for part in parts)
    return Firmware(code, variables) if os.access(code, os.R_OK) and os.access(variables, os.R_OK) else None


def _relocated(image: Path, descriptor: Path) -> Path:
    """The path of a firmware image; one that was unpacked with its descriptor may have been moved or copied with it.

    Then `ROOT/share/qemu/firmware/FILE.json` still names `OLD-ROOT/PATH`, and the image is at `ROOT/PATH`.
    """
    if descriptor.parts[-4:-1] != ("share", "qemu", "firmware"):
        return image
    root = descriptor.parents[3]
    beside = (root.joinpath(*image.parts[number:]) for number in range(1, len(image.parts)))
    return next((place for place in beside if os.access(place, os.R_OK)), image)


def _targets(descriptor: dict[str, object], machine_type: str) -> bool:
    targets = descriptor.get("targets")
    return isinstance(targets, list) and any(
        target.get("architecture") == "x86_64"
        and any(fnmatch.fnmatch(machine_type, pattern) for pattern in target.get("machines", []))
        for target in targets
    )


def _strings(descriptor: dict[str, object], key: str) -> frozenset[str]:
    values = descriptor.get(key)
    return frozenset(values) if isinstance(values, list) else frozenset()
