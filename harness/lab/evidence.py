"""What a failure says: what was heard of the node until then, and what the node and its QEMU can still be asked."""

import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.guest import hindrance, memory
from harness.guest.kubelet import REFUSALS, KubeletApi, StatusError
from harness.lab import vitals
from harness.lab.container_log import AsLeft, last_words
from harness.lab.vitals import NO_CARRIER, Vitals
from harness.serial.agent import Agent
from harness.storage import esp
from harness.storage.gpt import GptError
from harness.verdict.outcome import Contradicted, GuestDied, HostStopped, Outcome, QemuDied, Stalled, TooLate, error, explain
from harness.verdict.timeline import API, FIRMWARE, INIT, Passed
from harness.vm import disk_load
from harness.vm.qmp import Qmp
from harness.wire import dhcp, frame
from harness.wire.capture import frames
from harness.wire.path import loss_of_long

_LINES = 8
# Of the troubles that a node survived, the first is told, and so many of the last.
_LAST_TROUBLES = 2
# How many of the containers that had failed before the end are told.
_FAILED = 2
_QMP_WITHIN = 30.0
_SIGN_WITHIN = 5.0
_LOOKS, _LOOK_SECONDS = 4, 0.05
_LOOKS_IN_MEMORY = 3
# A capture's own header (pcap-savefile(5)).
_EMPTY_CAPTURE = 24
# PCI's class of network controllers.
_NETWORK_CONTROLLER = 2
_OF_NETWORK = re.compile(r"\beth\d|dhcp|carrier|interface|network|route\b", re.IGNORECASE)
# Go's crypto/x509, CertificateInvalidError.
_OTHER_TIME = re.compile(r"x509: certificate has expired or is not yet valid: current time (?P<now>\S+) is (?:before|after) ")
_IN_KERNEL = "the kernel at "
# What QEMU writes before it dumps the registers (accel/kvm/kvm-all.c, target/i386/kvm/kvm.c).
_OF_ACCELERATOR = re.compile(r"^.*(?:KVM internal error|kvm run failed|KVM: |kvm_\w+ failed).*$", re.MULTILINE | re.IGNORECASE)
_REGISTERS = re.compile(r"RIP=(?P<rip>[0-9a-f]{16}) .*?CPL=(?P<cpl>\d).*?HLT=(?P<hlt>\d)")


@dataclass(frozen=True)
class Heard:
    """What was heard of a run: its milestones, its last lines, what it survived, and what its pods and its init wait for.

    `unbegun` are the pods, by namespace and name, of which no container is known to have started; `failed` are the containers
    that had failed by then: each failure in words, with namespace, pod and name of the container. `unended` is the same of
    containers that have to end and still run, with no words for one that was waited for and of which nothing is known. The
    console had been `silent` for so many seconds.
    """

    passed: Sequence[Passed]
    last_lines: Sequence[str]
    troubles: Sequence[str] = ()
    nearest: Sequence[str] = ()
    init_awaits: str = ""
    unbegun: Sequence[tuple[str, str]] = ()
    failed: Sequence[tuple[str, tuple[str, str, str]]] = ()
    unended: Sequence[tuple[str, tuple[str, str, str]]] = ()
    silent: float | None = None


@dataclass(frozen=True)
class Witnesses:
    """Who can be asked about a run that failed. `captures` are of eth0's cable, the oldest first.

    `kubelet` is called only when it is needed, because a run that failed at its start has none. `reachable` says whether the
    node has had an address, `unplugged` whether the test has unplugged its cable; `disk` reads the node's disk as it is now.
    """

    kubelet: Callable[[], KubeletApi]
    agent: Agent
    qmp: Qmp
    screen: Callable[[], str]
    captures: Sequence[Path]
    mac: str
    artifacts: Path
    reachable: Callable[[], bool]
    unplugged: Callable[[], bool]
    disk: AsLeft


def failure(outcome: Outcome, what: str, seen: str, heard: Heard, asked: Witnesses) -> HarnessError | NodeFailure:
    """The exception that says how a wait for `what` ended; `seen` is what the waiting side last saw of it."""
    words: list[str] = []
    signs = [seen] if seen else []
    if isinstance(outcome, Contradicted) and outcome.container:
        words += last_words(outcome.container, asked.kubelet, asked.agent, asked.disk)
    if isinstance(outcome, GuestDied | QemuDied):
        # A container that failed just before may be the reason, and its node can no longer be asked.
        for fate, container in heard.failed[-_FAILED:]:
            words += [shown(fate), *last_words(container, asked.kubelet, asked.agent, asked.disk)]
    if isinstance(outcome, Contradicted) and not outcome.daemon:
        signs += signs_of_need("\n".join([outcome.by, *words]), asked)
    if isinstance(outcome, Contradicted) and outcome.daemon:
        said = of_daemon(outcome.daemon, asked.qmp, asked.artifacts / "memory")
        outcome = replace(outcome, by=f"{outcome.by}; {said}")
    if isinstance(outcome, HostStopped) and outcome.asks_why:
        why = of_pause(asked.qmp, asked.artifacts / "qemu.log")
        outcome = replace(outcome, how=f"{outcome.how}: {why}")
    if isinstance(outcome, GuestDied) and not _runs_a_kernel(heard):
        signs += of_system(asked)
    if isinstance(outcome, TooLate | Stalled):
        outcome = replace(outcome, disk=disk_load.seconds_a_request(asked.qmp))
        words += map(shown, heard.nearest)
        signs += [fate for fate, _ in heard.unended if fate]
        words += of_unended(heard, asked)
        signs += [*signs_of_life(heard, asked), *of_silence(heard, asked)]
    before = list(dict.fromkeys([*heard.troubles[:1], *heard.troubles[-_LAST_TROUBLES:]]))
    words.insert(0, explain(outcome, what, heard.last_lines, _reached(heard.passed), signs, before))
    words += [f"{on_screen(asked.screen)}artifacts: {asked.artifacts}"]
    return error(outcome, "\n".join(words))


def signs_of_life(heard: Heard, asked: Witnesses) -> list[str]:
    """What a node does on which something did not happen."""
    told = vitals.ask(asked.agent)
    # A node that has not answered is not asked again.
    symbol_at = partial(vitals.symbol_at, asked.agent) if told != Vitals() else lambda _: ""
    signs = [heard.init_awaits, of_cpu(asked.qmp, symbol_at), *([] if _runs_a_kernel(heard) else of_system(asked))]
    if _runs_init(heard):
        hindered = of_pods(heard.unbegun, asked.agent) if told != Vitals() else []
        signs += [told.of_room(), *hindered, *of_network(asked, told), told.of_daemons(), told.of_clock()]
    return [sign for sign in signs if sign]


def of_unended(heard: Heard, asked: Witnesses) -> list[str]:
    """The last words of the containers that do not end; nothing before init runs."""
    if not _runs_init(heard):
        return []
    # A kubelet that cannot be reached answers nobody, after ten seconds.
    kubelet = asked.kubelet if asked.reachable() else _nobody
    each = (last_words(container, kubelet, asked.agent, asked.disk) for _, container in heard.unended[-_FAILED:])
    return [line for words in each for line in words]


def _nobody() -> KubeletApi:
    raise HarnessError("it cannot be reached")


def of_silence(heard: Heard, asked: Witnesses) -> list[str]:
    """For how long the machine has said nothing on its console and its wire, and asked nothing of its disk."""
    spans = {"console": heard.silent, "wire": _seconds_since_write(asked.captures), "disk": disk_load.idle_seconds(asked.qmp)}
    words = [f"its {who} for {seconds:.0f} s" for who, seconds in spans.items() if seconds is not None]
    return [f"silent by then: {', '.join(words)}"] if words else []


def _seconds_since_write(captures: Sequence[Path]) -> float | None:
    """The age of the last frame in the newest capture; None if that has none."""
    written = [capture.stat() for capture in captures if capture.exists()]
    return time.time() - written[-1].st_mtime if written and written[-1].st_size > _EMPTY_CAPTURE else None


def _runs_init(heard: Heard) -> bool:
    return bool({INIT.name, API.name} & {entry.name for entry in heard.passed})


def _runs_a_kernel(heard: Heard) -> bool:
    return bool({entry.name for entry in heard.passed} - {FIRMWARE.name})


def of_system(asked: Witnesses) -> list[str]:
    """What the firmware lacks to start a system: a disk, its partitions, or an EFI binary on it; empty if it lacks nothing."""
    if not disk_load.is_there(asked.qmp):
        return ["the machine has no disk"]
    try:
        with asked.disk() as disk:
            return [lacking] if (lacking := esp.why_nothing_starts(disk)) else []
    except GptError as lost:
        return [f"the disk cannot be started from: {lost}"]
    except (HarnessError, OSError):
        return []


def signs_of_need(said: str, asked: Witnesses) -> list[str]:
    """What a failed container or a rejected pod lacked: room, network, or a correct clock; `said` are the words of the failure.

    Many need no network, so a missing one is told only if `said` mentions it.
    """
    told = vitals.ask(asked.agent)
    card = of_card(asked, told) if _OF_NETWORK.search(said) and not asked.reachable() else ""
    return [sign for sign in (told.of_room(), card, told.of_clock() or of_clock(said)) if sign]


def of_pods(unbegun: Sequence[tuple[str, str]], agent: Agent) -> list[str]:
    """Why pods do not start, by the kubelet's log; nothing for pods that the log does not mention."""
    if not unbegun:
        return []
    try:
        log = agent.run(hindrance.command(), _SIGN_WITHIN).text
    except (HarnessError, NodeFailure):
        return []
    reasons = {name: hindrance.reason_in(log, namespace, name) for namespace, name in unbegun}
    return [f"the kubelet cannot begin pod {name}: {reason}" for name, reason in reasons.items() if reason]


def of_network(asked: Witnesses, told: Vitals) -> list[str]:
    """Why the kubelet cannot be reached, from the NIC up to its API; empty if it can."""
    if not asked.reachable():
        return [of_card(asked, told) or of_lease(asked.captures, asked.mac)]
    api = of_api(asked.kubelet())
    return [of_card(asked, told), api, *map(loss_of_long, asked.captures)] if api else []


def _reached(passed: Sequence[Passed]) -> list[str]:
    frozen = [entry.name for entry in passed if entry.frozen]
    before = [f"{frozen[0]} to {frozen[-1]} (before it was frozen)"] if frozen else []
    return [*before, *(entry.name for entry in passed if not entry.frozen)]


def of_daemon(daemon: str, qmp: Qmp, copy: Path) -> str:
    """Why a daemon does not stay up, in its own words, found in the guest's memory, as nothing reads its log yet.

    `copy` is a scratch file for the search.
    """

    def save(start: int, length: int, file: Path) -> None:
        qmp.execute("pmemsave", {"val": start, "size": length, "filename": str(file)}, _QMP_WITHIN)

    try:
        size = qmp.execute("query-memory-size-summary")
        if not isinstance(size, dict):
            raise HarnessError(f"QEMU tells the size of its memory as {size!r}")
        # The daemon restarts all the time: words that were overwritten in one look may be there in the next.
        looks = (memory.reason(daemon, int(size["base-memory"]), save, copy) for _ in range(_LOOKS_IN_MEMORY))
        reason = next(filter(None, looks), "")
    except (HarnessError, OSError) as unread:
        return f"{daemon}'s own words could not be read in the guest's memory: {unread}"
    return f"{daemon}'s own words: {reason}" if reason else f"{daemon}'s own words are not in the guest's memory"


def of_pause(qmp: Qmp, log: Path) -> str:
    """Why a machine's CPUs stand still, by its run state and, after an internal error, by QEMU's log."""
    try:
        told = qmp.execute("query-status", None, _SIGN_WITHIN)
    except HarnessError as silent:
        return f"its QEMU does not say why: {silent}"
    state = told.get("status") if isinstance(told, dict) else told
    if state == "paused":
        return "somebody paused it"
    if state != "internal-error":
        return f"its run state is {state}"
    said = log.read_text(errors="replace") if log.exists() else ""
    found = _OF_ACCELERATOR.search(said)
    return f"an internal error of the accelerator: {found[0] if found else 'it says nothing of it'}"


def of_api(kubelet: KubeletApi) -> str:
    """Why the kubelet cannot be asked; empty if it can."""
    try:
        kubelet.pods()
    except TimeoutError:
        return "the kubelet's API takes connections and does not answer"
    except StatusError as answer:
        return REFUSALS.get(answer.status) or f"the kubelet's API cannot be asked: {answer}"
    except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        # QEMU accepts every connection, and hangs up if the guest does not.
        return "the kubelet's API cannot be asked: nothing listens on its port, or what does hangs up"
    except ssl.SSLError as broken:
        return _of_tls(broken)
    except (OSError, HarnessError) as refused:
        return f"the kubelet's API cannot be asked: {refused}"
    return ""


def _of_tls(broken: ssl.SSLError) -> str:
    """Who refuses whose certificate: an alert comes from the other side (RFC 8446, 6.2)."""
    reason = str(broken.reason or broken).replace("_", " ").lower()
    if "alert" in reason:
        return f"the kubelet's API refuses the harness's client certificate: {reason.rpartition('alert ')[2]}"
    return f"the harness refuses the kubelet's certificate, or what is in its place: {reason}"


def of_card(asked: Witnesses, told: Vitals) -> str:
    """Why nothing can go over eth0: no NIC, no driver for it, no carrier; empty if something can."""
    if not _has_nic(asked.qmp):
        return "the machine has no NIC"
    words = told.of_card()
    if asked.unplugged() and words in ("", NO_CARRIER):
        return f"{NO_CARRIER}: the test has unplugged its cable"
    return words


def _has_nic(qmp: Qmp) -> bool:
    """Whether there is a network controller on PCI; True if QEMU does not tell."""
    try:
        buses = qmp.execute("query-pci", None, _SIGN_WITHIN)
    except HarnessError:
        return True
    if not isinstance(buses, list):
        return True
    return any(each >> 8 == _NETWORK_CONTROLLER for bus in buses for each in _classes(bus["devices"]))


def _classes(devices: Sequence[dict[str, Any]]) -> Iterator[int]:
    """The class of each PCI device, including those behind bridges (QEMU's qapi/pci.json)."""
    for device in devices:
        yield device["class_info"]["class"]
        yield from _classes(device.get("pci_bridge", {}).get("devices", ()))


def of_clock(said: str) -> str:
    """The node's wrong clock, by what Go says when it rejects a certificate as of another time; empty if it says nothing."""
    found = _OTHER_TIME.search(said)
    return vitals.clock_words(datetime.fromisoformat(found["now"]).timestamp() - time.time()) if found else ""


def of_cpu(qmp: Qmp, symbol_at: Callable[[str], str]) -> str:
    """Where the machine's CPUs are, by several looks at their registers; empty if QEMU does not tell.

    `symbol_at` returns the kernel's symbol at an address, or an empty text.
    """
    seen: Counter[str] = Counter()
    for _ in range(_LOOKS):
        time.sleep(_LOOK_SECONDS)
        try:
            told = qmp.execute("human-monitor-command", {"command-line": "info registers -a"}, _SIGN_WITHIN)
        except HarnessError:
            return ""
        seen.update(map(_place_of, _REGISTERS.finditer(str(told))))
    places = [_named(place, symbol_at) for place, _ in seen.most_common(2)]
    return f"the CPU was in {' and '.join(places)}" if places else ""


def _named(place: str, symbol_at: Callable[[str], str]) -> str:
    name = symbol_at(place.removeprefix(_IN_KERNEL)) if place.startswith(_IN_KERNEL) else ""
    return f"{place}, in {name}" if name else place


def _place_of(registers: re.Match[str]) -> str:
    """By the rules of x86-64: programs run at CPL 3, and the kernel has the upper half of the addresses."""
    if registers["hlt"] == "1":
        return "its idle loop"
    if registers["cpl"] == "3":
        return "a program"
    at = registers["rip"]
    return f"{_IN_KERNEL}{at}" if int(at, 16) >> 47 else f"the firmware or the EFI binary at {at}"


def of_lease(captures: Sequence[Path], mac: str) -> str:
    """What happened to eth0's lease, as seen on its wire; empty if it has one."""
    try:
        dhcp.lease(captures, mac)
    except NodeFailure:
        heard = [message for capture in captures for message in dhcp.messages(capture)]
        sent = [message for message in heard if message.client_mac == mac.lower()]
        asked = sum(message.kind in (dhcp.Kind.DISCOVER, dhcp.Kind.REQUEST) for message in sent)
        if not asked:
            spoke = any(frame.source_of(content) == mac.lower() for capture in captures for content in frames(capture))
            return f"eth0 never asked for a lease, {'though it sent other frames' if spoke else 'and sent no frame at all'}"
        if given := dhcp.bootp_answers(captures, mac):
            return f"eth0 has no lease: it asked {asked} times, and BOOTP, which leases nothing, gave it {given[-1]}"
        if asked == len(sent):
            others = ", ".join(sorted({message.client_mac for message in heard} - {mac.lower()}))
            return (
                f"eth0 asked {asked} times for a lease, and {f'all answers are for {others}' if others else 'nobody answered'}"
            )
        return f"eth0 has no lease, though it was answered: {dhcp.summary(sent)}"
    except OSError:
        return ""
    return ""


def on_screen(screen: Callable[[], str]) -> str:
    """The last words on the screen, for an image that is silent on its serial port; empty if it cannot be read."""
    try:
        # A firmware's picture is read as characters that the font does not have.
        legible = [line for line in screen().splitlines() if any(map(str.isalnum, line))]
    except (HarnessError, OSError):
        return ""
    lines = legible[-_LINES:]
    return "".join(["last words on the screen:\n", *(f"  | {shown(line)}\n" for line in lines)]) if lines else ""
