"""What is found on hosts that have all, and on hosts that lack one thing: it is named, with what mends it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from harness import doctor, tools
from harness.doctor import Condition
from harness.errors import HarnessError
from harness.lab import admission, builder, capacity, host
from harness.lab.wanted import Wanted
from harness.vm import accelerator, firmware, qemu
from harness.vm.firmware import Firmware
from harness.vm.machine import Accelerator
from harness.vm.qemu import Qemu

_GIB = 1 << 30
PROJECT = Path(__file__).parents[1]
_WHAT = [
    "qemu-img",
    "qemu-io",
    "debugfs",
    "e2fsck",
    "mcopy",
    "lz4",
    "setpriv",
    "memory and CPUs",
    "disk",
    "QEMU",
    "firmware",
    "accelerator",
    "reference image",
]


def failing(words: str) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise HarnessError(words)

    return fail


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A host that has all; the dictionary tells what the parts were asked."""
    asked: dict[str, Any] = {}

    def find_qemu(program: str | None, unpacked: Path) -> Qemu:
        asked.update(program=program, unpacked=unpacked)
        return Qemu(Path("/q/bin/qemu"), (11, 1))

    def find_firmware(first: Path) -> Firmware:
        asked.update(first=first)
        return Firmware(Path("/q/code.fd"), Path("/q/variables.fd"))

    def choose(wish: str, program: Path, code: Firmware, memory_file: Path, scratch: Path) -> Accelerator:
        assert scratch.is_dir()
        asked.update(wish=wish, proven=(program, code.code), memory_file=memory_file)
        return Accelerator("kvm", "host", 0.25, "KVM ran the firmware in 0.5 s")

    monkeypatch.setattr(tools, "find", lambda name: Path("/tools", name))
    monkeypatch.setattr(tools, "run", lambda *_: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=21 * _GIB))
    monkeypatch.setattr(capacity, "capacity", lambda: admission.Need(2 * _GIB, 3.0))
    monkeypatch.setattr(host, "unpacked_qemu", lambda folder: folder / "qemu")
    monkeypatch.setattr(qemu, "find", find_qemu)
    monkeypatch.setattr(firmware, "find", find_firmware)
    monkeypatch.setattr(accelerator, "choose", choose)
    monkeypatch.setattr(builder, "ask", lambda *words: " ".join(map(str, words)))
    return asked


def examine(folder: Path, program: str | None = None) -> dict[str, Condition]:
    return {finding.what: finding for finding in doctor.examine(Wanted(qemu=program, cache=folder))}


def lacking(findings: dict[str, Condition]) -> list[str]:
    return [what for what, finding in findings.items() if finding.cure]


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Condition("disk", "9 GiB"), "ok     disk: 9 GiB"),
        (Condition("disk", "9 GiB", "make room"), "LACKS  disk: 9 GiB  ->  make room"),
        (
            Condition("image", "there is none:\n  build it", "make image"),
            "LACKS  image: there is none: build it  ->  make image",
        ),
    ],
    ids=["well", "lacking", "words of two lines"],
)
def test_a_finding_is_a_line(finding: Condition, line: str) -> None:
    assert finding.line() == line


def test_a_host_that_has_all(tmp_path: Path, asked: dict[str, Any]) -> None:
    findings = examine(tmp_path, "my-qemu")
    assert list(findings) == _WHAT
    assert lacking(findings) == []
    assert findings["debugfs"].words == "/tools/debugfs"
    assert findings["disk"].words == f"21 GiB are free at {tmp_path}"
    assert findings["memory and CPUs"].words.endswith(" GiB, 3 CPUs")
    assert findings["QEMU"].words == "/q/bin/qemu 11.1; nodes can be cloned"
    assert findings["firmware"].words == "/q/code.fd"
    assert findings["accelerator"].words == "kvm, KVM ran the firmware in 0.5 s; deadlines x 0.25"
    assert findings["reference image"].words == f"find --cache {tmp_path}"
    assert asked == {
        "program": "my-qemu",
        "unpacked": tmp_path / "qemu",
        "first": Path("/q/share/qemu/firmware"),
        "wish": "auto",
        "proven": (Path("/q/bin/qemu"), Path("/q/code.fd")),
        "memory_file": tmp_path / "accelerators.json",
    }


def test_the_cache_that_images_has_is_looked_at_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: dict[str, Any]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    list(doctor.examine(Wanted()))
    assert asked["unpacked"] == tmp_path / "kios-e2e/qemu"


def test_a_qemu_that_cannot_clone_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(qemu, "find", lambda *_: Qemu(Path("/usr/bin/qemu"), (10, 0)))
    finding = examine(tmp_path)["QEMU"]
    assert finding.words == "/usr/bin/qemu 10.0; every node is booted: setup/qemu.sh brings one that clones"
    assert not finding.cure


def test_a_tool_that_lacks_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "find", failing("qemu-io is not installed: apt-get install qemu-utils"))
    findings = examine(tmp_path)
    assert lacking(findings) == ["qemu-img", "qemu-io", "debugfs", "e2fsck", "mcopy", "lz4", "setpriv"]
    assert findings["qemu-io"] == Condition("qemu-io", "qemu-io is not installed", "apt-get install qemu-utils")


@pytest.mark.parametrize(
    ("free", "folder", "lacks"),
    [(19, "new/folder", True), (20, "new/folder", False), (19, "", False)],
    ids=["too little", "enough", "built already"],
)
def test_a_first_build_needs_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, folder: str, lacks: bool) -> None:
    looked_at: list[Path] = []

    def usage(place: Path) -> SimpleNamespace:
        looked_at.append(place)
        return SimpleNamespace(free=free * _GIB)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    findings = examine(tmp_path / folder)
    assert lacking(findings) == ["disk"] * lacks
    assert findings["disk"].words == f"{free} GiB are free at {tmp_path / folder}"
    assert looked_at == [tmp_path]


def test_a_host_without_memory_for_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(capacity, "capacity", lambda: admission.Need(2 * _GIB - 1, 1.0))
    assert lacking(examine(tmp_path)) == ["memory and CPUs"]


@pytest.mark.parametrize(
    ("part", "name", "before"),
    [(qemu, "find", []), (firmware, "find", ["QEMU"]), (accelerator, "choose", ["QEMU", "firmware"])],
    ids=["no QEMU", "no firmware", "no accelerator"],
)
def test_what_a_node_runs_on_lacks_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: object, name: str, before: list[str]
) -> None:
    monkeypatch.setattr(part, name, failing("there is none"))
    findings = examine(tmp_path)
    assert list(findings) == [*_WHAT[: _WHAT.index("QEMU")], *before, "QEMU and firmware", "reference image"]
    assert (
        findings["QEMU and firmware"].line()
        == "LACKS  QEMU and firmware: there is none  ->  setup/debian.sh run, in a checkout of the harness"
    )
    assert lacking(findings) == ["QEMU and firmware"]


def test_a_reference_image_that_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builder, "ask", failing("none is built"))
    assert examine(tmp_path)["reference image"] == Condition("reference image", "none is built", "python -m images build")


def test_a_tool_that_does_not_run_is_lacking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(name: str, question: str) -> None:
        if name == "debugfs":
            raise HarnessError(f"debugfs failed with status 127: asked {question}")

    monkeypatch.setattr(tools, "run", run)
    findings = examine(tmp_path)
    assert lacking(findings) == ["debugfs"]
    assert findings["debugfs"] == Condition(
        "debugfs", "debugfs failed with status 127: asked -V", "apt-get install --reinstall e2fsprogs"
    )


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/x", "/proc/foo"])
def test_a_cache_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert lacking(examine(Path(folder))) == ["disk"]


def test_without_a_home_the_cache_is_what_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/no/such/home")
    assert lacking({found.what: found for found in doctor.examine(Wanted())}) == ["cache"]


@pytest.mark.parametrize(
    ("initrd", "words", "is_lacking"),
    [
        ("initrd", "; generation B: nvme is one of its modules (6.12.9)", False),
        (None, "Its configuration is a second initramfs: give it, --kios-initrd", True),
    ],
)
def test_what_is_to_be_tested_is_said_with_its_generation(
    tmp_path: Path, initrd: str | None, words: str, is_lacking: bool
) -> None:
    (tmp_path / "modules/6.12.9").mkdir(parents=True)
    (tmp_path / "modules/6.12.9/modules.dep").write_text("kernel/nvme.ko:\n")
    (tmp_path / "Bootx64.efi").write_bytes(b"MZ")
    (tmp_path / "initrd").write_bytes(b"070701")
    theirs = tmp_path / initrd if initrd else None
    wanted = Wanted(efi=tmp_path / "Bootx64.efi", modules=tmp_path / "modules", initrd=theirs, cache=tmp_path)
    found = next(each for each in doctor.examine(wanted) if each.what == "what is to be tested")
    assert words in found.words
    assert bool(found.cure) == is_lacking


def test_memory_that_no_node_can_have_here_is_lacking(tmp_path: Path) -> None:
    found = next(each for each in doctor.examine(Wanted(memory="4G", cache=tmp_path)) if each.what == "what is to be tested")
    assert found.words.startswith("A node with 4.0 GiB of memory never fits here")


@pytest.mark.parametrize("reader", ["exec head -c 1", "exec true", "closed"])
def test_doctor_does_not_care_who_reads(reader: str) -> None:
    program = (
        "import sys; from harness import cli, doctor; from harness.doctor import Condition\n"
        "doctor.examine = lambda *_: iter([Condition('a', 'is there'), *[Condition('b', 'x' * 9999, 'bring it')] * 50])\n"
        "sys.exit(cli.main(['doctor']))"
    )
    ending = ">&-; echo $? >&2" if reader == "closed" else f"; echo $? >&2; }} | {{ {reader}; }}"
    line = f'{{ "$0" -c "$1" {ending}' if reader != "closed" else f'"$0" -c "$1" {ending}'
    done = subprocess.run(["sh", "-c", line, sys.executable, program], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.stderr == "1\n"
