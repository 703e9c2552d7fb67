"""A path that loses long packets, told by what TCP makes of it, from one that loses all, or some."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from harness.wire import capture
from harness.wire.path import loss_of_long

_NODE, _HOST = ("10.0.2.15", 10250), ("10.0.2.2", 40000)


def sent(bytes_of: int, sequence: int = 1, port: int = 40000) -> bytes:
    """A packet of the node's, of so many bytes with its headers."""
    ends = IP(src=_NODE[0], dst=_HOST[0]) / TCP(sport=_NODE[1], dport=port, seq=sequence, ack=1, flags="PA")
    return bytes(Ether() / ends / bytes(bytes_of - 40))


def heard(acknowledged: int, port: int = 40000) -> bytes:
    """The other side's word of how far it has heard the node."""
    return bytes(Ether() / IP(src=_HOST[0], dst=_NODE[0]) / TCP(sport=port, dport=_NODE[1], seq=1, ack=acknowledged, flags="A"))


def said_of(tmp_path: Path, frames: Sequence[bytes]) -> str:
    capture.write(tmp_path / "wire.pcap", frames)
    return loss_of_long(tmp_path / "wire.pcap")


_HELLO = [sent(140), heard(101)]


def test_long_packets_that_are_sent_again_and_again_are_lost(tmp_path: Path) -> None:
    before = [sent(1500, 1, port=39000), heard(1461, port=39000)]
    frames = [*before, *_HELLO, sent(1500, 101), sent(700, 1561), heard(101), *[sent(1500, 101)] * 3]
    assert said_of(tmp_path, frames) == (
        "long packets are lost: one of 1500 bytes was sent 4 times in vain, and others came through"
    )


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([*_HELLO, *[sent(1500, 101)] * 5], id="nothing is heard any more: all are lost"),
        pytest.param([*_HELLO, sent(1500, 101), heard(101), sent(1500, 101), heard(1561)], id="it came through at last"),
        pytest.param([*_HELLO, sent(1500, 101), heard(101), sent(1500, 101)], id="lost twice"),
        pytest.param([*_HELLO, *[sent(100, 101), sent(1500, 161), heard(101)] * 4], id="short ones are lost as well"),
        pytest.param([], id="nothing was sent"),
    ],
)
def test_any_other_loss_is_none_of_length(frames: list[bytes], tmp_path: Path) -> None:
    assert said_of(tmp_path, frames) == ""


def test_numbers_begin_again(tmp_path: Path) -> None:
    last = (1 << 32) - 60
    frames = [sent(140, last), heard(40), *[sent(1500, 40), heard(40)] * 3]
    assert said_of(tmp_path, frames).startswith("long packets are lost: one of 1500 bytes was sent 3 times")


def test_a_connection_is_one_by_its_ports(tmp_path: Path) -> None:
    frames = [*_HELLO, *[sent(1500, 101), heard(5000, port=40001)] * 4]
    assert said_of(tmp_path, frames) == ""
