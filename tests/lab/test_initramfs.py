"""The user's initramfs of generation B: what is read out of it, and what is merged."""

import json
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from harness.errors import InputError
from harness.lab.initramfs import OWN_STORE, STORAGE_CONF, Initramfs, on_node
from harness.storage import cpio

STORE = PurePosixPath("/var/lib/containers/initial-storage")
NAMED = f'[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["{STORE}"]\n'.encode()


def initramfs(folder: Path, files: dict[PurePosixPath, bytes]) -> Initramfs:
    file = folder / "initramfs"
    file.write_bytes(cpio.archive(files))
    return Initramfs.read(file)


def test_what_configures_a_node_is_read(tmp_path: Path) -> None:
    config = PurePosixPath("/etc/kubernetes/config.yaml")
    read = initramfs(tmp_path, {config: b"a: b", PurePosixPath("/etc/large"): bytes(cpio.MOST_OF_A_FILE + 1)})
    assert read.files == {config: b"a: b"}
    assert read.file_if_there(PurePosixPath("/meta/etc/kubernetes/config.yaml")) == b"a: b"
    assert read.folder(PurePosixPath("/meta/etc/kubernetes")) == ["config.yaml"]


def test_pods_are_known_wherever_its_kubelet_may_look_for_them(tmp_path: Path) -> None:
    read = initramfs(tmp_path, {PurePosixPath(f"/etc/pods/{name}"): b"" for name in ("a.yaml", "b.json", "c.txt")})
    assert read.folder(PurePosixPath("/meta/etc/pods")) == ["a.yaml", "b.json"]


def test_its_modules_are_listed(tmp_path: Path) -> None:
    read = initramfs(tmp_path, {PurePosixPath("/lib/modules/6.12.9/modules.dep"): b"kernel/nvme-core.ko.xz:\n"})
    assert read.modules() == {"6.12.9": {"nvme_core"}}


def test_images_count_where_storage_conf_names_their_store(tmp_path: Path) -> None:
    images = {STORE / "overlay-images/images.json": json.dumps([{"id": "1", "names": ["quay.io/a:1"]}]).encode()}
    assert initramfs(tmp_path, {**images, STORAGE_CONF: NAMED}).image_names() == {"quay.io/a:1"}
    assert initramfs(tmp_path, images).image_names() == frozenset()


@pytest.mark.parametrize(
    ("conf", "stores"),
    [
        (None, []),
        (NAMED, [str(STORE)]),
        (b'[storage]\ndriver = "overlay"\n[storage.options]\nsize = "1"\n', []),
        (b"[storage.options]\nadditionalimagestores = [\n]\n", []),
    ],
)
def test_the_harnesss_store_comes_before_the_users(tmp_path: Path, conf: bytes | None, stores: list[str]) -> None:
    merged = tomllib.loads(initramfs(tmp_path, {STORAGE_CONF: conf} if conf else {}).storage_conf().decode())
    assert merged["storage"]["options"]["additionalimagestores"] == [str(OWN_STORE), *stores]


@pytest.mark.parametrize("conf", [b"not = [toml", b"storage = 1", b"[storage]\noptions = {size = '1'}"])
def test_a_storage_conf_that_cannot_be_merged_is_the_users(tmp_path: Path, conf: bytes) -> None:
    with pytest.raises(InputError, match=r"storage\.conf"):
        initramfs(tmp_path, {STORAGE_CONF: conf}).storage_conf()


def test_places_on_the_data_partition_are_those_at_run_time() -> None:
    assert on_node(PurePosixPath("/meta/etc/hosts")) == PurePosixPath("/etc/hosts")
    assert on_node(PurePosixPath("/meta/log/a")) == PurePosixPath("/var/log/a")
    assert on_node(PurePosixPath("/elsewhere")) == PurePosixPath("/elsewhere")
