"""What a failure says of where its node stood: each sign from what real machines and nodes answer, and none made up."""

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.guest.kubelet import REFUSALS, StatusError
from harness.lab import evidence
from harness.lab.evidence import Heard, Witnesses
from harness.lab.vitals import Card, Vitals
from harness.serial.result import Result
from harness.verdict.outcome import Contradicted, GuestDied, QemuDied, Stalled, TooLate
from harness.verdict.timeline import Passed
from harness.wire import capture, dhcp

MAC = "52:54:00:12:34:56"
OTHER = "52:55:0a:00:02:02"
# As `info registers` of QEMU 11.1 has them.
_REGISTERS = """CPU#0
RAX=000000000000006b RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP={rip} RFL=00000246 [---Z-P-] CPL={cpl} II=0 A20=1 SMM=0 HLT={hlt}
ES =0000 0000000000000000 ffffffff 00c00000
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_LOOK_SECONDS", 0.0)


def registers(rip: str = "ffffffff810c356a", cpl: int = 0, hlt: int = 0) -> str:
    return _REGISTERS.format(rip=rip, cpl=cpl, hlt=hlt)


def qmp(*answers: str) -> Any:
    told = list(answers)

    def execute(*_: object) -> str:
        return told.pop(0) if len(told) > 1 else told[0]

    return SimpleNamespace(execute=execute)


def refusing(error: Exception) -> Callable[..., Any]:
    def refuse(*_: object) -> None:
        raise error

    return refuse


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([registers(hlt=1)], "the CPU was in its idle loop"),
        ([registers()], "the CPU was in the kernel at ffffffff810c356a"),
        ([registers("00007f11aa001000", cpl=3)], "the CPU was in a program"),
        ([registers("000000007e5a1000")], "the CPU was in the firmware or the EFI binary at 000000007e5a1000"),
        (
            [registers(hlt=1), registers(), registers(hlt=1)],
            "the CPU was in its idle loop and the kernel at ffffffff810c356a",
        ),
        (["no registers at all"], ""),
    ],
)
def test_where_the_cpu_is_is_told_by_its_registers(answers: list[str], words: str) -> None:
    assert evidence.of_cpu(qmp(*answers), lambda _: "") == words


def test_a_machine_that_is_gone_has_no_cpu() -> None:
    gone: Any = SimpleNamespace(execute=refusing(HarnessError("the connection is gone")))
    assert evidence.of_cpu(gone, lambda _: "") == ""


def test_where_the_kernel_is_has_its_name_where_the_node_tells_it() -> None:
    asked: list[str] = []

    def symbol_at(address: str) -> str:
        asked.append(address)
        return "do_idle"

    looks = qmp(registers(), registers(hlt=1))
    assert evidence.of_cpu(looks, symbol_at) == ("the CPU was in its idle loop and the kernel at ffffffff810c356a, in do_idle")
    assert asked == ["ffffffff810c356a"]


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] (_ssl.c:1000)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("timed out"), "the kubelet's API takes connections and does not answer"),
        (ConnectionRefusedError("refused"), "the kubelet's API cannot be asked: refused"),
        (HarnessError("The kubelet answers 500"), "the kubelet's API cannot be asked: The kubelet answers 500"),
        (StatusError(500, "The kubelet answers 500"), "the kubelet's API cannot be asked: The kubelet answers 500"),
        (
            StatusError(401, "The kubelet answers 401"),
            REFUSALS[401],
        ),
        (
            StatusError(403, "The kubelet answers 403"),
            "the kubelet's API lets the harness do nothing (403 Forbidden), though it knows its certificate",
        ),
        *(
            (ended, "the kubelet's API cannot be asked: nothing listens on its port, or what does hangs up")
            for ended in (ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed"), ConnectionResetError(104, "reset"))
        ),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "the kubelet's API refuses the harness's client certificate: unknown ca"),
        (
            tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"),
            "the kubelet's API refuses the harness's client certificate: certificate expired",
        ),
        (
            tls("CERTIFICATE_VERIFY_FAILED"),
            "the harness refuses the kubelet's certificate, or what is in its place: certificate verify failed",
        ),
    ],
)
def test_why_the_kubelet_cannot_be_asked_is_told(error: Exception, words: str) -> None:
    kubelet: Any = SimpleNamespace(pods=refusing(error))
    assert evidence.of_api(kubelet) == words
    well: Any = SimpleNamespace(pods=list)
    assert evidence.of_api(well) == ""


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([], "eth0 never asked for a lease, and sent no frame at all"),
        (["DISCOVER", "DISCOVER"], "eth0 asked 2 times for a lease, and nobody answered"),
        (["DISCOVER", "OFFER"], "eth0 has no lease, though it was answered: DISCOVER, OFFER"),
        (["DISCOVER", "DISCOVER", f"OFFER {OTHER}"], f"eth0 asked 2 times for a lease, and all answers are for {OTHER}"),
    ],
)
def test_what_became_of_the_lease_is_told_by_the_wire(
    kinds: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = [kind.split() for kind in kinds]
    heard = [SimpleNamespace(kind=dhcp.Kind[kind], client_mac=whose[0] if whose else MAC) for kind, *whose in said]
    monkeypatch.setattr(dhcp, "messages", lambda _: heard)
    assert evidence.of_lease([tmp_path / "wire.pcap"], MAC) == words
    monkeypatch.setattr(dhcp, "lease", lambda *_: "a lease")
    assert evidence.of_lease([tmp_path / "wire.pcap"], MAC) == ""


@pytest.mark.parametrize(("source", "words"), [(MAC, "though it sent other frames"), (OTHER, "and sent no frame at all")])
def test_a_nic_that_is_silent_is_told_from_one_that_asks_for_nothing(source: str, words: str, tmp_path: Path) -> None:
    sent = bytes(6) + bytes.fromhex(source.replace(":", "")) + bytes(50)
    capture.write(tmp_path / "wire.pcap", [sent])
    assert evidence.of_lease([tmp_path / "wire.pcap"], MAC) == f"eth0 never asked for a lease, {words}"


def pci(*classes: int) -> Any:
    """A machine with a host bridge and, behind a bridge, devices of these classes (as QEMU 11.1's query-pci)."""
    inner = [{"class_info": {"class": each}} for each in classes]
    bridge = {"class_info": {"class": 0x604}, "pci_bridge": {"devices": inner}}
    return SimpleNamespace(execute=lambda *_, **__: [{"devices": [{"class_info": {"class": 0x600}}, bridge]}])


@pytest.mark.parametrize(
    ("qmp", "cards", "unplugged", "words"),
    [
        (pci(), {}, False, "the machine has no NIC"),
        (pci(0x108), None, True, "the machine has no NIC"),
        (pci(0x200), {}, False, "there is no eth0: no driver has made one of its NIC"),
        (pci(0x200), {}, True, "there is no eth0: no driver has made one of its NIC"),
        (pci(0x200), {"eth0": Card(is_up=True, has_carrier=False)}, False, "eth0 has no carrier"),
        (
            pci(0x200),
            {"eth0": Card(is_up=True, has_carrier=False)},
            True,
            "eth0 has no carrier: the test has unplugged its cable",
        ),
        (pci(0x200), None, True, "eth0 has no carrier: the test has unplugged its cable"),
        (pci(0x200), {"eth0": Card(is_up=True, has_carrier=True)}, False, ""),
        (pci(0x200), None, False, ""),
        (SimpleNamespace(execute=refusing(HarnessError("gone"))), None, False, ""),
    ],
)
def test_what_hinders_a_card_is_told_from_what_its_network_does_not_do(
    qmp: Any, cards: dict[str, Card] | None, unplugged: bool, words: str, tmp_path: Path
) -> None:
    asked = witnesses(tmp_path, qmp=qmp, unplugged=lambda: unplugged)
    assert evidence.of_card(asked, Vitals(cards=cards)) == words


def test_the_clock_is_told_by_a_certificate_of_another_time() -> None:
    said = (
        "container a of pod b cannot run: ErrImagePull: tls: failed to verify certificate: x509: certificate has expired or is "
    )
    early = f"{said}not yet valid: current time 2016-01-01T00:00:12Z is before 2024-03-04T00:00:00Z"
    assert evidence.of_clock(early).startswith("the node's clock is wrong: it says 2016-01-01, ")
    assert evidence.of_clock(early).endswith("years behind")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    assert evidence.of_clock(f"{said}not yet valid: current time {now} is after 2024-03-04T00:00:00Z") == "", (
        "the certificate has expired"
    )
    assert evidence.of_clock("x509: certificate signed by unknown authority") == ""


def witnesses(tmp_path: Path, **others: Any) -> Witnesses:
    agent: Any = SimpleNamespace(answers=False)
    given: dict[str, Any] = {
        "kubelet": refusing(AssertionError("a run that failed as it started has none")),
        "agent": agent,
        "qmp": qmp(registers(hlt=1)),
        "screen": refusing(HarnessError("no font")),
        "captures": [],
        "mac": MAC,
        "artifacts": tmp_path,
        "reachable": lambda: False,
        "unplugged": lambda: False,
        "disk": refusing(HarnessError("nobody knows its disk")),
    }
    return Witnesses(**{**given, **others})


def sentence(failed: Exception) -> str:
    return str(failed).partition("\n")[0]


def test_a_run_that_failed_as_it_started_is_told_without_a_kubelet(tmp_path: Path) -> None:
    failed = evidence.failure(QemuDied(1, "no such CPU"), "QEMU's greeting", "", Heard([], []), witnesses(tmp_path))
    assert isinstance(failed, HarnessError)
    assert sentence(failed) == "QEMU's greeting: QEMU died with status 1: no such CPU"


def test_a_node_is_asked_for_what_it_can_have_by_then(tmp_path: Path) -> None:
    early = Heard([Passed("firmware", 1.0)], [])
    failed = evidence.failure(Stalled(90), "milestone kernel", "", early, witnesses(tmp_path))
    assert sentence(failed) == ("milestone kernel: nothing was heard from the node for 90 s; the CPU was in its idle loop"), (
        "a firmware asks for no lease"
    )
    later = Heard([Passed("firmware", 1.0), Passed("init", 2.0)], [], init_awaits="init looks for its disk")
    failed = evidence.failure(TooLate(5), "milestone node/dhcpcd", "", later, witnesses(tmp_path))
    assert sentence(failed).endswith(
        "; init looks for its disk; the CPU was in its idle loop; eth0 never asked for a lease, and sent no frame at all"
    )


def answering(*lines: str) -> Any:
    """An agent of a node that tells of nothing else than these, and of a clock that is right if they are silent about it."""
    told = "\n".join(lines if "clock" in str(lines) else [f"clock {time.time():.0f}", *lines]).encode()
    return SimpleNamespace(answers=True, run=lambda *_: Result(0, told))


def test_a_node_with_an_address_is_asked_for_its_api_and_one_without_for_its_network(tmp_path: Path) -> None:
    heard = Heard([Passed("init", 2.0)], [])
    refused: Any = SimpleNamespace(pods=refusing(StatusError(401, "Unauthorized")))
    agent = answering("card eth0 0x1003 1", "daemon kubelet T")
    with_address = witnesses(tmp_path, agent=agent, reachable=lambda: True, kubelet=lambda: refused)
    signs = evidence.signs_of_life(heard, with_address)
    assert [sign.partition(" (")[0] for sign in signs[1:]] == [
        "the kubelet's API refuses the harness's client certificate",
        "kubelet is stopped",
    ]
    assert evidence.signs_of_life(heard, witnesses(tmp_path, agent=agent))[1:] == [
        "eth0 never asked for a lease, and sent no frame at all",
        "kubelet is stopped",
    ]


def test_a_node_that_has_lost_its_cable_is_told_with_its_silent_api(tmp_path: Path) -> None:
    silent: Any = SimpleNamespace(pods=refusing(TimeoutError()))
    asked = witnesses(tmp_path, reachable=lambda: True, unplugged=lambda: True, kubelet=lambda: silent)
    assert evidence.signs_of_life(Heard([Passed("init", 2.0)], []), asked)[1:] == [
        "eth0 has no carrier: the test has unplugged its cable",
        "the kubelet's API takes connections and does not answer",
    ]
    well: Any = SimpleNamespace(pods=list)
    assert len(evidence.signs_of_life(Heard([Passed("init", 2.0)], []), replace(asked, kubelet=lambda: well))) == 1


@pytest.mark.parametrize(
    ("lines", "reachable", "words"),
    [
        ([], False, "there is no eth0: no driver has made one of its NIC"),
        (["card eth0 0x1003 0"], False, "eth0 has no carrier"),
        (["card eth0 0x1003 0"], True, ""),
        (["card eth0 0x1003 1"], False, ""),
        (["room /dev/vda2 4096 0 9000 9 9"], True, "the data partition /dev/vda2 is full: 0 KiB of 35 MiB are free"),
        (["clock 1000"], True, "the node's clock is wrong: it says 1970-01-01, "),
    ],
)
def test_what_a_failed_container_lacked_is_told(lines: list[str], reachable: bool, words: str, tmp_path: Path) -> None:
    kubelet: Any = SimpleNamespace(logs=lambda *_: "eth0: interface not found")
    outcome = Contradicted("container dhcpcd of pod node ended with status 1", ("default", "node", "dhcpcd"))
    asked = witnesses(tmp_path, agent=answering(*lines), reachable=lambda: reachable, kubelet=lambda: kubelet)
    failed = sentence(evidence.failure(outcome, "milestone node/dhcpcd", "", Heard([], []), asked))
    before = "milestone node/dhcpcd: it cannot happen any more: container dhcpcd of pod node ended with status 1"
    assert failed.startswith(f"{before}; {words}" if words else before)
    assert bool(words) == (failed != before)


def test_a_death_is_told_with_what_went_before_and_nobody_is_asked(tmp_path: Path) -> None:
    asked: Any = SimpleNamespace(execute=refusing(AssertionError("a dead machine was asked")))
    heard = Heard(
        [Passed("kernel", 1.0, frozen=True), Passed("shell", 9.0, frozen=True)], [], ["an oops", "an oops", "no disk"]
    )
    failed = evidence.failure(GuestDied("kernel panic: x"), "a line", "", heard, witnesses(tmp_path, qmp=asked))
    assert isinstance(failed, NodeFailure)
    assert str(failed).splitlines()[:2] == [
        "a line: the guest died: kernel panic: x; before that: an oops, no disk",
        "reached: kernel to shell (before it was frozen)",
    ]


def blocks(*disks: dict[str, Any]) -> Any:
    """A machine with these disks and a CPU that idles."""
    told = {"query-blockstats": list(disks)}
    return SimpleNamespace(execute=lambda command, *_: told.get(command, registers(hlt=1)))


@pytest.mark.parametrize(
    ("disks", "loader", "words"),
    [
        ([], "", "; the machine has no disk"),
        (
            [{"node-name": "disk", "qdev": "/nvme", "stats": {}}],
            "no loader",
            "; no loader",
        ),
        ([{"node-name": "disk", "qdev": "/nvme", "stats": {}}], "", ""),
    ],
)
def test_what_a_firmware_found_nothing_for_is_told(
    disks: list[dict[str, Any]], loader: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence.esp, "why_nothing_starts", lambda _: loader)  # type: ignore[attr-defined]
    heard = Heard([Passed("firmware", 1.0)], [])
    asked = witnesses(tmp_path, qmp=blocks(*disks), disk=lambda: contextlib.nullcontext(SimpleNamespace()))
    failed = evidence.failure(GuestDied("the firmware found nothing to boot"), "milestone kernel", "", heard, asked)
    assert sentence(failed) == f"milestone kernel: the guest died: the firmware found nothing to boot{words}"
    failed = evidence.failure(Stalled(90), "milestone kernel", "", heard, asked)
    assert sentence(failed).endswith(f"for 90 s; the CPU was in its idle loop{words}")
    booted = Heard([Passed("firmware", 1.0), Passed("kernel", 2.0)], [])
    assert evidence.signs_of_life(booted, asked) == ["the CPU was in its idle loop"]


def test_a_disk_of_the_hosts_that_is_too_slow_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.disk_load, "seconds_a_request", lambda _: 2.0)  # type: ignore[attr-defined]
    heard = Heard([Passed("kernel", 1.0)], [])
    failed = evidence.failure(TooLate(60), "milestone node/dhcpcd", "", heard, witnesses(tmp_path))
    assert isinstance(failed, HarnessError)
    assert sentence(failed).startswith(
        "milestone node/dhcpcd: it did not happen within 60 s, and the host's disk is too slow: a request takes 2.0 s; "
    )


def test_a_daemons_words_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(["", "", "no kind in config.yaml"])
    monkeypatch.setattr(evidence.memory, "reason", lambda *_: next(looks))  # type: ignore[attr-defined]
    asked: Any = SimpleNamespace(execute=lambda *_: {"base-memory": 1 << 30})
    assert evidence.of_daemon("kubelet", asked, tmp_path / "memory") == "kubelet's own words: no kind in config.yaml"


def test_a_daemon_that_does_not_stay_up_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.memory, "reason", lambda *_: "no kind in config.yaml")  # type: ignore[attr-defined]
    asked: Any = SimpleNamespace(execute=lambda *_: {"base-memory": 1 << 30})
    outcome = Contradicted("kubelet ended 4 times", daemon="kubelet")
    failed = evidence.failure(outcome, "milestone init", "", Heard([], []), witnesses(tmp_path, qmp=asked))
    assert sentence(failed) == (
        "milestone init: it cannot happen any more: kubelet ended 4 times; kubelet's own words: no kind in config.yaml"
    )


def test_a_container_that_speaks_of_no_network_is_told_of_none(tmp_path: Path) -> None:
    kubelet: Any = SimpleNamespace(logs=lambda *_: "modprobe: WARNING: Module virtio_nt not found")
    outcome = Contradicted("container modprobe of pod node ended with status 1", ("default", "node", "modprobe"))
    asked = witnesses(tmp_path, agent=answering(), kubelet=lambda: kubelet)
    failed = sentence(evidence.failure(outcome, "milestone node/modprobe", "", Heard([], []), asked))
    assert failed.endswith("container modprobe of pod node ended with status 1")


def test_a_certificate_of_another_time_tells_the_clock_of_a_node_that_takes_no_commands(tmp_path: Path) -> None:
    why = "x509: certificate has expired or is not yet valid: current time 2016-01-01T00:00:12Z is before 2024-03-04T00:00:00Z"
    kubelet: Any = SimpleNamespace(logs=lambda *_: "")
    outcome = Contradicted(f"container a of pod b cannot run: ErrImagePull: {why}", ("default", "b", "a"))
    asked = witnesses(tmp_path, reachable=lambda: True, kubelet=lambda: kubelet)
    failed = sentence(evidence.failure(outcome, "milestone b/a", "", Heard([], []), asked))
    assert "; the node's clock is wrong: it says 2016-01-01, " in failed


def test_a_pod_that_was_rejected_is_told_with_a_full_disk_and_without_its_network(tmp_path: Path) -> None:
    outcome = Contradicted("the kubelet rejected pod late: late.yaml: Object 'Kind' is missing in 'null'")
    agent = answering("room /dev/vda2 4096 0 9000 9 9")
    failed = sentence(evidence.failure(outcome, "milestone late/main", "", Heard([], []), witnesses(tmp_path, agent=agent)))
    assert failed.endswith("is missing in 'null'; the data partition /dev/vda2 is full: 0 KiB of 35 MiB are free")


def test_a_pod_that_does_not_begin_is_told_with_the_kubelets_reason(tmp_path: Path) -> None:
    said = 'E1 "Error syncing pod, skipping" err="network is not ready" pod="default/web" podUID="1"'
    heard = Heard([Passed("init", 2.0)], [], unbegun=[("default", "web"), ("default", "other")])
    signs = evidence.signs_of_life(heard, witnesses(tmp_path, agent=answering("card eth0 0x1003 1", said)))
    assert signs[1] == "the kubelet cannot begin pod web: network is not ready"
    assert "begin" not in "".join(signs[2:])
    signs = evidence.signs_of_life(replace(heard, unbegun=[]), witnesses(tmp_path, agent=answering(said)))
    assert "begin" not in "".join(signs)


def test_a_node_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def hang(command: str, _: float) -> None:
        asked.append(command)
        raise NodeFailure("it did not end")

    agent: Any = SimpleNamespace(answers=True, run=hang)
    heard = Heard([Passed("init", 2.0)], [], unbegun=[("default", "web")])
    evidence.signs_of_life(heard, witnesses(tmp_path, agent=agent, qmp=qmp(registers())))
    assert len(asked) == 1
