"""Each sign of where a failed node is, by itself: CPU, API, lease, card, clock."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.guest.kubelet import REFUSALS, StatusError
from harness.lab import evidence
from harness.lab.vitals import Card, Vitals
from harness.wire import capture, dhcp
from tests.lab.stand_ins import MAC, qmp, refusing, registers, witnesses
from tests.wire.bootp import bootp, discover, frame

pytestmark = pytest.mark.usefixtures("looks_at_once")
OTHER = "52:55:0a:00:02:02"


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


# As QEMU 11.1 writes it where a KVM cannot go on, before the registers (kvm_handle_internal_error).
_KVM = """qemu-system-x86_64: warning: host doesn't support requested feature
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000000
emulation failure
RAX=0000000000000000 RBX=0000000000000000
"""


@pytest.mark.parametrize(
    ("state", "log", "words"),
    [
        ("internal-error", _KVM, "an internal error of the accelerator: KVM internal error. Suberror: 1"),
        (
            "internal-error",
            "error: kvm run failed Bad address\nRAX=0\n",
            "an internal error of the accelerator: error: kvm run failed Bad address",
        ),
        ("internal-error", None, "an internal error of the accelerator: it says nothing of it"),
        ("paused", _KVM, "somebody paused it"),
        ("guest-panicked", None, "its run state is guest-panicked"),
    ],
)
def test_why_a_machine_stands_still_is_told_by_its_run_state(state: str, log: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "qemu.log"
    if log is not None:
        file.write_text(log)
    asked: list[str] = []

    def execute(command: str, *_: object) -> dict[str, object]:
        asked.append(command)
        return {"running": False, "status": state}

    stopped: Any = SimpleNamespace(execute=execute)
    assert evidence.of_pause(stopped, file) == words
    assert asked == ["query-status"]


def test_a_qemu_that_does_not_say_why_it_stands_still_is_told(tmp_path: Path) -> None:
    silent: Any = SimpleNamespace(execute=refusing(HarnessError("no reply within 5.0 s")))
    assert evidence.of_pause(silent, tmp_path / "qemu.log") == "its QEMU does not say why: no reply within 5.0 s"


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


def test_an_address_that_was_given_by_bootp_is_told_as_no_lease(tmp_path: Path) -> None:
    old = frame(bootp(dhcp.Kind.OFFER, mac=MAC, yiaddr="10.0.2.15")[:236] + bytes(64))
    capture.write(tmp_path / "wire.pcap", [discover(mac=MAC), old])
    assert evidence.of_lease([tmp_path / "wire.pcap"], MAC) == (
        "eth0 has no lease: it asked 1 times, and BOOTP, which leases nothing, gave it 10.0.2.15"
    )


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
