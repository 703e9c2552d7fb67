"""The variants of the reference image: each is told of, and what a release has is among what is built."""

import re
import subprocess
from pathlib import Path

import pytest

from images import containers, variant

PROJECT = Path(__file__).parents[2]


def test_every_variant_is_in_the_readme() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (PROJECT / "images/README.md").read_text(), re.MULTILINE)
    assert set(variant.VARIANTS) <= set(rows)


def test_every_flavour_of_the_kernel_packs_it_in_its_own_way() -> None:
    packed = {file.stem: re.findall(r"^CONFIG_KERNEL_(\w+)=y", file.read_text(), re.MULTILINE) for file in flavours()}
    assert packed["fast"] == ["LZ4"]
    assert packed["a"] == ["LZMA"]
    assert packed["b"] == ["LZ4"]


@pytest.mark.parametrize("flavour", ["fast", "a", "b"])
def test_only_the_kernel_of_generation_b_starts_without_a_disk(flavour: str) -> None:
    asked = (PROJECT / "images/kernel/fragment.config", PROJECT / f"images/kernel/{flavour}.config")
    # As Kconfig does it: the last word counts.
    options = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", "".join(file.read_text() for file in asked), re.MULTILINE))
    assert options["CONFIG_BLK_DEV_NVME"] == ("m" if flavour == "b" else "y")
    assert options.get("CONFIG_VFAT_FS") == ("m" if flavour == "b" else None)
    assert options["CONFIG_RD_LZMA"] == "y", "nothing unpacks what make-initramfs leaves"


@pytest.mark.parametrize(
    ("name", "handed"), [("a", ["--kios-image"]), ("b", ["--kios-efi", "--kios-initrd", "--kios-modules"])]
)
def test_ci_runs_the_variant_as_its_user_would(name: str, handed: list[str]) -> None:
    assert f"make variant VARIANT={name}\n" in (PROJECT / ".ci/run").read_text()
    words = ["make", "-n", "-s", "-C", str(PROJECT), "SETUP=true", "variant", f"VARIANT={name}"]
    recipe = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--kios-\w+", recipe) == handed
    assert [test for test in re.findall(r"scenarios/\S+", recipe) if not (PROJECT / test.partition("::")[0]).is_file()] == []


def test_a_release_has_no_image_of_the_harness() -> None:
    names = {recipe.short_name: recipe.image.name for recipe in containers.RECIPES}
    assert set(containers.RELEASED) <= names.keys()
    assert not [name for name in containers.RELEASED if "localhost" in names[name]]


def flavours() -> list[Path]:
    return sorted((PROJECT / "images/kernel").glob("*.config"))
