"""An image's own files in the places where a node is given files: they are kept, or a warning says that they are not."""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Protocol

from harness.errors import InputError, NodeFailure
from harness.manifests import manifest
from harness.manifests.pods import StaticPod
from harness.storage.overlay import File, Tree

HOSTS = PurePosixPath("/meta/etc/hosts")
_HOSTNAME = PurePosixPath("/meta/etc/hostname")
_NAME = re.compile(rb"[A-Za-z0-9.-]{1,64}")
# kiOS's default name, and the first address that QEMU's user network leases: with a line of both, the kubelet finds its own
# address at once, instead of asking a DNS server that no test network has.
_DEFAULT_NAME, _ADDRESS = b"kios-node", b"10.0.2.15"


class OwnPods(StrEnum):
    """Whether pods that an image brings run beside those that a node is given, or not at all."""

    RUN = "run"
    LEFT_OUT = "left-out"


class Shipped(Protocol):
    """An image's own files: those of a disk's data partition or a user's initramfs, by their paths on the former."""

    @property
    def path(self) -> Path: ...
    def file_if_there(self, path: PurePosixPath) -> bytes | None: ...
    def folder(self, path: PurePosixPath) -> list[str]: ...


@dataclass(frozen=True)
class Laid:
    """An image's own files, with the files of a scenario laid over them."""

    image: Shipped
    files: Tree

    @property
    def path(self) -> Path:
        """The image."""
        return self.image.path

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        """A file by its path on the data partition, None if there is none."""
        match self.files.get(path):
            case bytes() as content:
                return content
            case File(content):
                return content
            case _:
                return self.image.file_if_there(path)

    def folder(self, path: PurePosixPath) -> list[str]:
        """The image's names in a folder."""
        return self.image.folder(path)


def hosts(image: Shipped) -> bytes:
    """The image's own /etc/hosts, if any, with lines added for localhost and the node's own name if it lacks them."""
    own = image.file_if_there(HOSTS) or b""
    if own and not own.endswith(b"\n"):
        own += b"\n"
    known = {name for line in own.splitlines() for name in line.partition(b"#")[0].split()[1:]}
    wanted = {b"localhost": b"127.0.0.1", _name_of(image): _ADDRESS}
    return own + b"".join(b"%s\t%s\n" % (address, name) for name, address in wanted.items() if name not in known)


def _name_of(image: Shipped) -> bytes:
    named = _NAME.match(image.file_if_there(_HOSTNAME) or b"")
    return named[0] if named else _DEFAULT_NAME


def check_manifests(image: Shipped, pods: Iterable[StaticPod], folder: PurePosixPath) -> None:
    """Raises InputError for a pod that the image already has in another file; warns of a file of the image's that is replaced.

    `folder` is where the image's manifests are on the data partition.
    """
    given = {pod.file: pod for pod in pods}
    by_name = {f"{pod.namespace}/{pod.name}": pod for pod in given.values()}
    for file in manifests(image, folder):
        if file in given:
            warnings.warn(f"{file} takes the place of the one that {image.path} has of its own.", stacklevel=2)
            continue
        reading = manifest.check(Path(file), image.file_if_there(folder / file) or b"")
        for name, _ in manifest.pods_in(reading):
            if pod := by_name.get(name):
                raise InputError(
                    f"{image.path} has {file} of its own, which is the pod {name}, as {pod.file} is: the kubelet runs one of "
                    f"them. Name {pod.file} {file}, so that it takes its place, or rename the pod."
                )


def manifests(image: Shipped, folder: PurePosixPath) -> Sequence[str]:
    """The names of the image's manifests; the kubelet's file source ignores names that begin with a dot."""
    try:
        return [name for name in image.folder(folder) if not name.startswith(".")]
    except NodeFailure:
        return []
