"""What a node says of itself when something did not come: by the answers of real nodes, and of ill ones."""

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.lab import vitals
from harness.lab.vitals import Card, Room, Vitals
from harness.serial.result import Result

# As the reference node has it.
_WELL = """daemon crio S
daemon kubelet S
card eth0 0x1003 1
clock 1764111600
room /dev/nvme0n1p2 4096 90000 210000 50000 53000
"""
_NOW = 1764111600.0
_YEAR = 365.25 * 86400


def told(*lines: str) -> Vitals:
    """An answer in which some lines of a well node's are others."""
    kinds = [line.split()[0] for line in lines]
    return vitals.read("\n".join([*(each for each in _WELL.splitlines() if each.split()[0] not in kinds), *lines]), _NOW)


def every_word(of: Vitals) -> list[str]:
    return [words for words in (of.of_daemons(), of.of_card(), of.of_clock(), of.of_room()) if words]


def test_a_node_that_is_well_says_nothing() -> None:
    well = vitals.read(_WELL, _NOW)
    assert every_word(well) == []
    assert well.cards == {"eth0": Card(is_up=True, has_carrier=True)}
    assert well.room == Room("/dev/nvme0n1p2", 90000 * 4096, 210000 * 4096, 50000, 53000)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["daemon crio S", "daemon kubelet T"], "kubelet is stopped"),
        (["daemon crio none", "daemon kubelet R"], "crio does not run"),
        (["daemon crio D", "daemon kubelet Z"], "crio waits for a disk, kubelet has ended"),
        (["card eth0 0x1003 0"], "eth0 has no carrier"),
        (["card eth0 0x1002"], "eth0 is down: nothing has brought it up"),
        (["card enp0s2 0x1003 1"], "there is no eth0: the node calls its card enp0s2"),
        (
            ["room /dev/nvme0n1p2 4096 9 210000 50000 53000"],
            "the data partition /dev/nvme0n1p2 is full: 36 KiB of 820 MiB are free",
        ),
        (["room tmpfs 4096 0 2100 50000 53000"], "/var/log, in tmpfs, is full: 0 KiB of 8 MiB are free"),
        (
            ["room /dev/nvme0n1p2 4096 90000 210000 3 53000"],
            "the data partition /dev/nvme0n1p2 has no inodes left: 3 of 53000 are free",
        ),
    ],
)
def test_what_ails_a_node_is_said_in_its_own_words(lines: list[str], words: str) -> None:
    assert every_word(told(*lines)) == [words]


def test_a_node_without_a_driver_for_its_card_has_no_eth0() -> None:
    without = vitals.read(_WELL.replace("card eth0 0x1003 1\n", ""), _NOW)
    assert every_word(without) == ["there is no eth0: no driver has made one of its NIC"]


def test_a_filesystem_that_counts_no_files_has_room_for_them() -> None:
    assert told("room /dev/nvme0n1p2 4096 90000 210000 0 0").of_room() == ""


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (3599, ""),
        (-3599, ""),
        (3 * 86400, "3 days ahead"),
        (-3600, "1 hour behind"),
        (_YEAR, "1 year ahead"),
        (-10 * _YEAR, "10 years behind"),
        (1e12, "31688 years ahead"),
    ],
)
def test_a_wrong_clock_is_told_by_how_much_and_what_it_says(ahead: float, words: str) -> None:
    said = told(f"clock {_NOW + ahead:.0f}").of_clock()
    assert said.endswith(words)
    if words and ahead < 1e12:
        assert said.startswith(
            f"the node's clock is wrong: it says {time.strftime('%Y-%m-%d', time.gmtime(time.time() + ahead))}"
        )


def test_the_question_is_asked_of_a_nodes_own_files(tmp_path: Path) -> None:
    programs = {
        "pidof": 'test "$1" = crio && echo 7 8',
        "df": "printf 'Filesystem 1024-blocks Used\\n/dev/vdb 9 9\\n'",
        "stat": "echo 4096 1 2 3 4",
        "date": "echo 99",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/status").write_text("Name:\tcrio\nState:\tT (stopped)\n")
    for name, flags in (("eth0", "0x1003"), ("lo", "0x9")):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "flags").write_text(f"{flags}\n")
        (tmp_path / "sys/class/net" / name / "carrier").write_text("1\n")
    (tmp_path / "sys/class/net/eth0/device").mkdir()
    command = vitals._ASK.replace("/proc/", f"{tmp_path}/proc/").replace("/sys/", f"{tmp_path}/sys/")
    done = subprocess.run(["sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False)
    assert done.stdout == b"daemon crio T\ndaemon kubelet none\ncard eth0 0x1003 1\nclock 99\nroom /dev/vdb 4096 1 2 3 4\n"


def test_a_node_that_takes_no_commands_is_not_asked() -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it was asked")

    agent: Any = SimpleNamespace(answers=False, run=refuse)
    assert vitals.ask(agent) == Vitals()
    assert every_word(Vitals()) == []


@pytest.mark.parametrize("error", [NodeFailure("it did not end"), HarnessError("the port ended")])
def test_a_node_that_does_not_answer_tells_nothing(error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    agent: Any = SimpleNamespace(answers=True, run=fail)
    assert vitals.ask(agent) == Vitals()


@pytest.mark.parametrize(
    "words", ["sh: no such thing", "", "card", "card eth0 up", "clock late", "daemon", "room /dev/a b c d e f"]
)
def test_nonsense_tells_nothing(words: str) -> None:
    agent: Any = SimpleNamespace(answers=True, run=lambda *_: Result(0, words.encode()))
    assert every_word(vitals.ask(agent)) == []


def test_an_answer_is_held_against_this_hosts_clock() -> None:
    agent: Any = SimpleNamespace(answers=True, run=lambda *_: Result(0, f"clock {time.time():.0f}".encode()))
    assert abs(vitals.ask(agent).ahead) < 5


def test_a_symbol_is_the_last_before_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["0000000000000000 A percpu", "ffffffff81000010 T first", "ffffffff81000100 t second", "ffffffff81000200 T third"]
    (tmp_path / "kallsyms").write_text("\n".join(names))
    monkeypatch.setattr(vitals, "_SYMBOLS", str(tmp_path / "kallsyms"))

    def run(command: str, _: float) -> Result:
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        return Result(done.returncode, done.stdout)

    agent: Any = SimpleNamespace(answers=True, run=run)
    assert vitals.symbol_at(agent, "ffffffff810001ff") == "second"
    assert vitals.symbol_at(agent, "ffffffff81000200") == "third"
    monkeypatch.setattr(vitals, "_SYMBOLS", str(tmp_path / "none"))
    assert vitals.symbol_at(agent, "ffffffff81000200") == ""


def test_a_node_that_hangs_names_no_symbol() -> None:
    def fail(*_: object) -> None:
        raise NodeFailure("it did not end")

    agent: Any = SimpleNamespace(answers=True, run=fail)
    assert vitals.symbol_at(agent, "ffffffff81000200") == ""
