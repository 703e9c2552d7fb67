"""The variants of the reference image: disks of the same parts, each made in the time that its own differences take."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from images import containers, disk, kernel, node, oci
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
_CODE = tuple(_HERE / name for name in ("variant.py", "node.py", "disk.py", "oci.py", "storage.py"))


def build(cache: Cache, name: str) -> Path:
    """Makes what is missing of a variant (see `VARIANTS`) and returns its disk image."""
    return VARIANTS[name](cache)


def _generation_a(cache: Cache) -> Path:
    """The kernel packed and the disk laid out as a release's, and nothing on it that a release lacks."""
    kernel_part = kernel.part(cache, node.built_initramfs(cache) / "initramfs.cpio", "a")
    built_kernel = cache.get(kernel_part)
    recipes = [(recipe, part) for recipe, part in containers.parts(cache) if recipe.short_name in containers.RELEASED]
    folders = [cache.get(part) for _, part in recipes]

    def make(place: Path) -> None:
        data = place / "data"
        images = [oci.build(recipe.image, folder / "root") for (recipe, _), folder in zip(recipes, folders, strict=True)]
        node.lay_out(data, images, built_kernel / "modules")
        disk.write(built_kernel / "Bootx64.efi", data, place / "kios-a.img", disk.CREATE_IMAGE, cache.logs / "disk.log")
        shutil.rmtree(data)

    inputs = {
        "kernel": kernel_part.key,
        "containers": " ".join(part.key for _, part in recipes),
        "recipe": digest_of(*_CODE),
    }
    return cache.get(Part("variant-a", inputs, make)) / "kios-a.img"


VARIANTS: Mapping[str, Callable[[Cache], Path]] = {
    "fast": lambda cache: node.build(cache) / "kios.img",
    "4k": lambda cache: node.build(cache) / "kios-4k.img",
    "a": _generation_a,
}
