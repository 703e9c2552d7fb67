"""The configuration inside an image's EFI binary: merged, kept or named, never lost in silence."""

import struct
import uuid
from pathlib import Path, PurePosixPath

import pytest
import yaml

from harness import tools
from harness.errors import InputError
from harness.guest.credentials import Credentials
from harness.lab import brought as brought_image
from harness.lab import injection
from harness.lab.built_in import BuiltIn, Overlaid
from harness.lab.initramfs import STORAGE_CONF, Initramfs
from harness.lab.order import Order
from harness.lab.own_files import OwnPods
from harness.manifests.pods import StaticPod
from harness.storage import cpio, gpt, overlay
from harness.storage.disk import Disk
from harness.storage.overlay import File, Tree
from harness.vm.machine import Machine

_START, _SIZE = 1 << 20, 6 << 20
_ESP_START, _ESP_SIZE = 8 << 20, 4 << 20
_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_CONFIG = PurePosixPath("/etc/kubernetes/config.yaml")
_HOSTS = PurePosixPath("/etc/hosts")
_ON_DISK = PurePosixPath("/meta/etc")
_FILES = {
    _CONFIG: b"kind: KubeletConfiguration\nmaxPods: 7\nstaticPodPath: /etc/kubernetes/manifests\n"
    b"authentication: {x509: {clientCAFile: /etc/kubernetes/ca.pem}}\n",
    PurePosixPath("/etc/kubernetes/ca.pem"): b"THEIRS\n",
    PurePosixPath("/etc/kubernetes/manifests/node.yaml"): b"kind: Pod\nmetadata: {name: node, namespace: kube-system}\n",
    _HOSTS: b"192.0.2.1 registry\n",
}


def kernel(files: dict[PurePosixPath, bytes]) -> bytes:
    """An EFI binary, not packed, with an initramfs inside (kernel, Documentation/arch/x86/boot.rst)."""
    payload = b"\x7fELF" + bytes(500) + cpio.archive(files) + bytes(4)
    head = bytearray(2 * 512)
    head[:2], head[0x1F1], head[0x202:0x206] = b"MZ", 1, b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    return bytes(head) + payload


def image(folder: Path, binary: bytes, on_data: dict[str, str]) -> Path:
    """A raw disk: a data partition with these files, and an EFI System Partition with this EFI binary."""
    tree, raw, loader = folder / "tree", folder / "kios.img", folder / "Bootx64.efi"
    for name, text in {"meta/etc/.keep": "", **on_data}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    raw.write_bytes(bytes(16 << 20))
    layout = f"label: gpt\nstart={_START // 512}, size={_SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", raw, input=f"{layout}start={_ESP_START // 512}, size={_ESP_SIZE // 512}, type={_ESP}\n".encode())
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", f"offset={_START}", raw, f"{_SIZE // 1024}k")
    loader.write_bytes(binary)
    esp = f"{raw}@@{_ESP_START}"
    tools.run("mformat", "-i", esp, "-T", str(_ESP_SIZE // 512), "::")
    tools.run("mmd", "-i", esp, "::EFI", "::EFI/Boot")
    tools.run("mcopy", "-i", esp, loader, "::EFI/Boot/Bootx64.efi")
    return raw


def given(
    folder: Path,
    raw: Path,
    pods: list[StaticPod] | None = None,
    own_pods: OwnPods = OwnPods.RUN,
    files: Tree | None = None,
) -> Disk:
    """What a node's disk holds after all was put on it."""
    brought = brought_image.of_file(raw, folder / "cache")
    console = StaticPod("kios-e2e.yaml", {"metadata": {"name": "kios-e2e"}, "spec": {"containers": []}})
    order = Order(
        brought.disk, Machine(1 << 30), pods or [], console, files or {}, built_in=brought.built_in, own_pods=own_pods
    )
    disk, artifacts = folder / "disk.qcow2", folder / "artifacts"
    artifacts.mkdir()
    overlay.create(raw, disk, 32 << 20)
    injection.inject(order, Credentials.make(folder), disk, folder / "scratch", artifacts)
    overlay.flatten(disk, folder / "flat.raw")
    return Disk.read(folder / "flat.raw", 512)


def test_the_configuration_of_an_image_whose_data_partition_has_none_is_merged(tmp_path: Path) -> None:
    disk = given(tmp_path, image(tmp_path, kernel(_FILES), {}))
    config = yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))
    assert config == {
        "kind": "KubeletConfiguration",
        "maxPods": 7,
        "staticPodPath": "/etc/kubernetes/manifests",
        "authentication": {"x509": {"clientCAFile": "/etc/kubernetes/kios-e2e-ca.pem"}},
    }
    assert disk.file(_ON_DISK / "kubernetes/kios-e2e-ca.pem").startswith(b"THEIRS\n-----BEGIN")
    assert disk.file(_ON_DISK / "hosts") == b"192.0.2.1 registry\n127.0.0.1\tlocalhost\n10.0.2.15\tkios-node\n"


def test_what_is_on_the_data_partition_hides_what_is_built_in(tmp_path: Path) -> None:
    config = "maxPods: 9\nstaticPodPath: /etc/kubernetes/manifests\n"
    own = {"meta/etc/kubernetes/config.yaml": config, "meta/etc/hosts": "192.0.2.9 b\n"}
    disk = given(tmp_path, image(tmp_path, kernel(_FILES), own))
    assert yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))["maxPods"] == 9
    assert disk.file(_ON_DISK / "hosts").startswith(b"192.0.2.9 b\n127")


def test_pods_are_put_where_the_images_kubelet_looks_for_them(tmp_path: Path) -> None:
    config = {
        "meta/etc/kubernetes/config.yaml": "kind: KubeletConfiguration\nstaticPodPath: /etc/pods\n",
        "meta/etc/pods/node.yaml": "kind: Pod\n",
    }
    node = StaticPod("node.yaml", {"metadata": {"name": "node"}, "spec": {"containers": []}})
    with pytest.warns(UserWarning, match=r"node\.yaml takes the place of the one that .*kios\.img has of its own"):
        disk = given(tmp_path, image(tmp_path, kernel({}), config), [node])
    assert disk.folder(_ON_DISK / "pods") == ["kios-e2e.yaml", "node.yaml"]
    assert "manifests" not in disk.folder(_ON_DISK / "kubernetes")


def test_what_a_scenario_lays_over_the_images_configuration_is_merged_too(tmp_path: Path) -> None:
    config = b"kind: KubeletConfiguration\nmaxPods: 9\nstaticPodPath: /etc/pods\n"
    config += b"authentication: {x509: {clientCAFile: /etc/kubernetes/laid.pem}}\n"
    laid: Tree = {
        _ON_DISK / "kubernetes/config.yaml": File(config),
        _ON_DISK / "kubernetes/laid.pem": b"LAID\n",
        _ON_DISK / "hosts": b"192.0.2.9 mirror\n",
    }
    disk = given(tmp_path, image(tmp_path, kernel(_FILES), {"meta/etc/hosts": "192.0.2.1 registry\n"}), files=laid)
    merged = yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))
    assert merged["maxPods"] == 9
    assert merged["authentication"]["x509"]["clientCAFile"] == "/etc/kubernetes/kios-e2e-ca.pem"
    assert disk.file(_ON_DISK / "kubernetes/kios-e2e-ca.pem").startswith(b"LAID\n-----BEGIN CERTIFICATE-----")
    assert disk.file(_ON_DISK / "hosts") == b"192.0.2.9 mirror\n127.0.0.1\tlocalhost\n10.0.2.15\tkios-node\n"
    assert disk.folder(_ON_DISK / "pods") == ["kios-e2e.yaml"]


def test_a_file_in_the_place_of_a_pods_manifest_is_refused(tmp_path: Path) -> None:
    node = StaticPod("node.yaml", {"metadata": {"name": "node"}, "spec": {"containers": []}})
    there = _ON_DISK / "kubernetes/manifests/node.yaml"
    with pytest.raises(InputError, match=f"{there} is given twice, as a file and as the manifest of a pod"):
        given(tmp_path, image(tmp_path, kernel({}), {}), [node], files={there: b"kind: Pod\n"})


def test_a_manifest_that_is_built_in_is_replaced_with_a_warning_or_refused(tmp_path: Path) -> None:
    raw = image(tmp_path, kernel(_FILES), {"meta/etc/kubernetes/manifests/own.yaml": "kind: Pod\nmetadata: {name: own}\n"})
    node = StaticPod("node.yaml", {"metadata": {"name": "node", "namespace": "kube-system"}, "spec": {"containers": []}})
    with pytest.warns(UserWarning, match=r"node\.yaml takes the place of the one that .*kios\.img has of its own"):
        given(tmp_path, raw, [node])
    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"kios\.img has node\.yaml of its own, which is the pod kube-system/node"):
        given(tmp_path / "again", raw, [StaticPod("mine.yaml", node.manifest)])


def test_an_image_that_cannot_be_looked_into_is_told_and_taken_for_kioss(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"EFI binary of .*kios\.img cannot be looked into \(it is no Linux kernel for x86\)"):
        disk = given(tmp_path, image(tmp_path, b"MZ" + bytes(2000), {}))
    assert yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))["shutdownGracePeriod"] == "30s"


def test_pods_that_an_image_brings_do_not_run_beside_a_tests(tmp_path: Path) -> None:
    own = {"meta/etc/kubernetes/manifests/own.yaml": "kind: Pod\nmetadata: {name: node, namespace: kube-system}\n"}
    node = StaticPod("node.yaml", {"metadata": {"name": "node", "namespace": "kube-system"}, "spec": {"containers": []}})
    with pytest.warns(UserWarning, match=r"kios\.img has pods of its own, which do not run .* of node\.yaml, own\.yaml\."):
        disk = given(tmp_path, image(tmp_path, kernel(_FILES), own), [], OwnPods.LEFT_OUT)
    assert disk.folder(_ON_DISK / "kubernetes/manifests") == ["own.yaml"]
    assert disk.folder(_ON_DISK / "kubernetes/kios-e2e") == ["kios-e2e.yaml"]
    assert yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))["staticPodPath"] == "/etc/kubernetes/kios-e2e"
    (tmp_path / "again").mkdir()
    with pytest.warns(UserWarning, match=r"of own\.yaml\."):
        disk = given(tmp_path / "again", tmp_path / "kios.img", [node], OwnPods.LEFT_OUT)
    assert disk.folder(_ON_DISK / "kubernetes/kios-e2e") == ["kios-e2e.yaml", "node.yaml"]


def test_a_pod_that_takes_the_place_of_the_only_one_that_an_image_brings_runs_in_it(tmp_path: Path) -> None:
    node = StaticPod("node.yaml", {"metadata": {"name": "node"}, "spec": {"containers": []}})
    with pytest.warns(UserWarning, match=r"node\.yaml takes the place of"):
        disk = given(tmp_path, image(tmp_path, kernel(_FILES), {}), [node], OwnPods.LEFT_OUT)
    assert yaml.safe_load(disk.file(_ON_DISK / "kubernetes/config.yaml"))["staticPodPath"] == "/etc/kubernetes/manifests"


def test_why_it_cannot_be_looked_into_is_shown_as_words(tmp_path: Path) -> None:
    named = PurePosixPath("/etc/kubernetes/\x1b[2J")
    binary = kernel({named: bytes(cpio.MOST_OF_A_FILE + 1)})
    with pytest.warns(UserWarning, match=r"its /etc/kubernetes/\\x1b\[2J has"):
        assert not BuiltIn(tmp_path, lambda: binary, tmp_path / "kept")


def test_it_is_read_when_it_is_asked_for_and_once(tmp_path: Path) -> None:
    read = list[int]()

    def binary() -> bytes:
        read.append(1)
        return kernel(_FILES)

    built_in = BuiltIn(tmp_path, binary, tmp_path / "kept")
    assert not read
    assert (built_in[_HOSTS], len(built_in), len(read)) == (_FILES[_HOSTS], len(_FILES), 1)
    assert dict(BuiltIn(tmp_path, binary, tmp_path / "kept")) == _FILES, "another process finds them as they were kept"
    assert len(read) == 1


def test_a_users_initramfs_is_over_what_is_built_in(tmp_path: Path) -> None:
    conf = b'[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["/theirs"]\n'
    (tmp_path / "initrd").write_bytes(cpio.archive({_HOSTS: b"192.0.2.7 c\n"}))
    read = Initramfs.read(tmp_path / "initrd", {**_FILES, STORAGE_CONF: conf})
    assert read.file_if_there(_ON_DISK / "hosts") == b"192.0.2.7 c\n"
    assert read.file_if_there(_ON_DISK / "kubernetes/config.yaml") == _FILES[_CONFIG]
    assert read.folder(_ON_DISK / "kubernetes/manifests") == ["node.yaml"]
    assert b'"/theirs"' in read.storage_conf()
    assert Initramfs.read(tmp_path / "initrd").file_if_there(_ON_DISK / "kubernetes/config.yaml") is None


def test_a_data_partition_without_manifests_has_those_that_are_built_in(tmp_path: Path) -> None:
    raw = image(tmp_path, kernel(_FILES), {})
    there = Overlaid(Disk.read(raw, 512), _FILES)
    assert there.folder(_ON_DISK / "kubernetes/manifests") == ["node.yaml"]
    assert there.folder(PurePosixPath("/nowhere")) == []
