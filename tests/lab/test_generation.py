"""The generation of kiOS is told by facts of the input, and can be overruled."""

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.lab.generation import Belief, Generation, believed, refuse_alphas
from harness.storage import modules

A = {"6.6.12": frozenset({"virtio_net"})}


def test_nvme_among_the_modules_is_the_sign_of_b() -> None:
    belief = believed({"6.12.9": frozenset({"nvme", "nvme_core"})})
    assert belief.generation is Generation.B
    assert belief.words() == (
        "generation B: nvme is one of its modules (6.12.9), so that its init mounts no disk (--generation overrules)"
    )


def test_a_version_of_any_bytes_is_shown_as_words() -> None:
    assert "(6.12\\x1b[2J)" in believed({"6.12\x1b[2J": frozenset({"nvme"})}).words()


@pytest.mark.parametrize("listed", [A, {}])
def test_anything_else_is_a(listed: modules.Modules) -> None:
    assert believed(listed).generation is Generation.A


def test_an_alpha_is_told_by_its_kernel_and_refused() -> None:
    belief = believed({"6.3.5": frozenset({"nvme"})})
    assert belief.generation is Generation.ALPHA
    with pytest.raises(InputError, match=r"kios.img is a released alpha of kiOS \(its modules are of kernel 6.3.5"):
        refuse_alphas(belief, Path("kios.img"))


def test_the_option_overrules() -> None:
    assert believed(A, Generation.B) == Belief(Generation.B, "--generation says so")
    refuse_alphas(believed({"6.3.5": frozenset()}, Generation.A), Path("kios.img"))


def test_modules_are_named_as_the_kernel_has_them(tmp_path: Path) -> None:
    version = tmp_path / "6.12.9"
    version.mkdir()
    (version / "modules.dep").write_text("kernel/drivers/acpi/tiny-power-button.ko.xz:\nkernel/a.ko: kernel/b.ko\n")
    assert modules.in_folder(tmp_path) == {"6.12.9": frozenset({"tiny_power_button", "a"})}
