"""What an image has of its own is kept, or named."""

import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness.errors import InputError, NodeFailure
from harness.lab import own_files
from harness.manifests.pods import StaticPod

_PLACE = PurePosixPath("/meta/etc/kubernetes/manifests")


class Image:
    """The data partition of an image, as far as it is asked."""

    path = Path("/images/kios.img")

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def folder(self, path: PurePosixPath) -> list[str]:
        found = [PurePosixPath(name).name for name in self.files if PurePosixPath(name).parent == path]
        if not found:
            raise NodeFailure("it is not there")
        return sorted(found)

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        return self.files[str(path)].encode() if str(path) in self.files else None


def image(**files: str) -> Any:
    return Image({f"{_PLACE}/{name.replace('_', '.')}": text for name, text in files.items()})


def pod(file: str, name: str, namespace: str = "kube-system") -> StaticPod:
    return StaticPod(file, {"metadata": {"name": name, "namespace": namespace}, "spec": {}})


def text(name: str, namespace: str = "kube-system") -> str:
    return f"kind: Pod\nmetadata: {{name: {name}, namespace: {namespace}}}\n"


@pytest.mark.parametrize(
    ("own", "left"),
    [
        (None, "127.0.0.1\tlocalhost\n10.0.2.15\tkios-node\n"),
        ("192.0.2.1 registry", "192.0.2.1 registry\n127.0.0.1\tlocalhost\n10.0.2.15\tkios-node\n"),
        ("::1 localhost # kios-node\n", "::1 localhost # kios-node\n10.0.2.15\tkios-node\n"),
        ("127.0.0.1 localhost\n192.0.2.2 a kios-node\n", "127.0.0.1 localhost\n192.0.2.2 a kios-node\n"),
    ],
)
def test_the_images_own_hosts_stay(own: str | None, left: str) -> None:
    there: Any = Image({} if own is None else {"/meta/etc/hosts": own})
    assert own_files.hosts(there) == left.encode()


@pytest.mark.parametrize(
    ("hostname", "line"),
    [
        ("rack-7\n", "10.0.2.15\track-7\n"),
        ("a.example", "10.0.2.15\ta.example\n"),
        ("localhost", ""),
        ("\n", "10.0.2.15\tkios-node\n"),
    ],
)
def test_a_node_finds_itself_by_the_name_that_its_image_gives_it(hostname: str, line: str) -> None:
    there: Any = Image({"/meta/etc/hostname": hostname, "/meta/etc/hosts": "127.0.0.1 localhost\n"})
    assert own_files.hosts(there) == f"127.0.0.1 localhost\n{line}".encode()


def test_a_pod_that_the_image_has_in_another_file_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"kios\.img has own\.yaml of its own, .* pod kube-system/node, as node\.yaml is: .* Name"
    ):
        own_files.check_manifests(image(own_yaml=text("node")), [pod("node.yaml", "node")], _PLACE)


def test_a_file_that_takes_the_place_of_the_images_is_named() -> None:
    with pytest.warns(UserWarning, match=r"node\.yaml takes the place of the one that /images/kios\.img has of its own"):
        own_files.check_manifests(image(node_yaml=text("node")), [pod("node.yaml", "node")], _PLACE)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"own_yaml": text("other")},
        {"own_yaml": text("node", "default")},
        {"own_yaml": "no: ["},
        {"own_yaml": ""},
        {"_own_yaml": text("node")},
    ],
    ids=["none", "another", "another namespace", "no YAML", "empty", "skipped by the kubelet"],
)
def test_what_does_not_clash_is_nobodys_business(own: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own_files.check_manifests(image(**own), [pod("node.yaml", "node")], _PLACE)
