"""Runs as they are found on a disk, made without one: hostile guests, failures, skips, shards."""

import json
import struct
from pathlib import Path

import pytest

from harness.journal.entry import Began, Booted, Ended, Fact, Figure, Finished, Planned, Stage, Started
from harness.journal.journal import Journal

HOSTILE = "<script>document.title='owned'</script>\x1b[31m\x1b]0;owned\x07</pre>\u202e& \"'\0"


def write_run(folder: Path, name: str = "run", *, boots: int = 3, slow: float = 0.0, failures: bool = True) -> Path:
    """A run of three tests, one of which fails with a hostile console if there are to be failures."""
    folder.mkdir(parents=True)
    journal = Journal(folder, name)
    journal.write(Began(name, 1_800_000_000.0, f"python -m pytest scenarios {HOSTILE}", "abc123", host={"name": "here"}))
    journal.write(Fact("under test", "kios.img", "a" * 64))
    journal.write(Fact("host", "QEMU", "11.1"))
    journal.write(Figure("order.py::test_good", "modules", 11, ""))
    for test in ("good", "bad", "skipped"):
        journal.write(
            Planned(f"order.py::test_{test}", "It is in order.", f"It {test}s. {HOSTILE}", f"def test_{test}(): ...\n" * 80)
        )
    for number in range(boots):
        late = slow + 0.1 * (number % 3)
        stages = [Stage("firmware", 3.0 + late / 10), Stage("kernel", 5.0 + late), Stage("node/dhcpcd", 30.0 + late)]
        budgets = {"firmware": 60.0, "kernel": 90.0, "node/dhcpcd": 120.0}
        machine = {"nic": "virtio-net-pci", "cpus": "1", "memory": str(1 << 30), "sector-size": "512"}
        journal.write(Booted("order.py::test_good", "node-1", 1, 1_800_000_001.0, 31.0, "cold", "", stages, budgets, machine))
    journal.write(Started("order.py::test_good", 1_800_000_001.0))
    journal.write(Ended("order.py::test_good", "passed", 1_800_000_040.0, seconds={"call": 39.0}))
    journal.write(Ended("order.py::test_skipped", "skipped", 1_800_000_041.0, sentence="no module igb"))
    if failures:
        left = folder / "order/test_bad"
        _write_artifacts(left / "node-1/boot-1", left / "node-1/manifests")
        sentence = f"milestone node/dhcpcd: it cannot happen any more {HOSTILE}"
        journal.write(
            Ended(
                "order.py::test_bad",
                "failed",
                1_800_000_060.0,
                "node",
                sentence,
                f"{sentence}\nreached: kernel",
                {"call": 19.0},
                "order/test_bad",
            )
        )
    else:
        journal.write(Ended("order.py::test_bad", "passed", 1_800_000_060.0, seconds={"call": 19.0}))
    journal.write(Finished(1_800_000_061.0, int(failures)))
    journal.close()
    return folder


def _write_artifacts(boot: Path, manifests: Path) -> None:
    boot.mkdir(parents=True)
    manifests.mkdir()
    lines = [{"after": 0.1 * number, "text": f"line {number} {HOSTILE}"} for number in range(600)]
    (boot / "console.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{torn")
    (boot / "console.log").write_bytes(b"\x00\xff\x1b[2J")
    (boot / "screen.ppm").write_bytes(b"P6\n4 2\n255\n" + bytes(range(24)))
    arp = bytes.fromhex("ffffffffffff5254006b696f080600010800060400015254006b696f0a00020f0000000000000a000202")
    frames = [arp, b"\xff" * 12 + b"\x86\xdd" + b"\0" * 30, b"short"]
    records = b"".join(struct.pack("<IIII", 100, 500_000 * n, len(f), len(f)) + f for n, f in enumerate(frames))
    (boot / "wire.pcap").write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20) + records)
    event = {"at": 5.0, "way": "received", "message": {"event": "SHUTDOWN", "data": {"reason": HOSTILE}}}
    messages = [{"at": 4.0, "way": "received", "message": {"QMP": {}}}, event]
    (boot / "qmp.jsonl").write_text("\n".join(map(json.dumps, messages)))
    (manifests.parent / "FAIL.tar.zst").touch()
    (manifests / "node.yaml").write_text(f"kind: Pod # {HOSTILE}\n")


@pytest.fixture
def failed_run(tmp_path: Path) -> Path:
    """A run with a failure, a skip and a success."""
    return write_run(tmp_path / "artifacts")
