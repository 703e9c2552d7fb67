"""A disk of build outputs: kept by what it is made of, and of modules as `make modules_install` leaves them."""

from pathlib import Path, PurePosixPath

import pytest

from harness.storage.disk import open_image
from images import command, outputs
from images.cache import Cache
from images.disk import Stretch

_TOOLS = ("fakeroot", "mke2fs", "mkfs.vfat", "mcopy", "mmd")
_missing = [tool for tool in _TOOLS if not command.installed(tool)]
pytestmark = pytest.mark.skipif(bool(_missing), reason=f"not installed: {', '.join(_missing)}")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def efi(tmp_path: Path) -> Path:
    """An EFI binary, as far as it is looked at, under a name that is its own on a running machine."""
    path = tmp_path / "boot/EFI/Boot/Bootx64.efi"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"MZ" + bytes(100))
    return path


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """What `make modules_install` leaves: a link to a build tree that is large, one to a tree that is gone, and others."""
    version = tmp_path / "modules/6.1.0"
    version.mkdir(parents=True)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/vmlinux").write_bytes(b"v" * 100_000)
    (version / "build").symlink_to(tmp_path / "tree")
    (version / "source").symlink_to("/nowhere/linux")
    (version / "modules.dep").write_text("a.ko:\n")
    (version / "a.ko").write_bytes(b"a")
    (version / "alias.ko").symlink_to("a.ko")
    (version / "weak").symlink_to("../6.0.0")
    return version.parent


def test_links_to_a_build_tree_are_left_out_and_others_kept(cache: Cache, efi: Path, modules: Path) -> None:
    disk = open_image(outputs.disk_of(efi, modules, cache))
    assert disk.folder(PurePosixPath("/modules/6.1.0")) == ["a.ko", "alias.ko", "modules.dep", "weak"]
    assert disk.has_module("a")
    disk.check_filesystem()


def test_folders_of_those_names_are_kept(cache: Cache, efi: Path, modules: Path) -> None:
    (modules / "6.1.0/kernel/build").mkdir(parents=True)
    (modules / "6.1.0/kernel/build/b.ko").write_bytes(b"b")
    disk = open_image(outputs.disk_of(efi, modules, cache))
    assert disk.folder(PurePosixPath("/modules/6.1.0/kernel/build")) == ["b.ko"]


def test_the_disk_is_made_once(cache: Cache, efi: Path, modules: Path) -> None:
    first = outputs.disk_of(efi, modules, cache)
    made = first.stat()
    again = outputs.disk_of(efi, modules, cache)
    assert (again, again.stat().st_ino) == (first, made.st_ino)


@pytest.mark.parametrize("of_generation_b", [False, True])
def test_the_disk_may_have_large_blocks(cache: Cache, efi: Path, modules: Path, tmp_path: Path, of_generation_b: bool) -> None:
    (tmp_path / "initrd").write_bytes(b"a user's")
    initrd = tmp_path / "initrd" if of_generation_b else None
    usual, large = (outputs.disk_of(efi, modules, cache, initrd, size) for size in (512, 4096))
    assert usual != large
    assert open_image(large).table.sector_size == 4096
    open_image(large).check_filesystem()


@pytest.mark.parametrize("size", [512, 4096])
def test_a_users_partition_is_that_of_the_disk_as_it_is(
    cache: Cache, efi: Path, modules: Path, tmp_path: Path, size: int
) -> None:
    (tmp_path / "initrd").write_bytes(b"a user's")
    theirs = b"before" + b"p2" * 4096 + bytes(2 << 20) + b"end " * 1024 + b"behind"
    (tmp_path / "their.img").write_bytes(theirs)
    stretch = Stretch(tmp_path / "their.img", len(b"before"), len(theirs) - len(b"beforebehind"))
    made = outputs.disk_of(efi, modules, cache, tmp_path / "initrd", size, stretch)
    table = open_image(made).table
    assert table.sector_size == size
    with made.open("rb") as disk:
        disk.seek(table.partition(2).first * size)
        assert disk.read(stretch.size) == theirs[len(b"before") :][: stretch.size]
    assert table.partition(2).sectors * size == stretch.size
    (tmp_path / "their.img").write_bytes(theirs.replace(b"end", b"END"))
    assert outputs.disk_of(efi, modules, cache, tmp_path / "initrd", size, stretch) != made


@pytest.mark.parametrize("changed", ["the binary", "a module", "a name", "a link"])
def test_other_outputs_are_another_disk(cache: Cache, efi: Path, modules: Path, changed: str) -> None:
    first = outputs.disk_of(efi, modules, cache)
    match changed:
        case "the binary":
            efi.write_bytes(b"MZ" + bytes(101))
        case "a module":
            (modules / "6.1.0/new.ko").write_bytes(b"new")
        case "a name":
            (modules / "6.1.0").rename(modules / "6.1.1")
        case "a link":
            (modules / "6.1.0/weak").unlink()
            (modules / "6.1.0/weak").symlink_to("../5.0.0")
    assert outputs.disk_of(efi, modules, cache) != first
