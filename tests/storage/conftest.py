"""What the tests of storage share."""

import shutil
from pathlib import Path

import pytest

from harness import tools
from harness.storage import gpt
from tests.storage.small_disks import LAYOUT, MIB, SIZE, START, resize


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 16 MiB with 512 byte sectors, as sfdisk partitions it; no test may write to it."""
    path = tmp_path_factory.mktemp("partitioned") / "disk.raw"
    path.touch()
    resize(path, 16 * MIB)
    tools.run("sfdisk", "-q", path, input=LAYOUT.encode())
    return path


@pytest.fixture
def disk(partitioned: Path, tmp_path: Path) -> Path:
    """A copy of that disk to be damaged: sfdisk itself takes a quarter of a second."""
    return Path(shutil.copyfile(partitioned, tmp_path / "disk.raw"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 32 MiB with an ext4 data partition that has a file /etc/old of mode 0600; no test may write to it."""
    folder = tmp_path_factory.mktemp("base")
    path = folder / "base.raw"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    layout = f"label: gpt\nstart={START // 512}, size={SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    tree = folder / "tree" / "etc"
    tree.mkdir(parents=True)
    (tree / "old").write_bytes(b"old" * 50000)
    (tree / "old").chmod(0o600)
    (tree / "kept").write_bytes(b"kept")
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree.parent, "-E", f"offset={START}", path, f"{SIZE // 1024}k")
    return path
