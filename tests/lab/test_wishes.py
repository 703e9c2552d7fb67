"""What a scenario wants of a machine: it gets that, the test's mark stands behind it, and the run's options behind both."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import InputError
from harness.lab import wanted
from harness.lab.maker import NewNode, Wishes
from harness.lab.size import size_in_bytes
from harness.lab.wanted import Wanted
from harness.storage.disk import Disk
from harness.storage.overlay import Tree
from harness.vm.machine import Machine

MACHINE = Machine(1 << 30, kernel_arguments=("quiet",))


@pytest.mark.parametrize(
    ("size", "count"), [(4096, 4096), ("4096", 4096), ("512M", 512 << 20), ("4G", 4 << 30), ("2t", 2 << 40), ("1K", 1024)]
)
def test_a_size_is_bytes_or_words(size: int | str, count: int) -> None:
    assert size_in_bytes(size) == count


@pytest.mark.parametrize("size", ["", "G", "4GB", "1.5G", "-1G", " 4G", "4 G", "٤G", 1.5])
def test_other_words_are_no_size(size: Any) -> None:
    with pytest.raises(InputError, match="is no size"):
        size_in_bytes(size)


def test_what_is_not_wished_for_stays() -> None:
    assert Wishes().applied_to(MACHINE) == MACHINE
    machine = Wishes(disk_size="4G", memory="768M", nic="e1000e", cpus=2).applied_to(MACHINE)
    assert machine == Machine(4 << 30, memory=768 << 20, nic="e1000e", cpus=2, kernel_arguments=("quiet",))


def test_no_kernel_arguments_are_a_wish() -> None:
    assert Wishes(kernel_arguments=[]).applied_to(MACHINE).kernel_arguments == ()


@pytest.mark.parametrize(
    "wishes", [Wishes(disk_size=0), Wishes(cpus=0), Wishes(nic="rtl8139"), Wishes(memory="64M"), Wishes(disk_size="4")]
)
def test_a_machine_that_cannot_be_is_refused(wishes: Wishes) -> None:
    with pytest.raises(InputError):
        wishes.applied_to(MACHINE)


def test_a_call_goes_before_the_mark_and_the_image_under_test_is_the_default() -> None:
    class Maker:
        """Hands back what is ordered."""

        def order(self, image: Disk, pods: object, files: Tree | None, wishes: Wishes) -> Any:
            return SimpleNamespace(image=image, wishes=wishes)

    maker, tested, other = Maker(), SimpleNamespace(path=Path("tested")), SimpleNamespace(path=Path("other"))
    order: Any = lambda order: order  # noqa: E731
    new_node: Any = NewNode(maker, order, lambda: tested, Wishes(cpus=2, nic="e1000e"))  # type: ignore[arg-type, return-value]
    assert new_node(nic="e1000").wishes == Wishes(cpus=2, nic="e1000")
    assert new_node().image is tested
    assert new_node(other, []).image is other


def test_what_was_brought_for_other_blocks_is_refused(tmp_path: Path) -> None:
    disk: Any = SimpleNamespace(path=tmp_path / "a.img", table=SimpleNamespace(sector_size=512))
    brought: Any = SimpleNamespace(disk=disk)
    for asked in (None, 512):
        assert Wanted(sector_size=asked).tested(brought, lambda: tmp_path) is disk
    with pytest.raises(InputError, match="made for blocks of 512 bytes, not 4096"):
        Wanted(sector_size=4096).tested(brought, lambda: tmp_path)


@pytest.mark.parametrize(("asked", "name"), [(None, "kios.img"), (512, "kios.img"), (4096, "kios-4k.img")])
def test_the_reference_image_is_the_one_for_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, name: str
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(wanted, "open_image", opened.append)
    Wanted(sector_size=asked).tested(None, lambda: tmp_path)
    assert opened == [tmp_path / name]
