"""A disk of the outputs of kiOS's build: its EFI binary and its modules, with room for containers and none in it."""

import shutil
from pathlib import Path

from images import command, disk, node
from images.cache import Cache, Part, digest_of
from images.disk import Stretch

_ROOM_FOR_CONTAINERS = 192 << 20
_ROOM_FOR_INITRAMFS = 96 << 20
_ROOM_ON_P2 = 64 << 20
_CODE = tuple(Path(__file__).parent / name for name in ("outputs.py", "node.py", "disk.py", "storage.py"))


def disk_of(
    efi: Path,
    modules: Path,
    cache: Cache,
    initramfs: Path | None = None,
    sector_size: int = 512,
    data: Stretch | None = None,
) -> Path:
    """Returns a raw disk image of an EFI binary and a folder of modules by version, made now if the cache has none.

    Its blocks have `sector_size` bytes. One of generation B has its user's `initramfs` as `user` on p1, room for more of the
    kind, and an empty filesystem on p2, or its user's `data`.
    """
    if initramfs:
        return _disk_in_memory(efi, initramfs, cache, sector_size, data)

    def make(place: Path) -> None:
        data = place / "data"
        node.lay_out(data, [], modules)
        disk.write(efi, data, place / "kios.img", disk.roomy(sector_size, _ROOM_FOR_CONTAINERS), cache.logs / "outputs.log")
        shutil.rmtree(data)

    inputs = {**_inputs(efi, sector_size), "modules": digest_of(modules)}
    return cache.get(Part("outputs", inputs, make)) / "kios.img"


def _disk_in_memory(efi: Path, initramfs: Path, cache: Cache, sector_size: int, theirs: Stretch | None) -> Path:
    def make(place: Path) -> None:
        empty, log = place / "data", cache.logs / "outputs.log"
        empty.mkdir()
        room = initramfs.stat().st_size + _ROOM_FOR_INITRAMFS
        disk.write(efi, theirs or empty, place / "kios.img", disk.roomy(sector_size, _ROOM_ON_P2, room), log)
        empty.rmdir()
        command.run(["mcopy", "-i", f"{place / 'kios.img'}@@{disk.FIRST_PARTITION}", initramfs, "::user"], log=log)

    inputs = {**_inputs(efi, sector_size), "initramfs": digest_of(initramfs)}
    if theirs:
        inputs["data"] = f"{digest_of(theirs.file)} {theirs.start} {theirs.size}"
    return cache.get(Part("outputs", inputs, make)) / "kios.img"


def _inputs(efi: Path, sector_size: int) -> dict[str, str]:
    return {"efi": digest_of(efi), "sector size": str(sector_size), "recipe": digest_of(*_CODE)}
