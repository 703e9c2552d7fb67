"""The root filesystem in the initramfs: what kiOS has on its root, at the paths where kiOS has it."""

import shutil
from pathlib import Path

from images import cpio, debian, elf
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
ETC = _HERE / "etc"
"""What is on every node's `/etc`, until something takes its place."""
_PACKAGES = ("busybox-static", "conmon", "crun", "libseccomp2", "libsqlite3-0")
_BUSYBOX_NAMES = ("modprobe", "mount", "umount", "nsenter")
_MOUNT_POINTS = (
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "var/cache",
    "var/tmp",
    "var/run",
    "var/log",
    "var/meta",
    "lib/modules",
)
_STATE = ("var/lib/kubelet", "var/lib/containers/storage")


def part(cache: Cache, init: Path, kubelet: Path, crio: Path) -> Part:
    """`initramfs.cpio`, and `packages.txt` with the Debian packages in it."""
    suite = _suite()
    archives = debian.closure(_PACKAGES, cache, suite)

    def make(place: Path) -> None:
        system = debian.unpack(debian.fetch(archives, cache, suite), place / "system", cache.logs / "initramfs.log")
        root = place / "root"
        for name in (*_MOUNT_POINTS, *_STATE):
            (root / name).mkdir(parents=True)
        shutil.copytree(ETC, root / "etc")
        programs = [
            (init, "init"),
            (kubelet, "bin/kubelet"),
            (crio / "crio", "bin/crio"),
            (crio / "pinns", "bin/pinns"),
            (_first(system, "usr/bin/conmon", "bin/conmon"), "bin/conmon"),
            (_first(system, "usr/bin/crun", "bin/crun"), "bin/crun"),
            (_first(system, "bin/busybox", "usr/bin/busybox"), f"bin/{_BUSYBOX_NAMES[0]}"),
        ]
        elf.install(programs, system, root)
        for name in _BUSYBOX_NAMES[1:]:
            (root / "bin" / name).hardlink_to(root / "bin" / _BUSYBOX_NAMES[0])
        cpio.write(root, place / "initramfs.cpio")
        (place / "packages.txt").write_text("".join(f"{a.package} {a.version}\n" for a in archives))
        shutil.rmtree(system)
        shutil.rmtree(root)

    return Part(
        "initramfs",
        {
            "packages": " ".join(f"{a.file} {a.digest}" for a in archives),
            "recipe": digest_of(_HERE),
            "init": digest_of(init),
            "kubelet": digest_of(kubelet),
            "crio": digest_of(crio),
        },
        make,
    )


def _suite() -> str:
    """CRI-O 1.34 writes container configurations that the crun of Debian 12 does not read: there, Debian 13's is taken."""
    return "trixie" if debian.suite() == "bookworm" else debian.suite()


def _first(system: Path, *names: str) -> Path:
    """The first that exists: Debian moves programs between /bin and /usr/bin."""
    return next((system / name for name in names if (system / name).exists()), system / names[0])
