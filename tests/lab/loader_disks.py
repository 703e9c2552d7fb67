"""Small disks of generation B whose boot loader hands the initramfs over."""

import struct
from pathlib import Path, PurePosixPath

from harness import tools
from harness.storage import cpio, gpt

MIB = 1 << 20
START, SIZE = 8 * MIB, 4 * MIB
ESP_START, ESP_SIZE = 1 * MIB, 6 * MIB
HOSTS = PurePosixPath("/etc/hosts")
USERS = {
    PurePosixPath("/lib/modules/6.12.9/modules.dep"): b"kernel/drivers/nvme/host/nvme.ko:\n",
    PurePosixPath("/etc/kubernetes/config.yaml"): b"maxPods: 7\nstaticPodPath: /etc/kubernetes/manifests\n",
}
SYSTEMD_BOOT = {
    "loader/loader.conf": b"timeout 0\n",
    "loader/entries/kios.conf": b"title kiOS\nlinux /kernel\ninitrd /user.img\n",
}
GRUB = "\n".join(["menuentry kiOS {", "  linux ($root)/kernel quiet", "  initrd ($root)/user.img", "}", ""]).encode()


def kernel(files: dict[PurePosixPath, bytes]) -> bytes:
    payload = b"\x7fELF" + cpio.archive(files) + bytes(4)
    head = bytearray(1024)
    head[:2], head[0x1F1], head[0x202:0x206] = b"MZ", 1, b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    return bytes(head) + payload


def image(folder: Path, files: dict[str, bytes]) -> Path:
    """A raw disk with these files on its EFI System Partition, and an empty data partition."""
    raw, esp_at = folder / "b.img", f"{folder / 'b.img'}@@{ESP_START}"
    raw.write_bytes(bytes(16 * MIB))
    layout = f"label: gpt\nstart={ESP_START // 512}, size={ESP_SIZE // 512}, type={gpt.ESP}\n"
    layout += f"start={START // 512}, size={SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", raw, input=layout.encode())
    tools.run("mke2fs", "-q", "-t", "ext4", "-E", f"offset={START}", raw, f"{SIZE // 1024}k")
    tools.run("mformat", "-i", esp_at, "-T", str(ESP_SIZE // 512), "::")
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents if parent.name}
    for name in sorted(folders):
        tools.run("mmd", "-i", esp_at, f"::{name}")
    for name, content in files.items():
        (folder / "file").write_bytes(content)
        tools.run("mcopy", "-i", esp_at, folder / "file", f"::{name}")
    return raw


def with_loader(folder: Path, configuration: dict[str, bytes], initramfs: bytes | None = None) -> Path:
    user = cpio.archive(USERS) if initramfs is None else initramfs
    built_in = kernel({HOSTS: b"192.0.2.1 built-in\n"})
    return image(folder, {"kernel": built_in, "user.img": user, "EFI/Boot/Bootx64.efi": b"MZ loader", **configuration})
