"""A node's own: its disk as it was left, and what its host has reserved for it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import tools
from harness.errors import InputError, NodeFailure
from harness.lab import evidence
from harness.lab.admission import Need
from harness.lab.node import Folders, Node
from harness.lab.order import Order
from harness.storage import overlay
from harness.storage.disk import open_image
from harness.vm.machine import Machine
from tests.lab.small_images import START
from tests.lab.stand_ins import witnesses

_SIZE = 16 << 20


def node_on(raw: Path, folder: Path, host: Any = None) -> Node:
    """A node that was never started, with a real disk over an image."""
    image: Any = SimpleNamespace(path=raw, file_if_there=lambda _: None)
    nothing: Any = None
    made = Node(Order(image, Machine(_SIZE), [], nothing, {}), host, nothing, Folders(folder / "node", folder / "left"))
    overlay.create(raw, made.overlay, _SIZE)
    return made


def overwrite(node: Node, at: int, size: int) -> None:
    """As the node itself would."""
    tools.run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 0 {at} {size}", node.overlay)


def test_a_table_that_the_node_destroyed_is_the_nodes_failure(raw: Path, tmp_path: Path) -> None:
    node = node_on(raw, tmp_path)
    overwrite(node, 512, 512)
    with pytest.raises(NodeFailure, match="the node's disk has no partition table any more: the GPT header at LBA 1"):
        node.disk()
    with pytest.raises(NodeFailure, match="LBA 1"), node.disk_as_it_is():
        pass
    asked: Any = SimpleNamespace(execute=lambda *_: [{"node-name": "disk", "qdev": "/nvme", "stats": {}}])
    signs = evidence.of_system(witnesses(tmp_path, qmp=asked, disk=node.disk_as_it_is))
    assert [sign.partition(" has the signature")[0] for sign in signs] == [
        "the disk cannot be started from: the GPT header at LBA 1"
    ]


def test_a_partition_that_the_node_took_away_is_the_nodes_failure(raw: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.img"
    changed.write_bytes(raw.read_bytes())
    tools.run("sfdisk", "-q", "--delete", changed, "1")
    left = node_on(changed, tmp_path).disk()
    with pytest.raises(NodeFailure, match="the disk has 0 partitions of type"):
        left.superblock()


def test_a_disk_whose_filesystem_is_gone_is_read_for_what_else_is_on_it(raw: Path, tmp_path: Path) -> None:
    node = node_on(raw, tmp_path)
    overwrite(node, START, 4096)
    with node.disk_as_it_is() as disk:
        assert [each.number for each in disk.table.partitions] == [1, 2]
        with pytest.raises(NodeFailure, match="has no ext4 file system"):
            disk.superblock()


def test_what_is_found_on_a_changed_image_proves_nothing(raw: Path, tmp_path: Path) -> None:
    made = node_on(raw, tmp_path)
    nothing: Any = None
    node = Node(replace(made.order, image=open_image(raw)), nothing, nothing, Folders(tmp_path / "other", tmp_path / "left"))
    assert node.why_void == ""
    raw.chmod(0o600)
    with raw.open("ab") as file:
        file.write(b"x")
    assert node.why_void == f"{raw} was changed beneath the node's disk"


def test_the_disk_of_a_node_that_runs_is_not_read(raw: Path, tmp_path: Path) -> None:
    node = node_on(raw, tmp_path)
    running: Any = SimpleNamespace(process=SimpleNamespace(running=lambda: True))
    node._boots.append(running)
    with pytest.raises(InputError, match="power it off first"):
        node.disk()
    with pytest.raises(InputError, match="runs already"):
        node.start()


def test_a_disk_that_is_kept_outlives_its_node(raw: Path, tmp_path: Path) -> None:
    node = node_on(raw, tmp_path)
    node.variables.write_bytes(b"variables")
    node.keep_disk()
    node.close()
    assert not (tmp_path / "node").exists()
    assert (node.artifacts / "variables.fd").read_bytes() == b"variables"
    overlay.flatten(node.artifacts / "disk.qcow2", tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes()[: 8 << 20] == raw.read_bytes()


def test_a_start_that_fails_before_anything_began_reserves_nothing(raw: Path, tmp_path: Path) -> None:
    reserved: list[Need] = []

    @contextlib.contextmanager
    def reserve(need: Need, within: float) -> Iterator[Callable[[float], None]]:
        reserved.append(need)
        yield lambda cpus: None
        reserved.remove(need)

    accelerator, firmware = SimpleNamespace(slowness=1.0), SimpleNamespace(code=raw)
    host = SimpleNamespace(admission=SimpleNamespace(reserve=reserve), accelerator=accelerator, firmware=firmware, font=None)
    node = node_on(raw, tmp_path, host)
    (node.artifacts / "boot-1").touch()
    with pytest.raises(FileExistsError):
        node.start()
    assert reserved == []
