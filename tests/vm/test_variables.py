"""A node's variable store, written from the real OVMF templates and read back."""

import struct
import uuid
from pathlib import Path
from typing import Any

import pytest
from virt.firmware.efi import bootentry
from virt.firmware.varstore import edk2

from harness.storage.gpt import Partition
from harness.vm import variables

_FOLDER = Path("/usr/share/OVMF")
# The smaller comes first: virt-firmware takes half a second to write the larger.
_TEMPLATES = [path for path in (_FOLDER / "OVMF_VARS.fd", _FOLDER / "OVMF_VARS_4M.fd") if path.exists()]
_ESP = Partition(
    number=1,
    type_guid=uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    guid=uuid.UUID("11111111-2222-3333-4444-555555555555"),
    first=2048,
    last=2048 + 18431,
    name="ESP",
)

pytestmark = pytest.mark.skipif(not _TEMPLATES, reason="no OVMF_VARS*.fd is installed (Debian: ovmf)")


@pytest.fixture
def template() -> Path:
    return _TEMPLATES[0]


def read(store: Path) -> dict[str, bytes]:
    listed: dict[str, Any] = edk2.Edk2VarStore(str(store)).get_varlist()
    return {name: bytes(variable.data) for name, variable in listed.items()}


@pytest.mark.parametrize("template", _TEMPLATES, ids=lambda path: path.stem)
def test_the_boot_entry_starts_the_loader_on_the_partition_with_the_arguments(template: Path, tmp_path: Path) -> None:
    before = template.read_bytes()
    variables.write(template, tmp_path / "store.fd", _ESP, ("console=ttyS0", "ip=größer"))
    assert template.read_bytes() == before
    assert (tmp_path / "store.fd").stat().st_size == len(before)
    found = read(tmp_path / "store.fd")
    assert found.pop("BootOrder") == b"\0\0"
    entry = bootentry.BootEntry(data=found.pop("Boot0000"))
    assert found == read(template)
    assert entry.attr & bootentry.LOAD_OPTION_ACTIVE
    assert str(entry.title) == "kiOS"
    assert entry.optdata == "console=ttyS0 ip=größer\0".encode("utf-16-le")
    partition, file = entry.devicepath
    # UEFI 2.10, 10.3.5.1: a hard drive of number, start, length and signature; partitioned as GPT (2), signed by GUID (2)
    assert (partition.devtype, partition.subtype) == (4, 1)
    assert partition.data == struct.pack("<IQQ16sBB", 1, 2048, 18432, _ESP.guid.bytes_le, 2, 2)
    assert (file.devtype, file.subtype) == (4, 4)
    assert file.data == "EFI\\Boot\\Bootx64.efi\0".encode("utf-16-le")


def test_without_arguments_the_variables_are_the_templates(template: Path, tmp_path: Path) -> None:
    variables.write(template, tmp_path / "store.fd", _ESP, ())
    assert read(tmp_path / "store.fd") == read(template)
    assert "Boot0000" not in read(tmp_path / "store.fd")


def test_stores_of_two_nodes_differ_only_by_their_arguments(template: Path, tmp_path: Path) -> None:
    stores = [tmp_path / "a.fd", tmp_path / "b.fd", tmp_path / "c.fd"]
    for store, arguments in zip(stores, [("x",), ("x",), ("y",)], strict=True):
        variables.write(template, store, _ESP, arguments)
    a, b, c = (read(store) for store in stores)
    assert a == b
    assert {name for name in a if a[name] != c[name]} == {"Boot0000"}


def test_a_store_can_be_the_template_of_the_next(template: Path, tmp_path: Path) -> None:
    variables.write(template, tmp_path / "first.fd", _ESP, ("x",))
    variables.write(tmp_path / "first.fd", tmp_path / "second.fd", _ESP, ())
    assert read(tmp_path / "second.fd") == read(tmp_path / "first.fd")
