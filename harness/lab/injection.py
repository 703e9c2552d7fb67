"""Puts what a node is given before its first boot where its files are: on its data partition, or over its initramfs."""

import json
import warnings
from pathlib import Path

from harness.errors import InputError
from harness.guest.credentials import KUBELET_CONFIG, Credentials
from harness.lab import own_files
from harness.lab.initramfs import OWN_FILE, on_data_partition, on_node
from harness.lab.order import Order
from harness.manifests.pods import StaticPod
from harness.storage import cpio, esp, overlay
from harness.storage.overlay import Entry, File, Folder, Link, Tree


def inject(order: Order, credentials: Credentials, disk: Path, scratch: Path, artifacts: Path) -> None:
    """Puts everything that was ordered on a node's disk, an overlay, and lists it in an artifact.

    `scratch` is a folder for temporary files. Raises InputError if a file of the image's own would be hidden.
    """
    shipped, pods_in = order.shipped, order.kubelet.manifests
    if order.left_out:
        warnings.warn(
            f"{shipped.path} has pods of its own, which do not run beside a test's (--own-pods=run): its kubelet reads "
            f"{pods_in} in place of the folder of {', '.join(order.left_out)}.",
            stacklevel=2,
        )
    own_files.check_manifests(shipped, order.all_pods, on_data_partition(pods_in))
    manifests = {order.place_of(pod): pod.text() for pod in order.all_pods}
    if twice := next(filter(manifests.get, order.files), None):
        raise InputError(f"{twice} is given twice, as a file and as the manifest of a pod: leave one out.")
    files: Tree = {
        **order.files,
        own_files.HOSTS: own_files.hosts(shipped),
        **credentials.files(
            shipped.file_if_there(KUBELET_CONFIG),
            lambda path: shipped.file_if_there(on_data_partition(path)),
            pods_in if order.left_out else None,
        ),
        **manifests,
    }
    _put(files, order, disk, scratch)
    for pod in order.all_pods:
        keep_manifest(pod, artifacts)
    listed = {str(path): _described(entry) for path, entry in files.items()}
    (artifacts / "injected.json").write_text(json.dumps(listed, indent=1) + "\n")


def keep_manifest(pod: StaticPod, artifacts: Path) -> None:
    """Adds a manifest, as the node has it, to the node's artifacts."""
    manifests = artifacts / "manifests"
    manifests.mkdir(exist_ok=True)
    (manifests / pod.file).write_bytes(pod.text())


def _put(files: Tree, order: Order, disk: Path, scratch: Path) -> None:
    image = order.image
    start, size = image.extent(image.esp if order.initramfs else image.data)
    if not order.initramfs:
        overlay.inject(disk, image.path, start, size, files, scratch)
        return
    along = order.archive.read_bytes() if order.archive else b""
    own = along + cpio.archive({on_node(path): entry for path, entry in files.items()})
    if name := order.initramfs.loaded_as:
        theirs = esp.read(image, name)
        esp.put(disk, image.path, start, size, {name: theirs + bytes(-len(theirs) % 4) + own}, scratch)
    else:
        # The EFI stub puts this file directly behind the user's.
        padding = bytes(-order.initramfs.path.stat().st_size % 4)
        esp.put(disk, image.path, start, size, {OWN_FILE: padding + own}, scratch)


def _described(entry: Entry) -> object:
    match entry:
        case bytes():
            return len(entry)
        case File(content):
            return len(content)
        case Link(target):
            return f"link to {target}"
        case Folder():
            return "folder"
