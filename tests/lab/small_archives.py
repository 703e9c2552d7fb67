"""Small archives of container images, and small disks that have some."""

import http.client
import os
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

from harness import tools
from harness.containers.registry import CONFIGURATION
from harness.storage import gpt, overlay
from harness.storage.disk import Disk
from harness.storage.overlay import File, Tree
from images import layers, oci, storage

MIB = 1 << 20
START, SIZE = 1 * MIB, 24 * MIB
ONE, TWO = "docker.io/emilyls/one:v1", "docker.io/emilyls/two:v1"


def build(path: Path, name: str, content: bytes) -> oci.Built:
    """An image of one file."""
    root = path.parent / f"{path.name}.root"
    root.mkdir(parents=True)
    (root / "file").write_bytes(content)
    return oci.build(oci.Image(name, ["/file"]), root)


def make_archive(path: Path, name: str, content: bytes = b"content") -> Path:
    """An OCI archive of an image of one file."""
    oci.write_archive(build(path, name, content), path)
    return path


def make_store(archives: Sequence[Path], store: Path) -> None:
    """What `python -m images store` does."""
    places = [store.parent / f"{store.name}.{number}" for number in range(len(archives))]
    built = [image for file, place in zip(archives, places, strict=True) for image in layers.read(file, place)]
    storage.preload(built, store)
    for place in places:
        shutil.rmtree(place)


def make_disk(folder: Path, archives: Sequence[Path] = (), filled: int = 0, reserved: int = 0) -> Disk:
    """A disk whose data partition of 24 MiB has a store of `archives`, `filled` bytes of something else, and a reserve in %."""
    path, tree = folder / "disk.raw", folder / "tree"
    (tree / "data").mkdir(parents=True)
    (tree / "filled").write_bytes(os.urandom(filled))
    make_store(archives, tree / "data/oci")
    with path.open("wb") as file:
        file.truncate(26 * MIB)
    layout = f"label: gpt\nstart={START // 512}, size={SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    options = f"offset={START},root_owner=0:0"
    tools.run("mke2fs", "-q", "-t", "ext4", "-m", str(reserved), "-d", tree, "-E", options, path, f"{SIZE // 1024}k")
    return Disk.read(path, 512)


def put(disk: Disk, tree: Tree, folder: Path) -> Disk:
    """The disk with `tree` on it, as a node would get it."""
    overlay.create(disk.path, folder / "disk.qcow2", disk.size)
    overlay.inject(folder / "disk.qcow2", disk.path, START, SIZE, tree, folder / "scratch")
    overlay.flatten(folder / "disk.qcow2", folder / "flat.raw")
    return Disk.read(folder / "flat.raw", 512)


def configured(tree: Tree) -> dict[str, str]:
    """Where images are pulled from, by the prefix of their names."""
    entry = tree[CONFIGURATION]
    assert isinstance(entry, File)
    return {each["prefix"]: each["location"] for each in tomllib.loads(entry.content.decode())["registry"]}


def status_of(registry: int | None, location: str, tag: str) -> int:
    """What the registry behind a port answers a node that pulls."""
    address, _, path = location.partition("/")
    assert (address, registry is None) == ("198.51.100.1:5000", False)
    connection = http.client.HTTPConnection("127.0.0.1", registry, timeout=5)
    try:
        connection.request("HEAD", f"/v2/{path}/manifests/{tag}")
        return connection.getresponse().status
    finally:
        connection.close()
