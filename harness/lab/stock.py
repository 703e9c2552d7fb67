"""Container images at hand for nodes whose disk lacks them: put on the disk, or served to the node where that has no room."""

import functools
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.containers import preload, reference
from harness.containers.registry import CONFIGURATION, Registry
from harness.errors import HarnessError
from harness.lab import builder, cache
from harness.storage.disk import Disk
from harness.storage.overlay import File, Tree
from harness.vm.machine import REGISTRY

# CRI-O's own, for every pod (kiOS contract).
PAUSE = "registry.k8s.io/pause:3.6"
# A kubelet evicts pods where less than 15 % are free (Kubernetes, imagefs.available); a booting node writes logs too.
_STAYS_FREE = 0.2
_GZIP = b"\x1f\x8b"
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class Supplies:
    """What a node is given for its container images: files for its data partition, and a registry's port on 127.0.0.1."""

    files: Tree
    registry: int | None = None


@dataclass(frozen=True)
class Stock:
    """OCI archives: those of the folder that `reference` finds when it is needed, and those that were named.

    Stores made of them are kept in the folder `cache`.
    """

    reference: Callable[[], Path]
    named: tuple[Path, ...]
    cache: Path

    def supply(self, disk: Disk, names: Iterable[str], served: ExitStack) -> Supplies:
        """Returns what a node on a disk needs to have the images `names`; nothing for a disk that has them.

        A disk that lacks one is given all that is at hand: pods may be handed to the node later. What the data partition has
        no room for comes from a registry, which is served until `served` ends. Raises HarnessError for an image that is
        neither on the disk nor at hand.
        """
        lacking = preload.missing(disk, [PAUSE, *names])
        if not lacking:
            return Supplies({})
        archives = self._archives()
        unknown = [name for name in lacking if str(reference.parse(name)) not in archives]
        if unknown:
            raise HarnessError(
                f"{', '.join(unknown)}: no such image is in the store of {disk.path} or among the archives at hand "
                f"({', '.join(sorted(archives))}). Give its OCI archive: --container FILE (skopeo copy ... oci-archive:FILE)."
            )
        superblock = disk.superblock()
        room = superblock.free - _STAYS_FREE * superblock.size
        stored: list[Path] = []
        rest: list[str] = []
        for name in dict.fromkeys([*map(str, map(reference.parse, lacking)), *preload.missing(disk, archives)]):
            size = _size_unpacked(archives[name])
            if size < room:
                room -= size
                stored.append(archives[name])
            else:
                rest.append(name)
        tree = dict(preload.files(disk, self._store(stored, served))) if stored else {}
        if not rest:
            return Supplies(tree)
        registry = served.enter_context(Registry.serve([archives[name] for name in rest]))
        address = "{}:{}".format(*REGISTRY)
        tree[CONFIGURATION] = File(Registry.configuration(address, (reference.parse(name).repository for name in rest)))
        return Supplies(tree, registry.port)

    def _archives(self) -> Mapping[str, Path]:
        """The archives by the full names of their images; one that was named goes before the reference image's."""
        files = [*sorted((self.reference() / "containers").glob("*.tar")), *self.named]
        return {_name_in(file): file for file in files}

    def _store(self, archives: Sequence[Path], used: ExitStack) -> Path:
        key = hashlib.sha256("".join(_digest_of(archive) for archive in archives).encode()).hexdigest()[:16]
        store = self.cache / f"store-{key}"

        def make(making: Path) -> None:
            builder.ask("store", *archives, "--output", making)

        return used.enter_context(cache.kept(store, Path.exists, make))


def _name_in(archive: Path) -> str:
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("index.json")
            annotations = json.load(member)["manifests"][0].get("annotations") or {} if member else {}
    except (OSError, tarfile.TarError, KeyError, ValueError, IndexError, TypeError) as broken:
        raise HarnessError(
            f"{archive} is no OCI archive ({broken}): make one with skopeo copy ... oci-archive:FILE"
        ) from broken
    name = next((annotations[key] for key in _NAMES if "/" in annotations.get(key, "")), None)
    if name is None:
        raise HarnessError(f"{archive} does not say the full name of its image: skopeo copy ... oci-archive:FILE:HOST/PATH:TAG")
    return str(reference.parse(name))


@functools.lru_cache
def _size_unpacked(archive: Path) -> int:
    """How many bytes the image takes in a store, where its layers are not compressed."""
    with tarfile.open(archive) as tar:
        files = [(tar.extractfile(member), member.size) for member in tar]
        return sum(_unpacked(content, size) for content, size in files if content)


def _unpacked(content: IO[bytes], size: int) -> int:
    """The size of a blob, or of what gzip made it of: its last four bytes, as far as 4 GiB (RFC 1952, 2.3.1)."""
    if content.read(len(_GZIP)) != _GZIP:
        return size
    content.seek(size - 4)
    return int.from_bytes(content.read(4), "little")


@functools.lru_cache
def _digest_of(archive: Path) -> str:
    with archive.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
