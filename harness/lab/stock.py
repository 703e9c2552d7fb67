"""Container images for nodes whose disk lacks them: put on the disk or, if it has no room, served to the node."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.containers import preload, reference
from harness.containers.archive import ArchivedImage
from harness.containers.registry import CONFIGURATION, Registry
from harness.errors import InputError
from harness.lab import builder, cache, digest
from harness.lab.digest import Stamp
from harness.lab.initramfs import OWN_STORE, STORAGE_CONF, Initramfs
from harness.storage import cpio
from harness.storage.disk import Disk
from harness.storage.overlay import Entry, File, Tree
from harness.vm.machine import REGISTRY

# CRI-O's own, for every pod (kiOS contract).
PAUSE = "registry.k8s.io/pause:3.6"
# With less than 15 % available, a kubelet removes images of pods that have yet to start (Kubernetes, imagefs.available). A
# booting node needs room for its logs too.
_STAYS_FREE, _STAYS_AVAILABLE, _FOR_LOGS = 0.2, 0.15, 4 << 20


@dataclass(frozen=True)
class Supplies:
    """What a node is given for its container images: files for its data partition, and a registry's port on 127.0.0.1.

    `archive` is a store as part of an initramfs, for a node without a data partition. `images` are all images that the node
    gets in this way, `served` those of them that it gets only over its network.
    """

    files: Tree
    registry: int | None = None
    archive: Path | None = None
    images: Sequence[ArchivedImage] = ()
    served: Sequence[ArchivedImage] = ()

    def serves(self, name: str) -> bool:
        """Whether an image comes over the network."""
        return _called(name, self.served) is not None


@dataclass(frozen=True)
class Stock:
    """OCI archives: those in the folder that `reference` finds when it is needed, and those that were named.

    Stores made from them are kept in the folder `cache`.
    """

    reference: Callable[[], Path]
    named: tuple[Path, ...]
    cache: Path

    def supply(self, disk: Disk, names: Iterable[str], served: ExitStack) -> Supplies:
        """Returns what a node with this disk needs to have the images `names`.

        Images that the disk lacks are put on it. Those for which its data partition has no room come from a registry, which
        runs until `served` is closed; so do all other known images, because the node may be given more pods later. The
        reference image's archives are known only for a disk that lacks an image. Raises InputError for an image that is
        neither on the disk nor known.
        """
        lacking = preload.missing(disk, [PAUSE, *names])
        if not lacking and not self.named:
            return Supplies({})
        images = self._images() if lacking else self._named_images()
        wanted = [_called(name, images) for name in lacking]
        refuse_unknown(lacking, images, f"the store of {disk.path}")
        stored = _with_room(disk, lacking, [image for image in wanted if image])
        archives = list(dict.fromkeys(image.archive for image in stored))
        tree: dict[PurePosixPath, Entry] = dict(preload.files(disk, self._store(archives, served), lacking)) if archives else {}
        rest = [image for image in images if image not in stored]
        lacked = [str(name) for image in rest for name in image.names]
        prefixes = [reference.parse(name).repository for name in preload.missing(disk, lacked)]
        if not prefixes:
            return Supplies(tree, images=stored)
        registry = served.enter_context(Registry.serve(rest))
        tree[CONFIGURATION] = File(Registry.configuration("{}:{}".format(*REGISTRY), prefixes))
        return Supplies(tree, registry.port, images=images, served=rest)

    def supply_beside(self, initramfs: Initramfs, names: Iterable[str], served: ExitStack) -> Supplies:
        """Returns what a node of generation B needs beside the user's initramfs: all known images that it does not contain.

        Raises InputError for an image of `names` that is neither in the initramfs nor known.
        """
        there = {str(reference.parse(name)) for name in initramfs.image_names()}
        lacking = [name for name in (PAUSE, *names) if str(reference.parse(name)) not in there]
        if not lacking:
            return Supplies({})
        images = self._images()
        refuse_unknown(lacking, images, f"a store of {initramfs.path}")
        beside = [image.archive for image in images if not {str(name) for name in image.names} <= there]
        store = self._store(list(dict.fromkeys(beside)), served)

        def pack(making: Path) -> None:
            making.mkdir()
            (making / "store").write_bytes(cpio.archive(preload.whole(store, OWN_STORE)))

        packed = served.enter_context(cache.kept(store.with_name(f"archive-of-{store.name}"), Path.exists, pack))
        return Supplies({STORAGE_CONF: initramfs.storage_conf()}, archive=packed / "store", images=images)

    def _images(self) -> Sequence[ArchivedImage]:
        """All known images; one of the reference image's is left out if named ones have all its names."""
        images = self._named_images()
        taken = {name for image in images for name in image.names}
        at_hand = _in(sorted((self.reference() / "containers").glob("*.tar")))
        return [*images, *(image for image in at_hand if not set(image.names) <= taken)]

    def _named_images(self) -> Sequence[ArchivedImage]:
        images: list[ArchivedImage] = []
        for image in _in(self.named):
            for other in images:
                if set(image.names) & set(other.names) and image.documents[0] != other.documents[0]:
                    raise InputError(
                        f"{other.archive} and {image.archive} hold different images of one name: give one of them."
                    )
            images.append(image)
        return images

    def _store(self, archives: Sequence[Path], used: ExitStack) -> Path:
        key = hashlib.sha256("".join(digest.of(archive) for archive in archives).encode()).hexdigest()[:16]
        store = self.cache / f"store-{key}"

        def make(partial: Path) -> None:
            builder.ask("store", *archives, "--output", partial)

        return used.enter_context(cache.kept(store, Path.exists, make))


def _with_room(disk: Disk, names: Iterable[str], images: Iterable[ArchivedImage]) -> Sequence[ArchivedImage]:
    """Those of the `images`, asked for by `names`, that are put on the disk: first come, first served."""
    superblock = disk.superblock()
    room = min(
        superblock.free - _STAYS_FREE * superblock.size,
        superblock.available - _STAYS_AVAILABLE * superblock.size - _FOR_LOGS,
    )
    stored: list[ArchivedImage] = []
    for name, image in zip(names, images, strict=True):
        # The store merges an image's layers into one, under another digest.
        kept = image.layers == 1 or not reference.parse(name).digest
        if image not in stored and kept and image.unpacked is not None and image.unpacked < room:
            room -= image.unpacked
            stored.append(image)
    return stored


def refuse_unknown(names: Iterable[str], images: Sequence[ArchivedImage], where: str) -> None:
    """Raises InputError for names that none of the images has; `where` is the other place that was searched."""
    if unknown := [name for name in names if _called(name, images) is None]:
        at_hand = sorted(str(name) for image in images for name in image.names)
        raise InputError(
            f"{', '.join(unknown)}: no such image is in {where} or among the archives at hand "
            f"({', '.join(at_hand)}). Give its OCI archive: --container FILE (skopeo copy ... oci-archive:FILE)."
        )


def _called(name: str, images: Iterable[ArchivedImage]) -> ArchivedImage | None:
    wanted = reference.parse(name)
    return next((image for image in images if image.is_called(wanted)), None)


def _in(archives: Sequence[Path]) -> Sequence[ArchivedImage]:
    for archive in archives:
        if not archive.is_file():
            raise InputError(f"{archive} is no file: give an OCI archive, as skopeo copy ... oci-archive:FILE makes it.")
    return _described(digest.stamps(archives)) if archives else ()


@functools.lru_cache
def _described(archives: tuple[Stamp, ...]) -> Sequence[ArchivedImage]:
    files = [file for file, _, _ in archives]
    told = json.loads(builder.ask("describe", *files))
    return [image for file, each in zip(files, told, strict=True) for image in ArchivedImage.of(file, each)]
