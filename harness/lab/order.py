"""The order for a node: everything that the node is made from, decided before it is made."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from harness.containers import preload, reference
from harness.containers.archive import ArchivedImage
from harness.guest import kubelet_config
from harness.guest.credentials import KUBELET_CONFIG
from harness.guest.kubelet_config import Settings
from harness.lab import own_files
from harness.lab.built_in import Overlaid
from harness.lab.initramfs import LOADED, Initramfs, on_data_partition
from harness.lab.own_files import Laid, OwnPods, Shipped
from harness.manifests.pods import StaticPod
from harness.storage.disk import Disk
from harness.storage.overlay import Tree
from harness.vm.machine import EARLY_CONSOLE, Machine

# The folder of a node's manifests if the image's own pods do not run.
_APART = PurePosixPath("/etc/kubernetes/kios-e2e")


@dataclass(frozen=True)
class Order:
    """The order for a node: its image, its machine, its static pods, and more files for its data partition.

    `console_pod` is the harness's own, with its agent and a shell on the console, unless one of `pods` has the console.
    `registry` is the port on 127.0.0.1 that serves container images for which the disk has no room.
    `initramfs` is the user's, for a node of generation B: the files are unpacked over it, with the container images in
    `archive`. `supplied` are the container images that the node is given besides the image's own; `built_in` are the files
    inside its EFI binary; `own_pods` says whether the image's own pods run. `known_kubelet` has the kubelet's settings if the
    node was given all this before.
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
    own_pods: OwnPods = OwnPods.RUN
    known_kubelet: Settings | None = None

    @property
    def load_options(self) -> tuple[str, ...]:
        """What the boot entry passes to the kernel's EFI stub; empty if the firmware finds the loader by itself.

        A user's boot loader has its own arguments for the kernel.
        """
        if self.initramfs and self.initramfs.loaded_as:
            return ()
        theirs = (*LOADED, *self.initramfs.kernel_arguments) if self.initramfs else ()
        return (*theirs, *self.machine.kernel_arguments)

    @property
    def is_silent(self) -> bool:
        """Whether the kernel writes nothing to the serial port before a pod has loaded the port's driver."""
        return EARLY_CONSOLE[0] not in self.load_options

    @property
    def shipped(self) -> Shipped:
        """The image's own files, with the order's files laid over them."""
        return Laid(self.initramfs or Overlaid(self.image, self.built_in), self.files)

    @functools.cached_property
    def kubelet(self) -> Settings:
        """The kubelet's settings by the image's configuration; see `kubelet_config.settings` for the errors.

        If the image has pods that are not to run, the kubelet reads another folder than theirs.
        """
        if self.known_kubelet:
            return self.known_kubelet
        return replace(self._shipped_kubelet, manifests=_APART) if self.left_out else self._shipped_kubelet

    @functools.cached_property
    def left_out(self) -> Sequence[str]:
        """The names of the image's own manifests that are not to run and that no pod replaces."""
        if self.own_pods is OwnPods.RUN:
            return []
        given = {pod.file for pod in self.all_pods}
        own = own_files.manifests(self.shipped, on_data_partition(self._shipped_kubelet.manifests))
        return [name for name in own if name not in given]

    @functools.cached_property
    def _shipped_kubelet(self) -> Settings:
        return kubelet_config.settings(self.shipped.file_if_there(KUBELET_CONFIG))

    def place_of(self, pod: StaticPod) -> PurePosixPath:
        """The path of a pod's manifest on the data partition."""
        return on_data_partition(self.kubelet.manifests) / pod.file

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Those of the container images that the image does not have."""
        if self.initramfs is None:
            return preload.missing(self.image, names)
        there = set(self.initramfs.image_names())
        return [name for name in names if str(reference.parse(name)) not in there]

    @property
    def all_pods(self) -> Sequence[StaticPod]:
        """Every pod whose manifest is put on the data partition, the harness's own last."""
        return (*self.pods, self.console_pod)
