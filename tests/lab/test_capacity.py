"""What nodes may take: the least of the machine and of all control groups above, of both versions."""

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.lab.admission import QEMU_ITSELF, Need
from harness.lab.capacity import capacity, limited, refuse_what_never_fits, shared

_GIB = 1 << 30
_MACHINE = Need(64 * _GIB, 32.0)


def limits(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_without_groups_all_of_the_machine_counts(tmp_path: Path) -> None:
    assert limited(_MACHINE, "", tmp_path) == _MACHINE
    assert limited(_MACHINE, "0::/gone/long/ago\n", tmp_path) == _MACHINE


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    limits(tmp_path / "kubepods", memory__max=str(16 * _GIB), cpu__max="250000 100000")
    limits(tmp_path / "kubepods/pod", memory__max="max", cpu__max="max 100000")
    limits(tmp_path / "kubepods/pod/container", memory__max=str(20 * _GIB), cpu__max="400000 100000")
    limits(tmp_path / "kubepods/other", memory__max="1", cpu__max="1000 100000")
    assert limited(_MACHINE, "0::/kubepods/pod/container\n", tmp_path) == Need(16 * _GIB, 2.5)


def test_a_containers_own_group_is_what_is_mounted(tmp_path: Path) -> None:
    limits(tmp_path, memory__max=str(4 * _GIB), cpu__max="50000 100000")
    assert limited(_MACHINE, "0::/\n", tmp_path) == Need(4 * _GIB, 0.5)
    assert limited(_MACHINE, "0::/../../outside\n", tmp_path) == Need(4 * _GIB, 0.5)


def test_the_first_version_counts_too(tmp_path: Path) -> None:
    limits(tmp_path / "memory", memory__limit_in_bytes=str(8 * _GIB))
    limits(tmp_path / "memory/docker", memory__limit_in_bytes="9223372036854771712")
    limits(tmp_path / "cpu,cpuacct/docker", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    own = "12:memory:/docker\n4:cpu,cpuacct:/docker\n1:name=systemd:/docker\n"
    assert limited(_MACHINE, own, tmp_path) == Need(8 * _GIB, 1.5)


def test_a_quota_of_minus_one_is_none(tmp_path: Path) -> None:
    limits(tmp_path / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert limited(_MACHINE, "4:cpu:/\n", tmp_path) == _MACHINE


def test_a_looser_group_gives_no_more_than_the_machine_has(tmp_path: Path) -> None:
    limits(tmp_path, memory__max=str(640 * _GIB), cpu__max="6400000 100000")
    assert limited(_MACHINE, "0::/\n", tmp_path) == _MACHINE


def test_this_very_host_has_some() -> None:
    here = capacity()
    assert here.memory > 0
    assert here.cpus > 0


def test_nodes_that_idle_now_and_then_share_cpus_and_no_memory() -> None:
    assert shared(Need(4 * _GIB, 2.0)) == Need(4 * _GIB, 3.0)


def test_what_never_fits_is_refused_with_what_would() -> None:
    limit = Need(4 * _GIB + QEMU_ITSELF, 1.0)
    refuse_what_never_fits(4 * _GIB, limit)
    with pytest.raises(InputError, match="never fits here"):
        refuse_what_never_fits(4 * _GIB + 1, limit)
    with pytest.raises(InputError, match=r"40\.0 GiB of memory never fits here: nodes may take 4\.0 GiB in all.*--memory"):
        refuse_what_never_fits(40 * _GIB, limit)
