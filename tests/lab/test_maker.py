"""The nodes of a test end with it, all of them, whichever of them fails to."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from harness.containers import preload, reference
from harness.containers.archive import ArchivedImage
from harness.errors import HarnessError, InputError
from harness.guest.credentials import Credentials
from harness.lab import maker, processor
from harness.lab.failed_boots import Blocked, FailedBoots
from harness.lab.maker import NodeMaker
from harness.lab.node import Folders, Node
from harness.lab.order import Order
from harness.lab.own_files import OwnPods
from harness.lab.stock import Supplies
from harness.lab.template import Template
from harness.manifests.pods import StaticPod
from harness.storage import disk
from harness.vm.machine import Machine


def make_maker(folder: Path) -> NodeMaker:
    nothing: Any = None
    return NodeMaker(nothing, folder, folder / "artifacts", nothing, nothing)


def node(name: str, close: Callable[[], None]) -> Any:
    return SimpleNamespace(artifacts=Path(name), close=close)


def test_a_node_that_cannot_be_ended_leaves_no_other_and_no_lock(tmp_path: Path) -> None:
    made, ended = make_maker(tmp_path), list[str]()

    def fail() -> None:
        raise HarnessError("the disk is full")

    made.nodes += [node("one", lambda: ended.append("one")), node("two", fail), node("three", lambda: ended.append("three"))]
    made._in_use.callback(ended.append, "template")
    with pytest.raises(HarnessError, match="the disk is full"):
        made.close()
    assert sorted(ended[:2]) == ["one", "three"]
    assert ended[2:] == ["template"], "a template is in use until the last of its clones has ended"


def test_each_template_of_a_test_has_artifacts_of_its_own(tmp_path: Path) -> None:
    made, names = make_maker(tmp_path), list[str]()
    for _ in range(3):
        names.append(made._numbered("template"))
        made.nodes.append(node(names[-1], lambda: None))
    assert names == ["template", "template-2", "template-3"]
    assert made._next_place().artifacts.name == "node-1"


def test_files_have_their_places_as_words_or_as_paths() -> None:
    assert maker._placed({"/meta/a": b"1"}) == maker._placed({PurePosixPath("/meta/a"): b"1"})
    for wrong in ("meta/a", "/meta/../a"):
        with pytest.raises(InputError, match="no place on the data partition"):
            maker._placed({wrong: b""})


def test_a_file_that_is_no_bytes_is_refused() -> None:
    text: Any = "words"
    with pytest.raises(InputError, match="/meta/a is str: give the bytes of a file"):
        maker._placed({"/meta/a": text})


def test_a_clones_artifacts_have_the_boot_of_its_template(tmp_path: Path) -> None:
    made = make_maker(tmp_path)
    (tmp_path / "cache/boot/boot-1").mkdir(parents=True)
    (tmp_path / "cache/boot/boot-1/console.log").write_text("it booted")
    made._templates.append(Template(tmp_path / "cache", Credentials(tmp_path), ()))
    made.keep_logs()
    made.keep_logs()
    assert (tmp_path / "artifacts/template/boot-1/console.log").read_text() == "it booted"


@pytest.mark.parametrize(("cpu", "moves"), [("host", False), ("Haswell-noTSX", True)])
def test_a_frozen_node_moves_to_another_cpu_only_if_its_own_was_emulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: str, moves: bool
) -> None:
    file = tmp_path / "file"
    file.touch()
    order: Any = SimpleNamespace(image=SimpleNamespace(path=file), machine="q35", all_pods=[], files={}, own_pods=OwnPods.RUN)
    host: Any = SimpleNamespace(
        firmware=SimpleNamespace(code=file),
        qemu=SimpleNamespace(path=file, version=(11, 1)),
        accelerator=SimpleNamespace(name="kvm", cpu=cpu),
    )
    here = maker.facts_of(order, host)
    assert "flags" in processor._described()
    monkeypatch.setattr(processor, "_described", lambda: "another CPU")
    assert (maker.facts_of(order, host) == here) is moves


def test_what_did_not_come_up_blocks_what_is_made_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "kios.img"
    image.touch()

    def order(machine: str = "q35", pods: str = "a", files: Any = None) -> Any:
        return SimpleNamespace(image=SimpleNamespace(path=image), machine=machine, pods=pods, files=files or {})

    monkeypatch.setattr(Node, "prepare", lambda *_: SimpleNamespace(artifacts=Path("node-1"), close=lambda: None))
    monkeypatch.setattr(Credentials, "make", lambda _: None)
    nothing: Any = None
    boots = FailedBoots(tmp_path / "failed", "run")
    made = NodeMaker(nothing, tmp_path, tmp_path / "artifacts", nothing, nothing, boots)
    made.prepare(order()).when_it_did_not_come_up("milestone init: the guest died\nlast words")
    for other in (order(machine="q35 with 576 MiB"), order(files={Path("/etc/x"): b""})):
        made.prepare(other)
    with pytest.raises(Blocked, match=r"^kios.img did not come up: milestone init: the guest died; artifacts: .*node-1$"):
        made.prepare(order(pods="b"))


def plain(name: str, image: str) -> StaticPod:
    return StaticPod(f"{name}.yaml", {"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": image}]}})


def hungry(name: str, image: str = "localhost/a:v1") -> StaticPod:
    asked = {"requests": {"memory": "600Mi"}}
    containers = [{"name": "main", "image": image, "resources": asked}]
    return StaticPod(f"{name}.yaml", {"metadata": {"name": name}, "spec": {"containers": containers}})


@pytest.mark.parametrize("one", ["node.yaml", Path("node.yaml"), StaticPod("node.yaml", {})])
def test_one_manifest_in_the_place_of_a_list_is_refused(tmp_path: Path, one: Any) -> None:
    made = NodeMaker(SimpleNamespace(), tmp_path, tmp_path, lambda *_: Machine(1 << 30), SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is one manifest: give a list"):
        made.order(SimpleNamespace(change=""), one)  # type: ignore[arg-type]


def test_pods_that_want_more_memory_than_their_machine_has_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    def never(*_: object) -> Supplies:
        raise AssertionError("containers were looked for")

    asked: Any = SimpleNamespace(supply=never)
    made = NodeMaker(None, tmp_path, tmp_path, lambda *_: Machine(1 << 31), asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="request 1200 MiB of memory"):
        made.order(SimpleNamespace(change=""), [hungry("one"), hungry("two")])  # type: ignore[arg-type]


def test_an_image_that_was_changed_in_the_middle_of_a_run_is_not_gone_on_with(raw: Path, tmp_path: Path) -> None:
    image = disk.open_image(raw)
    nothing: Any = None
    maker = NodeMaker(nothing, tmp_path, tmp_path, lambda *_: nothing, nothing)
    os.utime(raw, (1, 1))
    with pytest.raises(InputError, match=r"kios\.img was changed in the middle of the run, which would tell of two images"):
        maker.order(image, [])
    raw.unlink()
    with pytest.raises(InputError, match=r"kios\.img is gone in the middle of the run"):
        maker.order(image, [])


@pytest.mark.parametrize(("is_served", "has_pods"), [(True, False), (True, True), (False, False)])
def test_a_node_that_can_never_have_the_harnesss_container_is_refused(tmp_path: Path, is_served: bool, has_pods: bool) -> None:
    own = ArchivedImage(tmp_path / "c.tar", [reference.parse("localhost/kios-e2e/console:v1")], [], 1, None, {})
    supplies = Supplies({}, 5000, images=[own], served=[own] if is_served else [])
    asked: Any = SimpleNamespace(supply=lambda *_: supplies)
    made = NodeMaker(None, tmp_path, tmp_path, lambda *_: Machine(1 << 31), asked)  # type: ignore[arg-type]
    image: Any = SimpleNamespace(path=Path("kios.img"), change="")
    if is_served and not has_pods:
        with pytest.raises(InputError, match=r"data partition of kios\.img has no room for the harness's own container"):
            made.order(image, [])
    else:
        assert made.order(image, [plain("one", "localhost/a:v1")] if has_pods else []).registry == 5000


@pytest.mark.parametrize("own_pods", OwnPods)
def test_what_becomes_of_an_images_own_pods_is_as_the_run_has_it(tmp_path: Path, own_pods: OwnPods) -> None:
    asked: Any = SimpleNamespace(supply=lambda *_: Supplies({}))
    made = NodeMaker(None, tmp_path, tmp_path, lambda *_: Machine(1 << 31), asked, own_pods=own_pods)  # type: ignore[arg-type]
    image: Any = SimpleNamespace(path=Path("kios.img"), change="")
    assert made.order(image, []).own_pods is own_pods


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node with one pod that wants 600 of its 1024 MiB; nothing can be written to it."""
    at_hand = ArchivedImage(tmp_path / "b.tar", [reference.parse("localhost/b:v1")], [], 1, None, {})
    config = b"kind: KubeletConfiguration\nstaticPodPath: /etc/pods\n"
    own = {"config.yaml": config, "own.yaml": b"kind: Pod\nmetadata: {name: own}\n"}
    there = {"folder": lambda _: ["own.yaml"], "file_if_there": lambda path: own.get(path.name)}
    image: Any = SimpleNamespace(path=Path("kios.img"), change="", **there)
    monkeypatch.setattr(preload, "missing", lambda _, names: [name for name in names if name != "localhost/a:v1"])
    console = StaticPod("c.yaml", {"metadata": {"name": "c"}, "spec": {"containers": []}})
    order = Order(image, Machine(1 << 31), [hungry("one")], console, {}, supplied=[at_hand])
    return Node(order, None, Credentials(tmp_path), Folders(tmp_path / "node", tmp_path / "left"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (hungry("two"), "request 1200 MiB of memory"),
        (plain("two", "localhost/nobody:v1"), "localhost/nobody:v1: no such image is in the store of kios.img"),
        (plain("one", "localhost/a:v1"), "are both the pod|Two manifests are named"),
        (replace(plain("own", "localhost/a:v1"), file="added.yaml"), "kios.img has own.yaml of its own, which is the pod"),
    ],
    ids=["memory", "image", "name", "of the image"],
)
def test_a_pod_that_a_running_node_cannot_have_is_refused_before_it_is_written(
    running: Node, pod: StaticPod, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        running.add(pod)


@pytest.mark.parametrize("image", ["localhost/a:v1", "localhost/b:v1"], ids=["on the disk", "at hand"])
def test_a_pod_whose_image_is_there_is_handed_on(running: Node, image: str) -> None:
    with pytest.raises(InputError, match="was never started"):
        running.add(plain("two", image))


def test_a_pod_is_handed_to_the_folder_that_its_nodes_kubelet_reads(running: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[PurePosixPath] = []
    monkeypatch.setattr(running, "write", lambda path, _: written.append(path))
    with pytest.raises(InputError, match="was never started"):
        running.add(plain("two", "localhost/a:v1"))
    assert written == [PurePosixPath("/etc/pods/two.yaml")]


def test_the_images_that_an_initramfs_lacks_are_known(tmp_path: Path) -> None:
    initramfs: Any = SimpleNamespace(image_names=lambda: ["docker.io/library/a:v1"])
    nothing: Any = None
    order = Order(nothing, Machine(1 << 31), [], nothing, {}, initramfs=initramfs)
    assert order.lacking(["docker.io/library/a:v1", "localhost/b:v1"]) == ["localhost/b:v1"]
