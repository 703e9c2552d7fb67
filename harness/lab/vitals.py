"""What a node that still takes commands says about itself: its daemons, network cards, clock, and room for files."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.guest import clock
from harness.serial.agent import Agent

NO_CARRIER = "eth0 has no carrier"
_WITHIN = 5.0
_SYMBOLS = "/proc/kallsyms"
# One command, so that a node that hangs is waited for only once. A network card's interface has a device in sysfs; its carrier
# cannot be read while it is down. /var/log is on the data partition, or in memory if there is none.
_ASK = """for each in crio kubelet; do
  pid=$(pidof $each) && sed -n "s/^State:[[:space:]]*\\(.\\).*/daemon $each \\1/p" /proc/${pid%% *}/status ||
    echo daemon $each none
done
for link in /sys/class/net/*; do
  test -e $link/device && echo card ${link##*/} $(cat $link/flags) $(cat $link/carrier 2> /dev/null)
done
echo clock $(date +%s)
echo room $(df -P /host/var/log | sed -n '$s/ .*//p') $(stat -f -c '%S %a %b %d %c' /host/var/log)"""
# proc_pid_status(5).
_STATES = {
    "none": "does not run",
    "T": "is stopped",
    "t": "is stopped",
    "Z": "has ended",
    "D": "waits for a disk",
}
# IFF_UP of netdevice(7).
_UP = 1
_KINDS = ("daemon", "card", "clock", "room")
_ROOM_WORDS = 6
_HOUR = 3600
_SPANS = ((31_557_600, "year"), (86400, "day"), (_HOUR, "hour"))
# The last time that datetime can represent.
_LAST_TIME = 253_402_300_799
# With less, not even a container's log can be created.
_LEAST_BYTES, _LEAST_FILES = 1 << 20, 16


@dataclass(frozen=True)
class Card:
    """A network card's interface: whether it is up, and whether it has a carrier, which it cannot have while it is down."""

    is_up: bool
    has_carrier: bool


@dataclass(frozen=True)
class Room:
    """The space in the filesystem of /var/log and its device; `free_bytes` is without the reserve (statvfs(3), f_bavail).

    A filesystem without a fixed number of inodes has 0 as `all_files`.
    """

    device: str
    free_bytes: int
    all_bytes: int
    free_files: int
    all_files: int


@dataclass(frozen=True)
class Vitals:
    """A node's answer; parts that the node did not tell are empty.

    `daemons` has their states (proc_pid_status(5); `none` for one that does not run), `cards` has the cards by the names of
    their interfaces, None if nothing was told; `ahead` is how many seconds the node's clock is ahead of this host's.
    """

    daemons: Mapping[str, str] = field(default_factory=dict)
    cards: Mapping[str, Card] | None = None
    ahead: float = 0.0
    room: Room | None = None

    def of_daemons(self) -> str:
        """Which daemons do not run, or are stopped; empty if both are well."""
        return ", ".join(f"{daemon} {_STATES[state]}" for daemon, state in self.daemons.items() if state in _STATES)

    def of_card(self) -> str:
        """Why nothing can go over eth0; empty if something can."""
        if self.cards is None:
            return ""
        card = self.cards.get("eth0")
        if card is None:
            others = (
                f"the node calls its card {' and '.join(self.cards)}" if self.cards else "no driver has made one of its NIC"
            )
            return f"there is no eth0: {others}"
        if not card.is_up:
            return "eth0 is down: nothing has brought it up"
        return "" if card.has_carrier else NO_CARRIER

    def of_clock(self) -> str:
        """By how much the clock is wrong, if that is an hour or more."""
        return clock_words(self.ahead)

    def of_room(self) -> str:
        """Which filesystem has no room left for the node's files; empty if there is room."""
        room = self.room
        if room is None:
            return ""
        where = f"the data partition {room.device}" if room.device.startswith("/dev/") else f"/var/log, in {room.device},"
        if room.free_bytes < _LEAST_BYTES:
            return f"{where} is full: {room.free_bytes >> 10} KiB of {room.all_bytes >> 20} MiB are free"
        if room.all_files and room.free_files < _LEAST_FILES:
            return f"{where} has no inodes left: {room.free_files} of {room.all_files} are free"
        return ""


def symbol_at(agent: Agent, address: str) -> str:
    """The kernel's symbol at an address of 16 hexadecimal digits; empty if the node does not tell."""
    try:
        # Addresses of equal length are ordered as their texts are.
        told = agent.run(
            f"awk -v at={address} '$1 <= at && $1 >= best {{ best = $1; name = $3 }} END {{ print name }}' {_SYMBOLS}", _WITHIN
        )
    except (HarnessError, NodeFailure):
        return ""
    return told.text.strip() if not told.status else ""


def ask(agent: Agent) -> Vitals:
    """Asks a node; what it does not tell in time is missing."""
    if not agent.answers:
        return Vitals()
    before = time.time()
    try:
        told = agent.run(_ASK, _WITHIN).text
        return read(told, (before + time.time()) / 2)
    except (HarnessError, NodeFailure, ValueError):
        return Vitals()


def read(told: str, now: float) -> Vitals:
    """Reads an answer given at `now`, in seconds of the epoch; raises ValueError if it is not an answer."""
    lines = [line.split() for line in told.splitlines()]
    parts = {kind: [rest for word, *rest in filter(None, lines) if word == kind] for kind in _KINDS}
    (clock,) = parts["clock"] or [[str(now)]]
    rooms = [_room_of(*words) for words in parts["room"] if len(words) == _ROOM_WORDS]
    return Vitals(
        daemons={daemon: state for daemon, state in parts["daemon"]},  # noqa: C416
        cards={name: Card(bool(int(flags, 16) & _UP), carrier == ["1"]) for name, flags, *carrier in parts["card"]}
        if parts["clock"]
        else None,
        ahead=float(clock[0]) - now,
        room=rooms[0] if rooms else None,
    )


def _room_of(device: str, *numbers: str) -> Room:
    size, free, total, free_files, files = map(int, numbers)
    return Room(device, free * size, total * size, free_files, files)


def refuse_wrong_clock(run: clock.Run, artifacts: Path, offset: float) -> None:
    """Raises NodeFailure if a node's clock is an hour wrong: it would reject certificates and date its logs wrongly.

    `offset` is `clock.hosts_offset` when the node started: that this host's clock was set since is no fault of the node's.
    """
    if wrong := clock_words(clock.ahead(run) + clock.hosts_offset() - offset):
        raise NodeFailure(f"{wrong}; artifacts: {artifacts}")


def clock_words(ahead: float) -> str:
    """In words, a clock that is so many seconds ahead of this host's; empty if that is less than an hour."""
    if abs(ahead) < _HOUR:
        return ""
    size, name = next((size, name) for size, name in _SPANS if abs(ahead) >= size)
    often = round(abs(ahead) / size)
    says = datetime.fromtimestamp(min(time.time() + ahead, _LAST_TIME), UTC)
    much = f"{often} {name}{'s' if often > 1 else ''} {'ahead' if ahead > 0 else 'behind'}"
    return f"the node's clock is wrong: it says {says:%Y-%m-%d}, {much}"
