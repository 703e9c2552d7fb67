"""The machine's command line is a pure function of values, and values that no node could run on are refused."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.vm.machine import (
    MIB,
    NICS,
    Accelerator,
    CarriedMemory,
    Channels,
    Files,
    FrozenMemory,
    Machine,
    Memory,
    SharedMemory,
    argv,
)

_TCG = Accelerator("tcg", "Haswell-noTSX", 1.0, "asked for")
_FILES = Files(Path("/fw/code.fd"), Path("/run/variables.fd"), Path("/run/disk.qcow2"), Path("/run/eth0.pcap"))
_CHANNELS = Channels(7, 9)
_MACHINE = Machine(disk_size=1024 * MIB)


def line(machine: Machine = _MACHINE, files: Files = _FILES, channels: Channels = _CHANNELS) -> list[str]:
    return argv(Path("/usr/bin/qemu"), machine, _TCG, files, channels)


def values_of(option: str, words: list[str]) -> list[str]:
    return [value for word, value in pairwise(words) if word == option]


def test_equal_values_give_equal_command_lines() -> None:
    assert line() == line(Machine(disk_size=1024 * MIB), Files(**vars(_FILES)), Channels(7, 9))


@pytest.mark.parametrize(
    "changed",
    [
        {"memory": 2048 * MIB},
        {"cpus": 2},
        {"nic": "e1000e"},
        {"network": "open"},
        {"mac": "52:54:00:00:00:01"},
        {"sector_size": 4096},
    ],
)
def test_each_value_of_the_machine_shows(changed: dict[str, Any]) -> None:
    assert line(replace(_MACHINE, **changed)) != line()


def test_it_starts_stopped() -> None:
    assert "-S" in line()


@pytest.mark.parametrize("memory", [SharedMemory(Path("/m")), FrozenMemory(Path("/m"))])
def test_memory_in_a_file_goes_on_where_there_is_none(memory: Memory) -> None:
    (file,) = [value for value in values_of("-object", line(files=replace(_FILES, memory=memory))) if "memory" in value]
    assert "id=pc.ram" in file.split(","), "QEMU's own name for memory without a file"


def test_a_machine_whose_memory_comes_with_its_state_waits_for_it() -> None:
    words = line(files=replace(_FILES, memory=CarriedMemory()))
    assert values_of("-incoming", words) == ["defer"]
    assert not any("memory-backend" in word for word in words)


@pytest.mark.parametrize("size", [512, 4096])
def test_the_disk_is_an_nvme_with_the_block_size_asked_for(size: int) -> None:
    words = line(Machine(disk_size=1024 * MIB, sector_size=size))
    (nvme,) = [value for value in values_of("-device", words) if value.startswith("nvme,")]
    options = nvme.split(",")
    assert {"drive=disk", f"logical_block_size={size}", f"physical_block_size={size}"} <= set(options)
    assert sum("node-name=disk," in value for value in values_of("-blockdev", words)) == 1


def test_the_forwarded_ports_are_of_this_host_only_and_chosen_by_the_kernel() -> None:
    forwards = re.findall(r"hostfwd=([^, ]*)", " ".join(line()))
    assert forwards == ["tcp:127.0.0.1:0-:10250", "tcp:127.0.0.1:0-:22"]


def test_it_listens_on_nothing_else() -> None:
    words = line()
    assert not [word for word in words if "server=" in word or "port=" in word or word in ("-vnc", "-spice", "-gdb", "-s")]
    assert values_of("-display", words) == ["none"]


@pytest.mark.parametrize("nic", NICS)
def test_the_nic_has_the_model_and_address_asked_for(nic: str) -> None:
    words = line(Machine(disk_size=1024 * MIB, nic=nic, mac="52:54:00:00:00:01"))
    assert f"{nic},netdev=net,mac=52:54:00:00:00:01" in values_of("-device", words)


@pytest.mark.parametrize("field", ["code", "variables", "disk", "capture"])
def test_commas_in_a_path_are_doubled(field: str) -> None:
    changed: dict[str, Any] = {field: Path("/a,b/c,d")}
    words = line(files=replace(_FILES, **changed))
    (option,) = [word for word in words if "/a," in word]
    assert option.endswith("=/a,,b/c,,d")


def test_the_sockets_are_inherited_by_number() -> None:
    words = line(channels=Channels(qmp=11, console=12, agent=13))
    assert values_of("-chardev", words) == ["socket,id=qmp,fd=11", "socket,id=console,fd=12", "socket,id=agent,fd=13"]
    assert values_of("-serial", words) == ["chardev:console", "chardev:agent"]
    assert values_of("-mon", words) == ["chardev=qmp,mode=control"]


def test_the_firmware_is_shared_read_only() -> None:
    (code,) = [value for value in values_of("-blockdev", line()) if "node-name=code" in value]
    assert "read-only=on" in code.split(",")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"memory": 575 * MIB}, "575 MiB .* boots from 576 MiB on"),
        ({"memory": 1_000_000_000}, "1000000000 bytes .* no whole number of MiB: ask for 953M"),
        ({"sector_size": 520}, "use 512 or 4096"),
        ({"sector_size": 0}, "use 512 or 4096"),
        ({"disk_size": 0}, "A disk of 0 bytes .* whole number of 512-byte blocks"),
        ({"disk_size": -512}, "A disk of -512 bytes"),
        ({"disk_size": 1024 * MIB + 1}, "whole number of 512-byte blocks"),
        ({"disk_size": 1024 * MIB + 512, "sector_size": 4096}, "whole number of 4096-byte blocks"),
        ({"nic": "rtl8139"}, "rtl8139: use one of virtio-net-pci, e1000e, e1000"),
        ({"cpus": 0}, "0 CPUs"),
        ({"disk_size": (1 << 51) + 512}, "2048 TiB of a disk are too many"),
        ({"cpus": 65}, "65 CPUs are too many: .* 64 at most"),
    ],
)
def test_a_value_that_no_node_runs_on_is_refused_by_name(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        replace(_MACHINE, **bad)


@pytest.mark.parametrize("good", [{"memory": 576 * MIB}, {"sector_size": 4096}, {"disk_size": 512}, {"cpus": 64}])
def test_values_at_the_limits_are_taken(good: dict[str, Any]) -> None:
    replace(_MACHINE, **good)


def test_the_guest_reaches_nobody_unless_that_is_asked_for() -> None:
    assert [Path(word).name for word in line()[3:6]] == ["confine.py", "--", "qemu"]
    assert line(replace(_MACHINE, network="open"))[0] == "/usr/bin/qemu"
    served = argv(Path("/usr/bin/qemu"), _MACHINE, _TCG, _FILES, _CHANNELS, registry=4711)
    assert [Path(word).name for word in served[3:7]] == ["confine.py", "4711", "--", "qemu"]


def test_qemu_starts_no_programs() -> None:
    served = argv(Path("/usr/bin/qemu"), _MACHINE, _TCG, _FILES, _CHANNELS, registry=4711)
    for words in (line(), served):
        assert values_of("-sandbox", words) == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
