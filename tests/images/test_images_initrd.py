"""The user's initramfs of the variant of generation B: what kiOS's kernel unpacks, read as the harness reads a user's."""

from pathlib import Path, PurePosixPath

import pytest

from harness.lab.generation import Generation, believed
from harness.lab.initramfs import Initramfs
from images import initrd, oci

_NAME = "docker.io/emilyls/tinycat:v1-alpha2"
_ETC = PurePosixPath("/meta/etc")


@pytest.fixture
def made(tmp_path: Path) -> Initramfs:
    """One with one image, and the modules of a kernel that has NVMe as one of them."""
    root, modules = tmp_path / "root", tmp_path / "modules"
    root.mkdir()
    (root / "tinycat").write_bytes(b"\x7fELF")
    (modules / "6.12.1").mkdir(parents=True)
    (modules / "6.12.1/modules.dep").write_text("kernel/drivers/nvme/host/nvme.ko:\n")
    place = tmp_path / "place"
    place.mkdir()
    initrd.write(modules, [oci.build(oci.Image(_NAME, ["/tinycat"]), root)], place / "initrd")
    assert [file.name for file in place.iterdir()] == ["initrd"], "more is left than what make-initramfs leaves"
    return Initramfs.read(place / "initrd")


def test_it_is_one_stream_of_lzma(made: Initramfs) -> None:
    # Properties lc=3, lp=0, pb=2: what the kernel tells LZMA by (lib/decompress.c).
    assert made.path.read_bytes().startswith(b"\x5d\x00\x00")


def test_its_modules_tell_the_generation(made: Initramfs) -> None:
    assert believed(made.modules()).generation is Generation.B


def test_its_images_are_found_where_its_storage_conf_says(made: Initramfs) -> None:
    assert made.image_names() == {_NAME}


def test_its_configuration_and_its_pod_are_the_users(made: Initramfs) -> None:
    assert b"staticPodPath: /etc/kubernetes/manifests" in (made.file_if_there(_ETC / "kubernetes/config.yaml") or b"")
    assert made.folder(_ETC / "kubernetes/manifests") == ["node.yaml"]


def test_another_configuration_is_another_initramfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = initrd.recipe()
    monkeypatch.setattr(initrd, "_ETC", tmp_path)
    other = initrd.recipe()
    (tmp_path / "config.yaml").write_text("kind: KubeletConfiguration\n")
    monkeypatch.setattr(initrd, "_CONFIGURATION", tmp_path / "config.yaml")
    assert len({before, other, initrd.recipe()}) == 3
