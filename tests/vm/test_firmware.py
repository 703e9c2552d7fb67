"""The firmware descriptors of a host, as folders of files: which one is taken, and what is said when none is."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.vm import firmware
from harness.vm.firmware import Firmware, find


class Host:
    """Two descriptor folders, the user's before the system's, and the firmware files that descriptors name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders = (root / "user", root / "system")
        for folder in self.folders:
            folder.mkdir()

    def flash(self, name: str) -> Firmware:
        code, variables = self.root / f"{name}_CODE.fd", self.root / f"{name}_VARS.fd"
        for file in (code, variables):
            file.write_bytes(name.encode())
        return Firmware(code, variables)

    def describe(self, file: str, flash: Firmware, *, folder: int = 1, **changes: Any) -> None:
        descriptor = {
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": {"filename": str(flash.code), "format": "raw"},
                "nvram-template": {"filename": str(flash.variables), "format": "raw"},
            },
            "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
            "features": ["acpi-s3"],
            "tags": [],
        }
        (self.folders[folder] / file).write_text(json.dumps({**descriptor, **changes}))

    def find(self) -> Firmware:
        return find(folders=self.folders)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_first_by_name_is_taken(host: Host) -> None:
    second, first = host.flash("second"), host.flash("first")
    host.describe("60-b.json", second)
    host.describe("50-a.json", first)
    assert host.find() == first


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ["secure-boot"]},
        {"features": ["acpi-s3", "enrolled-keys"]},
        {"features": ["requires-smm"]},
        {"targets": [{"architecture": "aarch64", "machines": ["pc-q35-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["microvm"]}]},
        {"targets": []},
        {"interface-types": ["bios"]},
        {"mapping": {"device": "memory", "filename": "/bios.bin"}},
        {"mapping": {"device": "flash", "mode": "stateless", "executable": {"filename": "/code.fd", "format": "raw"}}},
    ],
)
def test_what_does_not_fit_is_passed_over(host: Host, changes: dict[str, Any]) -> None:
    host.describe("10-unfit.json", host.flash("unfit"), **changes)
    with pytest.raises(HarnessError, match="No UEFI firmware"):
        host.find()
    fit = host.flash("fit")
    host.describe("20-fit.json", fit)
    assert host.find() == fit


@pytest.mark.parametrize("part", ["executable", "nvram-template"])
def test_flash_that_is_not_raw_is_passed_over(host: Host, part: str) -> None:
    unfit = host.flash("unfit")
    mapping: dict[str, Any] = {
        "device": "flash",
        "executable": {"filename": str(unfit.code), "format": "raw"},
        "nvram-template": {"filename": str(unfit.variables), "format": "raw"},
    }
    mapping[part]["format"] = "qcow2"
    host.describe("10-unfit.json", unfit, mapping=mapping)
    with pytest.raises(HarnessError, match="No UEFI firmware"):
        host.find()


@pytest.mark.parametrize("part", ["code", "variables"])
def test_a_descriptor_whose_file_is_gone_is_passed_over(host: Host, part: str) -> None:
    gone, there = host.flash("gone"), host.flash("there")
    host.describe("10-gone.json", gone)
    host.describe("20-there.json", there)
    getattr(gone, part).unlink()
    assert host.find() == there


def test_the_users_file_replaces_the_systems_of_the_same_name(host: Host) -> None:
    systems, users = host.flash("system"), host.flash("user")
    host.describe("50-uefi.json", systems)
    assert host.find() == systems
    host.describe("50-uefi.json", users, folder=0)
    assert host.find() == users


def test_the_users_file_hides_the_systems_even_if_it_does_not_fit(host: Host) -> None:
    flash = host.flash("system")
    host.describe("50-uefi.json", flash)
    host.describe("50-uefi.json", flash, folder=0, features=["secure-boot"])
    with pytest.raises(HarnessError, match="No UEFI firmware"):
        host.find()


def test_the_name_orders_across_folders(host: Host) -> None:
    systems, users = host.flash("system"), host.flash("user")
    host.describe("40-system.json", systems)
    host.describe("50-user.json", users, folder=0)
    assert host.find() == systems


def test_without_any_the_folders_and_the_remedy_are_named(host: Host) -> None:
    with pytest.raises(HarnessError, match=r"(?s)user, .*system .*x86_64.*apt-get install ovmf"):
        host.find()
    with pytest.raises(HarnessError, match="apt-get install ovmf"):
        find(folders=(host.root / "no-such-folder",))


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}"])
def test_a_broken_descriptor_is_named(host: Host, content: bytes) -> None:
    (host.folders[1] / "30-broken.json").write_bytes(content)
    with pytest.raises(HarnessError, match=r"30-broken\.json cannot be read"):
        host.find()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"interface-types": ["uefi"], "mapping": {"device": "flash"}, "targets": ["x86_64"]}',
        '{"interface-types": [{}], "mapping": {"device": "flash"}}',
    ],
)
def test_a_descriptor_of_another_shape_is_named_or_passed_over(host: Host, content: str) -> None:
    (host.folders[1] / "30-odd.json").write_text(content)
    with pytest.raises(HarnessError):
        host.find()


@pytest.mark.parametrize("old_is_there", [True, False], ids=["copied", "moved"])
def test_firmware_that_was_unpacked_beside_its_descriptor_is_found_beside_it(tmp_path: Path, old_is_there: bool) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old, new):
        (root / "share/qemu/firmware").mkdir(parents=True)
        (root / "root/OVMF").mkdir(parents=True)
    unpacked = Firmware(old / "root/OVMF/CODE.fd", old / "root/OVMF/VARS.fd")
    for file in (unpacked.code, unpacked.variables):
        (new / file.relative_to(old)).write_bytes(b"x")
        if old_is_there:
            file.write_bytes(b"x")
    host = Host(tmp_path)
    host.folders = (new / "share/qemu/firmware",) * 2
    host.describe("50.json", unpacked)
    assert find(first=new / "share/qemu/firmware", folders=()) == Firmware(new / "root/OVMF/CODE.fd", new / "root/OVMF/VARS.fd")


def test_firmware_of_anothers_closed_cache_is_passed_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    good, closed = host.flash("good"), host.flash("closed")
    host.describe("10.json", closed)
    host.describe("20.json", good)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    assert host.find() == good


def test_who_has_no_home_has_no_descriptors_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert firmware._of_user() == ()
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert firmware._of_user() == ()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert firmware._of_user() == (tmp_path / "qemu/firmware",)
