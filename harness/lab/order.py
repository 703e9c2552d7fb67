"""A node to be: all that it is made of, decided before anything of it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.containers import preload, reference
from harness.containers.archive import ArchivedImage
from harness.lab.built_in import Overlaid
from harness.lab.initramfs import LOADED, Initramfs
from harness.lab.own_files import Shipped
from harness.manifests.pods import StaticPod
from harness.storage.disk import Disk
from harness.storage.overlay import Tree
from harness.vm.machine import Machine


@dataclass(frozen=True)
class Order:
    """A node to be: the image it is made of, its machine, its static pods, and more files for its data partition.

    `console_pod` is the harness's own, with its agent and a shell on the console, unless one of `pods` has that.
    `registry` is the port on 127.0.0.1 of what serves container images that the disk has no room for.
    `initramfs` is the user's, for a node of generation B: the files go over it instead, with the containers in `archive`.
    `supplied` are the container images that it is given beside the image's own, `built_in` files of the initramfs inside its
    EFI binary.
    """

    image: Disk
    machine: Machine
    pods: Sequence[StaticPod]
    console_pod: StaticPod
    files: Tree
    registry: int | None = None
    initramfs: Initramfs | None = None
    archive: Path | None = None
    supplied: Sequence[ArchivedImage] = ()
    built_in: Mapping[PurePosixPath, bytes] = field(default_factory=dict)

    @property
    def load_options(self) -> tuple[str, ...]:
        """What its boot entry hands to the kernel's EFI stub; none for a node that the firmware starts by itself.

        A boot loader of the user's has words of its own for the kernel.
        """
        if self.initramfs and self.initramfs.loaded_as:
            return ()
        return (*(LOADED if self.initramfs else ()), *self.machine.kernel_arguments)

    @property
    def shipped(self) -> Shipped:
        """What its image has of its own."""
        return self.initramfs or Overlaid(self.image, self.built_in)

    def lacking(self, names: Sequence[str]) -> list[str]:
        """The container images that its image does not have."""
        if self.initramfs is None:
            return preload.missing(self.image, names)
        there = set(self.initramfs.image_names())
        return [name for name in names if str(reference.parse(name)) not in there]

    @property
    def all_pods(self) -> Sequence[StaticPod]:
        """Every pod whose manifest is put on the data partition."""
        return (*self.pods, self.console_pod)
