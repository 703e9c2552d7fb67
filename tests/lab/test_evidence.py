"""What a failure says of where its node stood: each sign from what real machines and nodes answer, and none made up."""

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.guest.kubelet import StatusError
from harness.lab import evidence
from harness.lab.evidence import Heard
from harness.serial.result import Result
from harness.verdict.outcome import Contradicted, GuestDied, QemuDied, Stalled, TooLate
from harness.verdict.timeline import Passed
from tests.lab.stand_ins import qmp, refusing, registers, witnesses

pytestmark = pytest.mark.usefixtures("looks_at_once")


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


def test_what_came_first_and_last_before_a_death_is_told(tmp_path: Path) -> None:
    heard = Heard([], [], ["a timeout", "an error", "another", "a read-only mount"])
    failed = sentence(evidence.failure(GuestDied("kernel panic: x"), "a line", "", heard, witnesses(tmp_path)))
    assert failed.endswith("; before that: a timeout, another, a read-only mount")


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


_ENDLESS = ("default", "node", "endless")


@pytest.mark.parametrize("outcome", [TooLate(60), Stalled(90)])
def test_a_container_that_does_not_end_is_told_with_its_last_words(outcome: TooLate | Stalled, tmp_path: Path) -> None:
    kubelet: Any = SimpleNamespace(pods=list, logs=lambda *whose: "waiting for a lock" if whose == _ENDLESS else "")
    fate = "container endless of pod node has not ended: it has run for 95 s"
    heard = Heard([Passed("init", 2.0)], [], unended=[(fate, _ENDLESS)])
    asked = witnesses(tmp_path, reachable=lambda: True, kubelet=lambda: kubelet)
    failed = evidence.failure(outcome, "milestone node/endless", "", heard, asked)
    assert f"; {fate}; the CPU was in " in sentence(failed)
    assert "last words of container endless:\n  | waiting for a lock\n" in str(failed)


def test_a_container_of_which_nothing_is_known_is_told_by_its_log_alone(tmp_path: Path) -> None:
    said = b"2026-11-25T23:52:39.4+00:00 stdout F soliciting a lease\n"
    agent: Any = SimpleNamespace(answers=True, run=lambda *_: Result(0, said))
    heard = Heard([Passed("init", 2.0)], [], unended=[("", _ENDLESS)])
    failed = evidence.failure(TooLate(60), "milestone node/endless", "", heard, witnesses(tmp_path, agent=agent))
    assert "endless" not in sentence(failed).removeprefix("milestone node/endless")
    assert "last words of container endless:\n  | soliciting a lease\n" in str(failed)
    early = replace(heard, passed=[Passed("kernel", 2.0)])
    failed = evidence.failure(TooLate(60), "milestone node/endless", "", early, witnesses(tmp_path, agent=agent))
    assert "soliciting" not in str(failed)


def test_what_was_silent_and_since_when_is_told(tmp_path: Path) -> None:
    frozen, capture = tmp_path / "dhcp.pcap", tmp_path / "wire.pcap"
    frozen.write_bytes(bytes(100))
    capture.write_bytes(bytes(100))
    os.utime(capture, (time.time() - 12, time.time() - 12))
    disk = {"node-name": "disk", "qdev": "/nvme", "stats": {"idle_time_ns": 88_000_000_000}}
    asked = witnesses(tmp_path, captures=[frozen, capture], qmp=blocks(disk))
    heard = Heard([Passed("kernel", 1.0)], [], silent=95.0)
    assert evidence.of_silence(heard, asked) == ["silent by then: its console for 95 s, its wire for 12 s, its disk for 88 s"]
    capture.write_bytes(bytes(24))
    assert evidence.of_silence(heard, replace(asked, qmp=blocks())) == ["silent by then: its console for 95 s"]
    assert evidence.of_silence(replace(heard, silent=None), witnesses(tmp_path)) == []


def test_a_wait_that_ends_late_tells_what_was_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.disk_load, "seconds_a_request", lambda _: 0.0)  # type: ignore[attr-defined]
    failed = evidence.failure(Stalled(90), "milestone init", "", Heard([], [], silent=90.0), witnesses(tmp_path))
    assert sentence(failed).endswith("; silent by then: its console for 90 s")


def test_a_node_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def hang(command: str, _: float) -> None:
        asked.append(command)
        raise NodeFailure("it did not end")

    agent: Any = SimpleNamespace(answers=True, run=hang)
    heard = Heard([Passed("init", 2.0)], [], unbegun=[("default", "web")])
    evidence.signs_of_life(heard, witnesses(tmp_path, agent=agent, qmp=qmp(registers())))
    assert len(asked) == 1
