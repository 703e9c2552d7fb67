"""The hand on the machine: what each of its verbs asks QEMU for, and that a pair leaves nothing behind."""

from collections.abc import Callable, Mapping
from typing import cast

import pytest

from harness.errors import HarnessError
from harness.vm.machine import NETWORK, SLOT
from harness.vm.qmp import Qmp
from harness.wire.wire import Wire


class Asked:
    """Stands in for QEMU: notes what it is asked for, and refuses, as QEMU does, what does not fit what it has."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, object]]] = []
        self.carrier = True
        self.backends: set[str] = set()
        self.filters: dict[str, str] = {}

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 10.0) -> object:
        asked = dict(arguments or {})
        self.commands.append((command, asked))
        name = str(asked.get("id"))
        match command:
            case "set_link":
                self.carrier = bool(asked["up"])
            case "chardev-add":
                assert name not in self.backends, "duplicate id"
                self.backends.add(name)
            case "object-add":
                assert asked["outdev"] in self.backends, "no such character device"
                self.filters[name] = str(asked["outdev"])
            case "object-del":
                del self.filters[name]
            case "chardev-remove":
                assert name not in self.filters.values(), "the character device is busy"
                self.backends.remove(name)
        return {}

    def state(self) -> tuple[bool, set[str], dict[str, str]]:
        return self.carrier, set(self.backends), dict(self.filters)


@pytest.fixture
def qemu() -> Asked:
    return Asked()


@pytest.fixture
def wire(qemu: Asked) -> Wire:
    return Wire(cast("Qmp", qemu))


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
    assert (hole["qom-type"], hole["netdev"], hole["queue"], hole["position"]) == ("filter-redirector", NETWORK, "all", "head")


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
    wire = Wire(cast(Qmp, Usernet(takes_more=True)))
    assert wire.forward(8080) == 40002
    assert wire.forward(8080) == 40003
    assert wire.forwarded() == {40000: 10250, 40001: 22, 40002: 8080, 40003: 8080}


def test_a_forward_that_qemu_refuses_is_told_in_its_words() -> None:
    with pytest.raises(HarnessError, match="nothing to port 8080 of the guest: could not set up"):
        Wire(cast(Qmp, Usernet(takes_more=False))).forward(8080)
