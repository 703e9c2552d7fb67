"""A bundle tells all that brings its node up again, and one that tells anything else is refused."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, InputError
from harness.guest.credentials import Credentials
from harness.guest.kubelet_config import Settings
from harness.lab import bundle, parcel
from harness.lab.bundle import Failure, Surroundings
from harness.lab.remains import Remains
from harness.lab.stock import refuse_unknown
from harness.manifests.pods import StaticPod, load
from harness.storage import overlay
from harness.verdict.timeline import Passed
from harness.vm.machine import MIB, Machine

_SCENARIOS = Path(__file__).parents[2] / "scenarios/manifests"
_FAILURE = Failure("scenarios/x.py::test_x", "milestone init: the guest died\nlast words", {"QEMU": "11.1"})
_MACHINE = Machine(disk_size=64 * MIB, kernel_arguments=("loglevel=7",))
_LIMIT = 1 << 30
_KUBELET = Settings(PurePosixPath("/etc/pods"), 10350)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "kios.img"
    image.write_bytes(bytes(MIB))
    return image


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(bundle, "facts_of", lambda *_: {"image": "1"})
    code = tmp_path / "code.fd"
    code.write_bytes(b"firmware")
    accelerator = SimpleNamespace(name="tcg", cpu="Haswell-noTSX")
    return SimpleNamespace(qemu=SimpleNamespace(version=(11, 1)), accelerator=accelerator, firmware=SimpleNamespace(code=code))


class Node:
    """A node that leaves a state, unless it says why not."""

    def __init__(self, folder: Path, image: Path, why_no_state: str = "") -> None:
        self.name, self.artifacts, self._why = "node-1", folder / "artifacts/node-1", why_no_state
        (self.artifacts / "boot-1").mkdir(parents=True)
        (self.artifacts / "boot-1/console.log").write_text("words")
        pod = load(_SCENARIOS / "node.yaml")
        self.pods_given = [pod, StaticPod("bad.yaml", {"metadata": {"name": "bad"}, "spec": {"containers": 1}})]
        self.order = SimpleNamespace(image=SimpleNamespace(path=image), machine=_MACHINE, console_pod=pod, kubelet=_KUBELET)

    def leave(self, folder: Path) -> Remains:
        disk, variables = folder / "node-disk.qcow2", folder / "node-variables.fd"
        overlay.create(self.order.image.path, disk, _MACHINE.disk_size)
        variables.write_bytes(b"variables")
        passed = (Passed("firmware", 1.5), Passed("shell", 9.0))
        remains = Remains(folder, Credentials.make(folder), passed, disk, variables, self._why)
        remains.dhcp.touch()
        if not self._why:
            remains.state.write_bytes(b"state")
        return remains


def made(folder: Path, image: Path, host: Any, why_no_state: str = "") -> Path:
    node: Any = Node(folder, image, why_no_state)
    place = folder / "artifacts/node-1" / bundle.NAME
    (folder / "scratch").mkdir()
    bundle.make(node, _FAILURE, host, place, folder / "scratch", _LIMIT, lambda _: None)
    return place


def test_what_was_frozen_comes_back(tmp_path: Path, image: Path, host: Any) -> None:
    found = bundle.unpack(made(tmp_path, image, host), tmp_path / "out")
    assert found.failure == _FAILURE
    assert found.failure.sentence == "milestone init: the guest died"
    assert found.facts == {"image": "1"}
    nothing: Any = None
    assert found.order(nothing, []).kubelet == found.kubelet == _KUBELET, "where its pods go, and where it is asked"
    assert (found.machine, found.image, found.surroundings) == (_MACHINE, image, Surroundings.of(host))
    assert [(pod.file, pod.text()) for pod in found.pods] == [("node.yaml", (_SCENARIOS / "node.yaml").read_bytes())]
    assert found.milestones == (Passed("firmware", 1.5, frozen=True), Passed("shell", 9.0, frozen=True))
    remains = found.remains(tmp_path / "out", image)
    assert remains.state.read_bytes() == b"state"
    assert remains.variables.read_bytes() == b"variables"
    assert remains.credentials.token == Credentials(tmp_path / "scratch").token
    assert (tmp_path / "out/artifacts/boot-1/console.log").read_text() == "words"
    assert not list((tmp_path / "out/artifacts").glob("FAIL*"))


def test_the_node_has_the_container_images_that_it_had(tmp_path: Path, image: Path, host: Any) -> None:
    found = bundle.unpack(made(tmp_path, image, host), tmp_path / "out")
    nothing: Any = None
    order = found.order(nothing, [])
    refuse_unknown(found.pods[0].images, order.supplied, "nowhere")
    with pytest.raises(InputError, match="another:v1: no such image"):
        refuse_unknown(["another:v1"], order.supplied, "nowhere")


def test_one_that_could_not_be_frozen_says_why(tmp_path: Path, image: Path, host: Any) -> None:
    found = bundle.unpack(made(tmp_path, image, host, "its QEMU had ended"), tmp_path / "out")
    assert found.why_no_state == "its QEMU had ended"
    assert not found.remains(tmp_path / "out", image).state.exists()


def test_beyond_the_limit_no_bundle_is_left(tmp_path: Path, image: Path, host: Any) -> None:
    node: Any = Node(tmp_path, image)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(HarnessError, match="it takes more than the 0 MiB that are left for it"):
        bundle.make(node, _FAILURE, host, node.artifacts / bundle.NAME, tmp_path / "scratch", 10, lambda _: None)
    assert not list(node.artifacts.glob("FAIL*"))


def test_where_nothing_is_left_for_it_no_node_is_frozen(tmp_path: Path) -> None:
    nothing: Any = None
    with pytest.raises(HarnessError, match="nothing is left of what bundles may take here"):
        bundle.make(nothing, _FAILURE, nothing, tmp_path, tmp_path, 0, lambda _: None)


def test_all_bundles_of_a_folder_have_one_limit(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / bundle.NAME).write_bytes(bytes(40))
    assert [bundle.left(limit, tmp_path) for limit in (100, 50)] == [20, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(format=2), "format 2"),
        (lambda told: told["machine"].update(mac="52:54:00:6b:69:6f,netdev=x"), "a MAC that is none"),
        (lambda told: told["machine"].update(nic="e1000,romfile=/etc/shadow"), "no driver for the NIC"),
        (lambda told: told["machine"].update(memory="1G"), "no whole number"),
        (lambda told: told["machine"].update(cpus=True), "no whole number"),
        (lambda told: told["machine"].update(network="open,guestfwd=cmd"), "no network"),
        (lambda told: told["machine"].update(chardev="x"), "chardev"),
        (lambda told: told["surroundings"].update(accelerator="tcg,x=y"), "an accelerator that is none"),
        (lambda told: told["pods"][0].update(file="../../x.yaml"), "a manifest of the name"),
        (lambda told: told["console_pod"].update(text="{"), "console_pod is none"),
        (lambda told: told["image"].update(sha256="0"), "a SHA-256 that is none"),
        (lambda told: told["milestones"].append({"name": 1, "after": 0}), "is no text"),
        (lambda told: told["kubelet"].update(manifests="etc/pods"), "a kubelet that cannot be"),
        (lambda told: told["kubelet"].update(port=70000), "a kubelet that cannot be"),
        (lambda told: told["kubelet"].update(port="22-:22"), "no whole number"),
        (lambda told: told.update(pods={}), "it lacks state"),
        (lambda told: told.pop("machine"), "machine"),
        (lambda told: told.update(at=float("nan")), "no number of seconds"),
        (lambda told: told.update(at=1e300), "no number of seconds"),
        (lambda told: told["milestones"].append({"name": "x", "after": float("inf")}), "no number of seconds"),
    ],
)
def test_what_tells_anything_else_is_refused(
    tmp_path: Path, image: Path, host: Any, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    parcel.unpack(made(tmp_path, image, host), tmp_path / "out")
    told = json.loads(json.dumps(parcel.unpack(made(tmp_path / "2", image, host), tmp_path / "out2")))
    change(told)
    files = {file.name: file for file in (tmp_path / "out").iterdir() if file.is_file() and not words.endswith(file.name)}
    parcel.pack(tmp_path / "bad", told, files, _LIMIT)
    with pytest.raises(InputError, match=f"is no bundle of a failed node, or of another format: .*{words}"):
        bundle.unpack(tmp_path / "bad", tmp_path / "out3")


def test_one_that_lacks_any_file_is_refused(tmp_path: Path, image: Path, host: Any) -> None:
    told = parcel.unpack(made(tmp_path, image, host), tmp_path / "out")
    files = {file.name: file for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert len(files) == 11
    for name in files:
        parcel.pack(tmp_path / "bad", told, {other: file for other, file in files.items() if other != name}, _LIMIT)
        with pytest.raises(InputError, match=f"it lacks {name}"):
            bundle.unpack(tmp_path / "bad", tmp_path / f"without-{name}")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("kubelet-client.pem", b"no key", "its client certificate or its token is none"),
        ("token", b"\xff\xfe", "its client certificate or its token is none"),
        ("disk.qcow2", None, "its disk cannot be read: qemu-img failed"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, image: Path, host: Any, name: str, content: bytes | None, words: str
) -> None:
    found = bundle.unpack(made(tmp_path, image, host), tmp_path / "out")
    file = tmp_path / "out" / name
    # Of a disk, a header that passes before what is none.
    file.write_bytes(file.read_bytes()[:104] + b"\xff" * 4096 if content is None else content)
    with pytest.raises(InputError, match=words):
        found.remains(tmp_path / "out", image)


def test_surroundings_tell_how_others_differ(host: Any) -> None:
    here = Surroundings.of(host)
    assert here.unlike(here) == ""
    assert here.unlike(replace(here, qemu="12.0")) == "qemu 11.1 here, 12.0 there"
    assert asdict(here)["processor"] == "emulated"
