"""The variants of the reference image: made of the same parts, each in the time that its own differences take."""

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from images import containers, disk, initrd, kernel, node, oci
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
# A released p2 is several times as large as ours, by its modules above all. Of a small one the third that create-image leaves
# is no room for a container, as a kubelet clears up where less than 15 % are free.
_OTHERS = 320 << 20
_Parts = Sequence[tuple[containers.Recipe, Part]]
_CODE = tuple(_HERE / name for name in ("variant.py", "node.py", "disk.py", "oci.py", "storage.py"))


def build(cache: Cache, name: str) -> Path:
    """Makes what is missing of a variant (see `VARIANTS`) and returns its disk image; of `b`, the folder that has no disk."""
    return VARIANTS[name](cache)


def _generation_a(cache: Cache) -> Path:
    """The kernel packed and the disk laid out as a release's, and nothing on it that a release lacks."""
    kernel_part = kernel.part(cache, node.built_initramfs(cache, "a") / "initramfs.cpio", "a")
    built_kernel = cache.get(kernel_part)
    parts = _released(cache)

    def make(place: Path) -> None:
        data = place / "data"
        node.lay_out(data, _images(cache, parts), built_kernel / "modules")
        (version,) = (data / "modules").iterdir()
        chance = random.Random(0)
        (version / "the-others").write_bytes(b"".join(chance.randbytes(1 << 20) for _ in range(_OTHERS >> 20)))
        disk.write(built_kernel / "Bootx64.efi", data, place / "kios-a.img", disk.CREATE_IMAGE, cache.logs / "disk.log")
        shutil.rmtree(data)

    inputs = {"kernel": kernel_part.key, "containers": _keys(parts), "recipe": digest_of(*_CODE)}
    return cache.get(Part("variant-a", inputs, make)) / "kios-a.img"


def _generation_b(cache: Cache) -> Path:
    """EFI binary and modules where kiOS's build leaves them, and `initrd`, what its make-initramfs leaves."""
    kernel_part = kernel.part(cache, node.built_initramfs(cache, "b") / "initramfs.cpio", "b")
    built_kernel = cache.get(kernel_part)
    parts = _released(cache)

    def make(place: Path) -> None:
        efi = place / "boot/EFI/Boot/Bootx64.efi"
        efi.parent.mkdir(parents=True)
        shutil.copyfile(built_kernel / "Bootx64.efi", efi)
        shutil.copytree(built_kernel / "modules", place / "lib/modules")
        initrd.write(place / "lib/modules", _images(cache, parts), place / "initrd")

    inputs = {"kernel": kernel_part.key, "containers": _keys(parts), "recipe": digest_of(*_CODE), "initrd": initrd.recipe()}
    return cache.get(Part("variant-b", inputs, make))


def _released(cache: Cache) -> _Parts:
    return [(recipe, part) for recipe, part in containers.parts(cache) if recipe.short_name in containers.RELEASED]


def _keys(parts: _Parts) -> str:
    return " ".join(part.key for _, part in parts)


def _images(cache: Cache, parts: _Parts) -> list[oci.Built]:
    return [oci.build(recipe.image, cache.get(part) / "root") for recipe, part in parts]


VARIANTS: Mapping[str, Callable[[Cache], Path]] = {
    "fast": lambda cache: node.build(cache) / "kios.img",
    "4k": lambda cache: node.build(cache) / "kios-4k.img",
    "a": _generation_a,
    "b": _generation_b,
}
