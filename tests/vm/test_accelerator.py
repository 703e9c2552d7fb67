"""The choice of an accelerator, with a program that stands in for QEMU, and the memory of that choice."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.vm import accelerator
from harness.vm.accelerator import choose, forget_if_wrong, proof_argv
from harness.vm.firmware import Firmware
from harness.vm.machine import Accelerator, Channels

_FAILS = "print('first', file=sys.stderr); print('qemu: no such machine', file=sys.stderr); sys.exit(1)"
# Greets, takes the capabilities and `cont`, and then lets the firmware speak.
_RUNS = """
import json, re, socket
qmp, console = (socket.socket(fileno=int(number)) for number in re.findall(r"fd=(\\d+)", " ".join(sys.argv)))
qmp.sendall(b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 8}, "package": ""}, "capabilities": []}}\\r\\n')
while line := qmp.recv(4096):
    command = json.loads(line)
    qmp.sendall(json.dumps({"return": {}, "id": command.get("id")}).encode() + b"\\r\\n")
    if command["execute"] == "cont":
        console.sendall(b"BdsDxe: loading Boot0000\\n")
"""


class Qemu:
    """A program that answers `--version`, notes every real start, and then does what it is told to become."""

    def __init__(self, folder: Path) -> None:
        self.path, self.starts, self.memory = folder / "qemu", folder / "starts", folder / "cache/accelerator.json"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.firmware = Firmware(folder / "code.fd", folder / "variables.fd")
        for file in (self.firmware.code, self.firmware.variables):
            file.write_bytes(b"x")
        self.become(_FAILS)

    def become(self, program: str, version: str = "8.2.0") -> None:
        self.path.write_text(
            f"#!{sys.executable} -I\nimport sys\n"
            f"if sys.argv[1:] == ['--version']: print('QEMU emulator version {version}'); sys.exit()\n"
            f"open({str(self.starts)!r}, 'a').write(' '.join(sys.argv) + chr(10))\n{program}\n"
        )
        self.path.chmod(0o755)

    def choose(self, wish: str = "tcg") -> Accelerator:
        return choose(wish, self.path, self.firmware, self.memory, self.scratch)

    def started(self) -> bool:
        """Says whether there was a real start since it was asked last."""
        there = self.starts.exists()
        self.starts.unlink(missing_ok=True)
        return there


@pytest.fixture
def qemu(tmp_path: Path) -> Qemu:
    return Qemu(tmp_path)


def test_a_qemu_that_cannot_even_emulate_is_reported_in_its_own_last_words(qemu: Qemu) -> None:
    with pytest.raises(HarnessError, match=r"(?s)cannot even emulate .*status 1 .*\(qemu: no such machine\).*Check .*qemu"):
        qemu.choose()
    assert "-accel tcg" in qemu.starts.read_text()
    assert not qemu.memory.exists()


def test_a_qemu_that_ends_without_a_word_is_reported_so(qemu: Qemu) -> None:
    qemu.become("sys.exit(7)")
    with pytest.raises(HarnessError, match=r"status 7 on it \(without a word\)"):
        qemu.choose()


def test_kvm_by_name_never_falls_back(qemu: Qemu) -> None:
    qemu.become(f"if 'kvm' in sys.argv: {_FAILS}\n{_RUNS}")
    with pytest.raises(HarnessError, match=r"(?s)KVM was asked for, but .*--accelerator=tcg"):
        qemu.choose("kvm")


def test_without_kvm_it_falls_back_and_says_why(qemu: Qemu) -> None:
    qemu.become(f"if 'kvm' in sys.argv: {_FAILS}\n{_RUNS}")
    chosen = qemu.choose("auto")
    assert chosen.name == "tcg"
    assert chosen.reason.startswith("TCG, because ")


def test_an_answer_is_remembered_and_starts_nothing_the_next_time(qemu: Qemu) -> None:
    qemu.become(_RUNS)
    chosen = qemu.choose()
    assert (chosen.name, chosen.slowness, chosen.reason) == ("tcg", 1.0, "TCG as asked for")
    assert qemu.started()
    qemu.become(_FAILS)
    assert qemu.choose() == chosen
    assert not qemu.started()


@pytest.mark.parametrize("slowness", ["-1", "0", "NaN", "1e999", '"2"', "null", "[" * 100_000])
def test_an_answer_that_no_host_gives_is_not_remembered(qemu: Qemu, slowness: str) -> None:
    qemu.become(_RUNS)
    chosen = qemu.choose()
    assert qemu.started()
    qemu.memory.write_text(qemu.memory.read_text().replace(f'"slowness": {chosen.slowness}', f'"slowness": {slowness}'))
    assert qemu.choose() == chosen
    assert qemu.started()


@pytest.mark.parametrize("fact", ["version", "content", "path", "wish"])
def test_an_answer_is_remembered_for_this_very_host_only(qemu: Qemu, fact: str) -> None:
    qemu.become(_RUNS)
    first = qemu.choose()
    assert qemu.started()
    wish = "tcg"
    match fact:
        case "version":
            qemu.become(_RUNS, version="9.0.0")
        case "content":
            qemu.firmware.code.write_bytes(b"another")
        case "path":
            qemu.firmware = Firmware(qemu.firmware.code.rename(qemu.path.with_name("other.fd")), qemu.firmware.variables)
        case _:
            wish = "auto"
    qemu.choose(wish)
    assert qemu.started()
    assert len(json.loads(qemu.memory.read_text())) == 2
    if fact == "wish":
        assert qemu.choose() == first
        assert not qemu.started()


def test_an_answer_on_another_model_is_not_remembered(qemu: Qemu, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu.become(_RUNS)
    monkeypatch.setattr(accelerator, "_TCG_CPU", "qemu64")
    assert qemu.choose().cpu == "qemu64"
    monkeypatch.undo()
    assert qemu.choose().cpu != "qemu64"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b'{"key": {"name": "tcg"}}', b"\xff", b"null"])
def test_a_damaged_memory_is_ignored(qemu: Qemu, content: bytes) -> None:
    qemu.memory.parent.mkdir()
    qemu.memory.write_bytes(content)
    with pytest.raises(HarnessError, match="cannot even emulate"):
        qemu.choose()
    assert qemu.started()


def test_a_damaged_memory_is_written_anew(qemu: Qemu) -> None:
    qemu.become(_RUNS)
    qemu.memory.parent.mkdir()
    qemu.memory.write_bytes(b'{"key": ')
    chosen = qemu.choose()
    assert [Accelerator(**entry) for entry in json.loads(qemu.memory.read_text()).values()] == [chosen]


def test_the_proof_needs_no_disk_and_no_network(qemu: Qemu) -> None:
    words = proof_argv(qemu.path, qemu.firmware, Path("/run/v.fd"), "tcg", "max", Channels(3, 4))
    assert words == proof_argv(qemu.path, qemu.firmware, Path("/run/v.fd"), "tcg", "max", Channels(3, 4))
    assert "-S" in words
    assert not {"-netdev", "-device", "-nic"} & set(words)
    assert words[words.index("-accel") + 1] == "tcg"
    assert [word for word in words if "fd=" in word] == ["socket,id=qmp,fd=3", "socket,id=console,fd=4"]


def test_commas_in_the_proofs_paths_are_doubled(qemu: Qemu) -> None:
    firmware = Firmware(Path("/a,b/code.fd"), Path("/a,b/vars.fd"))
    text = " ".join(proof_argv(qemu.path, firmware, Path("/c,d/v.fd"), "tcg", "max", Channels(3, 4)))
    assert "=/a,,b/code.fd" in text
    assert "=/c,,d/v.fd" in text


def test_a_proof_leaves_nothing_and_works_where_it_was_told_to(qemu: Qemu) -> None:
    qemu.become(_RUNS)
    qemu.choose()
    assert str(qemu.scratch) in qemu.starts.read_text()
    assert list(qemu.scratch.iterdir()) == []


@pytest.mark.parametrize("what", ["a file", "read-only"])
def test_a_cache_that_cannot_be_written_costs_a_proof_each_time(qemu: Qemu, what: str) -> None:
    qemu.become(_RUNS)
    if what == "a file":
        qemu.memory.parent.write_text("no folder")
    else:
        qemu.memory = Path("/proc/kios-e2e/accelerator.json")
    for _ in range(2):
        assert qemu.choose().name == "tcg"
        assert qemu.started()


@pytest.mark.parametrize(
    ("slowness", "seconds", "again"),
    [
        pytest.param(1.0, 5.0, False, id="as measured"),
        pytest.param(1.0, 11.9, False, id="a bit late"),
        pytest.param(1.0, 12.1, True, id="measured when idle, busy now"),
        pytest.param(4.0, 11.0, True, id="measured when busy, idle now"),
        pytest.param(1.0, 2.0, False, id="quicker than any deadline asks for"),
    ],
)
def test_a_host_that_boots_otherwise_than_measured_is_measured_again(
    qemu: Qemu, slowness: float, seconds: float, again: bool
) -> None:
    qemu.become(_RUNS)
    chosen = replace(qemu.choose(), slowness=slowness)
    entries = json.loads(qemu.memory.read_text())
    qemu.memory.write_text(json.dumps({key: {**entry, "slowness": slowness} for key, entry in entries.items()}))
    qemu.started()
    forget_if_wrong(qemu.memory, chosen, seconds)
    qemu.choose()
    assert qemu.started() is again
