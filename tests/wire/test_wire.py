"""The hand on the machine: what each of its verbs asks QEMU for, and that a pair leaves nothing behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from harness.errors import HarnessError, InputError
from harness.verdict.feed import ConsoleLine, Feed
from harness.verdict.goal import LineMatching
from harness.verdict.timeline import Milestone
from harness.vm.machine import CAPTURE, NETWORK, SLOT
from harness.vm.qmp import Qmp
from harness.wire.frame import Frame
from harness.wire.match import everything
from harness.wire.wire import Wire


class Asked:
    """Stands in for QEMU: notes what it is asked for, and refuses, as QEMU does, what does not fit what it has."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, object]]] = []
        self.carrier = True
        self.files: dict[str, socket.socket] = {}
        self.backends: dict[str, str] = {}
        # In QEMU's order: frames for the guest pass them from the first to the last, its own from the last to the first.
        self.filters: list[dict[str, object]] = [{"id": CAPTURE, "queue": "all"}]

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 10.0) -> object:
        asked = dict(arguments or {})
        self.commands.append((command, asked))
        name = str(asked.get("id"))
        match command:
            case "set_link":
                self.carrier = bool(asked["up"])
            case "chardev-add":
                assert name not in self.backends, "duplicate id"
                self.backends[name] = str(cast("dict[str, object]", asked["backend"])["type"])
            case "object-add":
                assert asked.get("outdev", asked.get("indev")) in self.backends, "no such character device"
                self.filters.insert(self._position(asked), asked)
            case "object-del":
                self.filters = [each for each in self.filters if each["id"] != name]
            case "chardev-remove":
                assert name not in [each.get("outdev") for each in self.filters], "the character device is busy"
                del self.backends[name]
        return {}

    def hand_over(self, file: int, name: str) -> None:
        self.files[name] = socket.socket(fileno=os.dup(file))

    def state(self) -> tuple[bool, dict[str, str], list[str]]:
        return self.carrier, dict(self.backends), self.names("all", "rx", "tx")

    def names(self, *queues: str) -> list[str]:
        """The filters of these queues, by name, in the order in which they are passed."""
        passed = [str(each["id"]) for each in self.filters if each["queue"] in queues]
        return passed[::-1] if "rx" in queues and "tx" not in queues else passed

    def close(self) -> None:
        for file in self.files.values():
            file.close()

    def _position(self, asked: Mapping[str, object]) -> int:
        where = str(asked["position"])
        if where in ("head", "tail"):
            return 0 if where == "head" else len(self.filters)
        assert asked["insert"] == "before"
        return [f"id={each['id']}" for each in self.filters].index(where)


@pytest.fixture
def qemu() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.close()


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def wire(qemu: Asked, feed: Feed, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(cast("Qmp", qemu), feed, tmp_path / "wire.pcap")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("verb", "commands"),
    [
        pytest.param(Wire.unplug, [("set_link", {"name": NETWORK, "up": False})], id="unplug"),
        pytest.param(Wire.plug, [("set_link", {"name": NETWORK, "up": True})], id="plug"),
        pytest.param(
            lambda wire: wire.insert_card("igb", "52:54:00:00:00:01"),
            [("device_add", {"driver": "igb", "id": "card", "bus": SLOT, "mac": "52:54:00:00:00:01"})],
            id="insert_card",
        ),
    ],
)
def test_a_verb_asks_for_one_thing(
    wire: Wire, qemu: Asked, verb: Callable[[Wire], None], commands: list[tuple[str, dict[str, object]]]
) -> None:
    verb(wire)
    assert qemu.commands == commands


def test_a_block_swallows_both_ways_behind_the_capture(wire: Wire, qemu: Asked) -> None:
    wire.block()
    (_, backend), (_, hole) = qemu.commands
    assert backend["backend"] == {"type": "null", "data": {}}
    assert hole["outdev"] == backend["id"]
    assert "indev" not in hole
    assert (hole["qom-type"], hole["netdev"], hole["queue"]) == ("filter-redirector", NETWORK, "all")
    assert qemu.names("all", "rx") == [CAPTURE, hole["id"]]


def test_a_block_is_between_the_guest_and_what_the_test_says(wire: Wire, qemu: Asked) -> None:
    with wire.drop(everything):
        wire.block()
    assert qemu.names("all", "rx")[:2] == [CAPTURE, "hole"]
    assert qemu.names("all", "tx")[-2:] == ["hole", CAPTURE]


def test_a_cable_is_laid_once_and_only_when_it_is_needed(wire: Wire, qemu: Asked) -> None:
    assert qemu.commands == []
    with wire.drop(everything):
        asked = len(qemu.commands)
    with wire.slow(0.1, 0, seed=1), wire.mtu(1280):
        assert len(qemu.commands) == asked
    assert list(qemu.backends.values()) == ["socket"] * 4


def test_nobody_waits_for_scapy_who_asks_for_no_neighbour() -> None:
    asked = "import sys, harness.lab.boot, harness.wire.dhcp_server; sys.exit('scapy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def test_what_the_test_takes_it_gives_back_behind_where_it_took_it(wire: Wire, qemu: Asked) -> None:
    wire.drop(everything)
    assert qemu.names("all", "rx") == [CAPTURE, "cable-from_guest", "cable-to_network"]
    assert qemu.names("all", "tx") == ["cable-from_network", "cable-to_guest", CAPTURE]
    roles = {str(each["id"]): "indev" if "indev" in each else "outdev" for each in qemu.filters[:-1]}
    assert [name for name, role in roles.items() if role == "outdev"] == ["cable-from_guest", "cable-from_network"]


def test_frames_pass_the_sockets_that_qemu_was_given(wire: Wire, qemu: Asked) -> None:
    with wire.drop(lambda frame: frame.content == b"lost"):
        qemu.files["cable-from_guest"].sendall(b"\0\0\0\x04lost\0\0\0\x04kept")
        qemu.files["cable-to_network"].settimeout(5)
        assert qemu.files["cable-to_network"].recv(100) == b"\0\0\0\x04kept"


def test_a_fault_tells_of_a_match_that_fails_when_it_is_mended(wire: Wire, qemu: Asked) -> None:
    def wrong(_: Frame) -> bool:
        raise KeyError("no such thing")

    fault = wire.drop(wrong)
    qemu.files["cable-from_guest"].sendall(b"\0\0\0\x04kept")
    assert qemu.files["cable-to_network"].recv(100) == b"\0\0\0\x04kept"
    with pytest.raises(InputError, match="no such thing"):
        fault.mend()


def test_a_capture_that_is_too_long_is_not_written_on(qemu: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.wire.wire._LOOK_SECONDS", 0.01)
    capture = tmp_path / "wire.pcap"
    wire = Wire(cast("Qmp", qemu), Feed(), capture, most=1000)
    capture.write_bytes(bytes(1000))
    time.sleep(0.1)
    assert qemu.names("all") == [CAPTURE]
    capture.write_bytes(bytes(1001))
    deadline = time.monotonic() + 5
    while qemu.names("all") and time.monotonic() < deadline:
        time.sleep(0.01)
    wire.drop(everything)
    wire.block()
    assert qemu.names("all", "tx")[-1] == "hole"
    wire.close()


def test_a_link_flaps_when_a_milestone_is_passed(wire: Wire, qemu: Asked, feed: Feed) -> None:
    feed.publish(ConsoleLine("half way"))
    wire.flap(Milestone("half", LineMatching("half way"), 10), 0.05)
    time.sleep(0.1)
    assert qemu.commands == []
    feed.publish(ConsoleLine("half way"))
    deadline = time.monotonic() + 5
    while len(qemu.commands) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [asked["up"] for _, asked in qemu.commands] == [False, True]


def test_a_block_leaves_the_carrier(wire: Wire, qemu: Asked) -> None:
    wire.block()
    assert qemu.carrier


def test_pairs_undo_each_other_again_and_again(wire: Wire, qemu: Asked) -> None:
    at_first = qemu.state()
    for done, undone in [(wire.unplug, wire.plug), (wire.block, wire.unblock)] * 2:
        done()
        assert qemu.state() != at_first
        undone()
        assert qemu.state() == at_first


class Usernet:
    """QEMU's user network, as far as its forwards are asked for."""

    def __init__(self, takes_more: bool) -> None:
        self.forwards = {40000: 10250, 40001: 22}
        self._takes_more = takes_more

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 10.0) -> object:
        line = str((arguments or {})["command-line"])
        if line.startswith("hostfwd_add net tcp:127.0.0.1:0-:"):
            if not self._takes_more:
                return "could not set up host forwarding rule"
            self.forwards[40000 + len(self.forwards)] = int(line.rpartition(":")[2])
            return ""
        row = "  TCP[HOST_FORWARD]  12       127.0.0.1 {:>5}       10.0.2.15 {:>5}     0     0\r\n"
        return "".join(row.format(*ports) for ports in self.forwards.items())


def test_a_forward_is_of_a_port_that_the_kernel_chose() -> None:
    wire = Wire(cast(Qmp, Usernet(takes_more=True)), Feed(), Path())
    assert wire.forward(8080) == 40002
    assert wire.forward(8080) == 40003
    assert wire.forwarded() == {40000: 10250, 40001: 22, 40002: 8080, 40003: 8080}


def test_a_port_that_is_forwarded_is_reached_by_that_and_another_by_one_more() -> None:
    wire = Wire(cast(Qmp, Usernet(takes_more=True)), Feed(), Path())
    assert [wire.reach(port) for port in (10250, 22, 8080, 8080)] == [40000, 40001, 40002, 40002]


def test_a_forward_that_qemu_refuses_is_told_in_its_words() -> None:
    with pytest.raises(HarnessError, match="nothing to port 8080 of the guest: could not set up"):
        Wire(cast(Qmp, Usernet(takes_more=False)), Feed(), Path()).forward(8080)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_forward_of_no_port_is_the_tests_mistake(port: int) -> None:
    with pytest.raises(InputError, match=f"There is no TCP port {port}"):
        Wire(cast(Qmp, Usernet(takes_more=True)), Feed(), Path()).forward(port)
