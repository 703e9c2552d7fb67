"""A cable through the test's hands: over real sockets, what comes in at one end and goes out at the other."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from harness.errors import HarnessError, InputError
from harness.wire.cable import Cable, Ends
from harness.wire.fault import Corrupt, Delay, Drop, Duplicate, Fault, Lose, Mtu, Reorder
from harness.wire.frame import Frame, Way
from harness.wire.match import all_of, everything, received, sent

_HEAD = bytes(14)


class Network:
    """QEMU's side of a cable: a guest and a network, each with what it says and hears."""

    def __init__(self) -> None:
        self.guest_says, from_guest = socket.socketpair()
        self.network_hears, to_network = socket.socketpair()
        self.network_says, from_network = socket.socketpair()
        self.guest_hears, to_guest = socket.socketpair()
        for end in (self.network_hears, self.guest_hears):
            end.settimeout(5)
        self.cable = Cable(Ends(from_guest, to_network, from_network, to_guest))

    def send(self, *contents: bytes) -> None:
        self.guest_says.sendall(b"".join(map(framed, contents)))

    def answer(self, *contents: bytes) -> None:
        self.network_says.sendall(b"".join(map(framed, contents)))

    def sent(self, count: int = 1) -> list[bytes]:
        """The next frames that come to the network."""
        return [next_frame(self.network_hears) for _ in range(count)]

    def received(self, count: int = 1) -> list[bytes]:
        """The next frames that come to the guest."""
        return [next_frame(self.guest_hears) for _ in range(count)]

    def passed(self, *contents: bytes) -> list[bytes]:
        """What comes to the network of frames of the guest's, up to an end mark."""
        self.send(*contents, b"end")
        came = list(iter(lambda: self.sent()[0], b"end"))
        assert came is not None
        return came

    def close(self) -> None:
        self.cable.close()
        for end in (self.guest_says, self.network_hears, self.network_says, self.guest_hears):
            end.close()


def framed(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def next_frame(end: socket.socket) -> bytes:
    return exactly(end, int.from_bytes(exactly(end, 4)))


def exactly(end: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        piece = end.recv(size - len(read))
        assert piece, "the cable was cut"
        read += piece
    return read


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


def marked(frame: Frame) -> bool:
    return frame.content.startswith(b"x")


def on(network: Network, fault: Fault) -> Fault:
    network.cable.put_in(fault)
    fault.on_mend = network.cable.take_out
    return fault


def test_both_ways_pass_as_they_come(network: Network) -> None:
    frames = [b"", b"a", b"b" * 1514, bytes(65549)]
    network.send(*frames)
    assert network.sent(4) == frames
    network.answer(*frames)
    assert network.received(4) == frames


def test_a_frame_may_come_in_pieces(network: Network) -> None:
    for byte in framed(b"one") + framed(b"two"):
        network.guest_says.sendall(bytes((byte,)))
    assert network.sent(2) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (lambda: Drop(marked), [b"a", b"b"]),
        (lambda: Drop(marked, first=1), [b"a", b"x2", b"b"]),
        (lambda: Drop(received), [b"a", b"x1", b"x2", b"b"]),
        (lambda: Drop(all_of(sent, marked)), [b"a", b"b"]),
        (lambda: Duplicate(marked, first=1), [b"a", b"x1", b"x1", b"x2", b"b"]),
        (lambda: Reorder(marked, first=1), [b"a", b"x2", b"x1", b"b"]),
        (lambda: Reorder(marked, first=None), [b"a", b"x2", b"x1", b"b"]),
        (lambda: Lose(everything, 0, seed=1), [b"a", b"x1", b"x2", b"b"]),
        (lambda: Lose(marked, 1, seed=1), [b"a", b"b"]),
    ],
)
def test_a_fault_does_what_it_says_and_is_mended(network: Network, fault: Callable[[], Fault], left: list[bytes]) -> None:
    with on(network, fault()):
        assert network.passed(b"a", b"x1", b"x2", b"b") == left
    assert network.passed(b"a", b"x1", b"x2", b"b") == [b"a", b"x1", b"x2", b"b"]


def test_a_fault_counts_what_it_met(network: Network) -> None:
    with on(network, Drop(marked, first=2)) as fault:
        network.passed(b"x1", b"a", b"x2", b"x3")
        assert fault.met == 2


def test_a_late_frame_is_overtaken(network: Network) -> None:
    with on(network, Delay(marked, None, 0.1)):
        network.send(b"x", b"a", b"b")
        assert network.sent(3) == [b"a", b"b", b"x"]


def test_frames_that_are_equally_late_keep_their_order(network: Network) -> None:
    frames = [str(number).encode() for number in range(200)]
    with on(network, Delay(everything, None, 0.02)):
        network.send(*frames)
        assert network.sent(200) == frames


def test_a_late_frame_comes_though_its_fault_was_mended_meanwhile(network: Network) -> None:
    with on(network, Delay(marked, None, 0.1)):
        assert network.passed(b"x") == []
    assert network.sent() == [b"x"]


def test_a_corrupt_frame_differs_in_one_bit_of_what_it_carries(network: Network) -> None:
    whole = _HEAD + bytes(100)
    with on(network, Corrupt(everything, 1, seed=7)):
        [broken] = network.passed(whole)
    assert broken[:14] == _HEAD
    assert sum(byte.bit_count() for byte in broken) == 1


def test_the_same_seed_loses_the_same_frames() -> None:
    def lost(seed: int) -> list[int]:
        fault, passed = Lose(everything, 0.3, seed), list[Frame]()
        for number in range(100):
            fault.take(Frame(Way.SENT, bytes((number,))), lambda frame, _: passed.append(frame))
        return [frame.content[0] for frame in passed]

    assert lost(1) == lost(1) != lost(2)
    assert 50 < len(lost(1)) < 90


def test_an_mtu_counts_the_packet_without_its_frame(network: Network) -> None:
    with on(network, Mtu(1280)):
        assert [len(frame) for frame in network.passed(_HEAD + bytes(1280), _HEAD + bytes(1281))] == [1294]


def test_faults_act_one_behind_the_other(network: Network) -> None:
    with on(network, Duplicate(marked)), on(network, Drop(marked, first=1)):
        assert network.passed(b"x") == [b"x"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drop(everything, first=0),
        lambda: Lose(everything, 1.5, 1),
        lambda: Delay(everything, None, -1),
        lambda: Mtu(10),
    ],
)
def test_a_fault_that_cannot_be_is_refused(make: Callable[[], Fault]) -> None:
    with pytest.raises(InputError):
        make()


class Echo:
    """A station that answers whoever calls it."""

    def hear(self, content: bytes, say: Callable[[bytes, float], None]) -> bool:
        say(b"echo of " + content, 0)
        return content.startswith(b"x")


def test_a_station_hears_the_guest_and_takes_what_is_for_it(network: Network) -> None:
    echo = Echo()
    network.cable.join(echo)
    assert network.passed(b"x", b"a") == [b"a"]
    assert network.received(3) == [b"echo of x", b"echo of a", b"echo of end"]
    network.cable.leave(echo)
    assert network.passed(b"x") == [b"x"]


def test_what_a_station_says_passes_the_faults(network: Network) -> None:
    network.cable.join(Echo())
    with on(network, Drop(lambda frame: frame.content == b"echo of a")):
        network.send(b"a", b"b")
        assert network.received() == [b"echo of b"]


def test_a_frame_that_nobody_asked_for_comes_to_the_guest(network: Network) -> None:
    network.cable.say(b"boo")
    assert network.received() == [b"boo"]


def test_a_match_that_fails_is_told_and_cuts_nothing(network: Network) -> None:
    def wrong(_: Frame) -> bool:
        raise KeyError("no such thing")

    with on(network, Drop(wrong)):
        assert network.passed(b"a") == [b"a"]
    with pytest.raises(InputError, match="failed on a frame: KeyError: 'no such thing'"):
        network.cable.check()


def test_what_nobody_reads_is_lost_beyond_a_bound(network: Network) -> None:
    many, long = 10_000, bytes(1500)
    network.guest_hears.close()
    with contextlib.suppress(OSError):
        network.answer(*[long] * many)
    assert network.passed(b"a") == [b"a"]


def test_what_waits_is_bounded() -> None:
    network = Network()
    on(network, Delay(marked, None, 60))
    for _ in range(50):
        network.send(*[b"x"] * 100)
    assert network.passed(b"a") == [b"a"]
    assert network.cable.lost == 5000 - 4096
    network.close()


def test_a_stream_that_is_none_of_frames_is_cut(network: Network) -> None:
    network.guest_says.sendall(b"\xff" * 8)
    assert network.guest_says.recv(1) == b""
    network.answer(b"still here")
    assert network.received() == [b"still here"]


def test_a_cable_that_was_cut_says_so(network: Network) -> None:
    network.cable.close()
    network.cable.close()
    with pytest.raises(HarnessError, match="was cut"):
        network.cable.say(b"boo")
