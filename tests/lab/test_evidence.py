"""What a failure says of where its node stood: each sign from what real machines and nodes answer, and none made up."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.lab import evidence
from harness.lab.evidence import Heard, Witnesses
from harness.serial.result import Result
from harness.verdict.outcome import Contradicted, GuestDied, QemuDied, Stalled, TooLate
from harness.verdict.timeline import Passed
from harness.wire import dhcp

MAC = "52:54:00:12:34:56"
# As `info registers` of QEMU 11.1 has them.
_REGISTERS = """CPU#0
RAX=000000000000006b RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP={rip} RFL=00000246 [---Z-P-] CPL={cpl} II=0 A20=1 SMM=0 HLT={hlt}
ES =0000 0000000000000000 ffffffff 00c00000
"""


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
    assert evidence.of_cpu(qmp(*answers)) == words


def test_a_machine_that_is_gone_has_no_cpu() -> None:
    gone: Any = SimpleNamespace(execute=refusing(HarnessError("the connection is gone")))
    assert evidence.of_cpu(gone) == ""


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("crio S\nkubelet S\n", ""),
        ("crio S\nkubelet T\n", "kubelet is stopped"),
        ("crio none\nkubelet R\n", "crio does not run"),
        ("crio D\nkubelet Z\n", "crio waits for a disk, kubelet has ended"),
        ("sh: no such thing\n", ""),
    ],
)
def test_a_daemon_that_is_not_well_is_named(told: str, words: str) -> None:
    agent: Any = SimpleNamespace(answers=True, run=lambda *_: Result(0, told.encode()))
    assert evidence.of_daemons(agent) == words


def test_the_states_of_daemons_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "pidof").write_text('#!/bin/sh\ntest "$1" = crio && echo 7 8\n')
    (tmp_path / "pidof").chmod(0o755)
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/status").write_text("Name:\tcrio\nState:\tT (stopped)\n")
    command = evidence._DAEMONS.replace("/proc/", f"{tmp_path}/proc/")
    done = subprocess.run(["sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=False)
    assert done.stdout == b"crio T\nkubelet none\n"


def test_a_node_that_takes_no_commands_is_not_asked_for_its_daemons() -> None:
    silent: Any = SimpleNamespace(answers=False, run=refusing(AssertionError("it was asked")))
    hanging: Any = SimpleNamespace(answers=True, run=refusing(NodeFailure("it did not end")))
    assert evidence.of_daemons(silent) == evidence.of_daemons(hanging) == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("timed out"), "the kubelet's API takes connections and does not answer"),
        (ConnectionRefusedError("refused"), "the kubelet's API cannot be asked: refused"),
        (HarnessError("The kubelet answers 401"), "the kubelet's API cannot be asked: The kubelet answers 401"),
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
        ([], "eth0 never asked for a lease"),
        (["DISCOVER", "DISCOVER"], "eth0 asked 2 times for a lease, and nobody answered"),
        (["DISCOVER", "OFFER"], "eth0 has no lease, though it was answered: DISCOVER, OFFER"),
    ],
)
def test_what_became_of_the_lease_is_told_by_the_wire(
    kinds: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = [SimpleNamespace(kind=dhcp.Kind[kind], client_mac=MAC) for kind in kinds]
    monkeypatch.setattr(dhcp, "messages", lambda _: heard)
    assert evidence.of_lease([tmp_path], MAC) == words
    monkeypatch.setattr(dhcp, "lease", lambda *_: "a lease")
    assert evidence.of_lease([tmp_path], MAC) == ""


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
    assert sentence(failed).endswith("; init looks for its disk; the CPU was in its idle loop; eth0 never asked for a lease")


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


def test_a_daemon_that_does_not_stay_up_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.memory, "reason", lambda *_: "no kind in config.yaml")  # type: ignore[attr-defined]
    asked: Any = SimpleNamespace(execute=lambda *_: {"base-memory": 1 << 30})
    outcome = Contradicted("kubelet ended 4 times", daemon="kubelet")
    failed = evidence.failure(outcome, "milestone init", "", Heard([], []), witnesses(tmp_path, qmp=asked))
    assert sentence(failed) == (
        "milestone init: it cannot happen any more: kubelet ended 4 times; kubelet's own words: no kind in config.yaml"
    )
