"""Small disk images of each kind."""

import hashlib
import uuid
from pathlib import Path

from harness import tools
from harness.storage import gpt

MIB = 1 << 20
START, SIZE = 1 * MIB, 6 * MIB
ESP_START = 7 * MIB
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


def make_disk(path: Path, type_guid: uuid.UUID = gpt.DATA_PARTITION) -> Path:
    """A raw disk of 8 MiB: a partition with ext4, the module overlay in its /modules, and an empty ESP behind it."""
    tree = path.with_suffix(".tree")
    make_modules(tree / "modules")
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    layout = f"label: gpt\nstart={START // 512}, size={SIZE // 512}, type={type_guid}\n"
    layout += f"start={ESP_START // 512}, size=1024, type={ESP}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", f"offset={START}", path, f"{SIZE // 1024}k")
    return path


def make_modules(folder: Path, version: str = "6.1.0") -> Path:
    names = ["kernel/fs/overlayfs/overlay.ko.xz", "kernel/net/nf-tables.ko", "kernel/drivers/usb_storage.ko.zst"]
    (folder / version).mkdir(parents=True)
    (folder / version / "modules.dep").write_text(
        f"{names[0]}:\n{names[1]}: kernel/lib/libcrc32c.ko kernel/net/nfnetlink.ko\n{names[2]}:\n"
    )
    return folder


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
