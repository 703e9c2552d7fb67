"""The user's own initramfs of a node of generation B, laid out as kiOS's make-initramfs does it: /etc, modules and images."""

import lzma
import shutil
from collections.abc import Sequence
from pathlib import Path

from images import cpio, oci, rootfs, storage
from images.cache import digest_of

_ETC = Path(__file__).parent / "etc"
_CONFIGURATION = rootfs.ETC / "kubernetes/config.yaml"
_STORE = "var/lib/containers/initial-storage"


def write(modules: Path, images: Sequence[oci.Built], file: Path) -> None:
    """Writes it as the one thing that kiOS's kernel unpacks: a cpio archive in LZMA."""
    tree, archive = file.with_name("tree"), file.with_name("tree.cpio")
    shutil.copytree(_ETC, tree / "etc")
    shutil.copyfile(_CONFIGURATION, tree / "etc/kubernetes/config.yaml")
    shutil.copytree(modules, tree / "lib/modules")
    storage.preload(images, tree / _STORE)
    cpio.write(tree, archive)
    with archive.open("rb") as plain, lzma.open(file, "wb", format=lzma.FORMAT_ALONE) as packed:
        shutil.copyfileobj(plain, packed)
    shutil.rmtree(tree)
    archive.unlink()


def recipe() -> str:
    """The digest of all that is written beside what is handed in."""
    return digest_of(Path(__file__), Path(cpio.__file__), Path(storage.__file__), _ETC, _CONFIGURATION)
