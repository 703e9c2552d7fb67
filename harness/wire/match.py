"""Small predicates that select frames, and can be combined."""

from collections.abc import Callable

from harness.wire import dhcp as messages
from harness.wire import frame as read
from harness.wire.dhcp import Kind
from harness.wire.frame import Frame, Way

Match = Callable[[Frame], bool]

_DNS = 53


def everything(_: Frame) -> bool:
    """Any frame."""
    return True


def sent(frame: Frame) -> bool:
    """Frames that the guest sends."""
    return frame.way is Way.SENT


def received(frame: Frame) -> bool:
    """Frames to the guest."""
    return frame.way is Way.RECEIVED


def arp(frame: Frame) -> bool:
    """ARP, requests and replies."""
    return read.arp(frame.content) is not None


def dhcp(*kinds: Kind) -> Match:
    """DHCP messages of these kinds, by default all."""

    def match(frame: Frame) -> bool:
        message = messages.message_in(frame.content)
        return message is not None and (not kinds or message.kind in kinds)

    return match


def udp(*ports: int) -> Match:
    """UDP from or to one of these ports, by default any."""

    def match(frame: Frame) -> bool:
        found = read.datagram(frame.content)
        return found is not None and (not ports or bool({found.source_port, found.destination_port} & {*ports}))

    return match


def tcp(*ports: int) -> Match:
    """TCP from or to one of these ports, by default any."""

    def match(frame: Frame) -> bool:
        found = read.segment(frame.content)
        return found is not None and (not ports or bool({found.source_port, found.destination_port} & {*ports}))

    return match


dns = udp(_DNS)


def all_of(*matches: Match) -> Match:
    """Frames that all of these match."""
    return lambda frame: all(match(frame) for match in matches)


def any_of(*matches: Match) -> Match:
    """Frames that any of these matches."""
    return lambda frame: any(match(frame) for match in matches)
