"""The node image: every part put together in one folder, with a manifest of what is in it."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from images import containers, crio, debian, disk, go, init, kernel, kubelet, oci, rootfs, storage
from images.cache import Cache, Part, digest_of, say
from images.errors import BuildError

_HERE = Path(__file__).parent
_CODE = tuple(_HERE / name for name in ("node.py", "disk.py", "oci.py", "storage.py"))
_SECTOR_SIZES = {"kios.img": 512, "kios-4k.img": 4096}


def build(cache: Cache) -> Path:
    """Makes all that is missing and returns the folder of the node image.

    It holds `Bootx64.efi`, `font-8x16.bin` (what its screen is drawn with), `modules/`, `containers/*.tar` (OCI archives),
    `kios.img` and `kios-4k.img` (raw disks of 512 and 4096-byte sectors), `kubelet-check`, and `manifest.json`.
    """
    initramfs = built_initramfs(cache, "a")
    kernel_part = kernel.part(cache, initramfs / "initramfs.cpio", "fast")
    built_kernel = cache.get(kernel_part)
    recipes = containers.parts(cache)
    folders = [cache.get(part) for _, part in recipes]
    check = kubelet.find_check(cache)

    def make(place: Path) -> None:
        shutil.copyfile(built_kernel / "Bootx64.efi", place / "Bootx64.efi")
        shutil.copyfile(built_kernel / "font-8x16.bin", place / "font-8x16.bin")
        shutil.copytree(built_kernel / "modules", place / "modules")
        shutil.copy(check, place / kubelet.CHECK)
        images = [oci.build(recipe.image, folder / "root") for (recipe, _), folder in zip(recipes, folders, strict=True)]
        (place / "containers").mkdir()
        for (recipe, _), image in zip(recipes, images, strict=True):
            oci.write_archive(image, place / "containers" / f"{recipe.short_name}.tar")
        data = place / "data"
        lay_out(data, images, place / "modules")
        for name, sector_size in _SECTOR_SIZES.items():
            disk.write(place / "Bootx64.efi", data, place / name, disk.roomy(sector_size), cache.logs / "disk.log")
        shutil.rmtree(data)
        versions = _versions(built_kernel, initramfs, folders)
        (place / "manifest.json").write_text(json.dumps({**versions, "sha256": _sums(place)}, indent=1) + "\n")

    inputs = {
        "kernel": kernel_part.key,
        "containers": " ".join(part.key for _, part in recipes),
        "check": kubelet.check_part(cache).key,
        "recipe": digest_of(*_CODE),
    }
    built = cache.get(Part("node", inputs, make))
    pointer = _pointer(cache)
    # At once: a run may look while this one builds.
    making = pointer.with_name(f"{pointer.name}.{os.getpid()}")
    making.write_text(built.name)
    making.replace(pointer)
    return built


def built_initramfs(cache: Cache, generation: str) -> Path:
    """Returns the folder of the root filesystem's part, with `initramfs.cpio` in it; its init is of a generation of kiOS."""
    programs = (
        cache.get(init.part(cache, generation)) / "init",
        cache.get(kubelet.part(cache)) / "kubelet",
        cache.get(crio.part(cache)),
    )
    return cache.get(rootfs.part(cache, *programs))


def find(cache: Cache) -> Path:
    """Returns the image that was built last from these very recipes, without asking Debian for news; BuildError if none."""
    pointer = _pointer(cache)
    name = pointer.read_text(errors="replace") if pointer.exists() else ""
    built = cache.root / "parts" / name
    # One that was torn names no part.
    if not name.startswith("node-") or not built.is_dir():
        raise BuildError("No image was built from these recipes yet.", "Build it: python -m images build")
    return built


def publish(built: Path, output: Path) -> None:
    """Copies the node image to a folder of the user's, whole or not at all."""
    making = output.with_name(f".{output.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(built, making)
    if output.exists():
        shutil.rmtree(output)
    making.rename(output)
    say(f"copied to {output}")


def lay_out(data: Path, images: list[oci.Built], modules: Path) -> None:
    """Makes the folder `data` what the data partition holds; of modules the links to their build tree are left out."""
    for folder in ("meta/etc/kubernetes/manifests", "meta/log", "data/pods"):
        (data / folder).mkdir(parents=True)
    shutil.copytree(modules, data / "modules", symlinks=True, ignore=_build_trees)
    storage.preload(images, data / "data/oci")


def _pointer(cache: Cache) -> Path:
    return cache.workspace("built") / digest_of(_HERE)[:16]


def _build_trees(folder: str, names: list[str]) -> list[str]:
    """The links that the kernel's `make modules_install` leaves: they lead to gigabytes, or nowhere."""
    return [name for name in names if name in ("build", "source") and (Path(folder) / name).is_symlink()]


def _versions(built_kernel: Path, initramfs: Path, folders: list[Path]) -> dict[str, object]:
    packages: set[str] = set()
    for folder in (initramfs, *folders):
        packages.update((folder / "packages.txt").read_text().splitlines())
    return {
        "what": "a kiOS-compatible reference node, not kiOS: see images/README.md",
        "debian": debian.suite(),
        "kernel": (built_kernel / "version").read_text(),
        "kubelet": go.required(_HERE / "kubelet/go.mod", "k8s.io/kubernetes"),
        "crio": go.required(_HERE / "crio/go.mod", "github.com/cri-o/cri-o"),
        "containers": [recipe.image.name for recipe in containers.RECIPES],
        "packages": dict(sorted(line.split() for line in packages)),
    }


def _sums(place: Path) -> dict[str, str]:
    sums = {}
    for file in sorted(path for path in place.rglob("*") if path.is_file()):
        with file.open("rb") as content:
            sums[str(file.relative_to(place))] = hashlib.file_digest(content, "sha256").hexdigest()
    return sums
