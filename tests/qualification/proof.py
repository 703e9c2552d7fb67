"""`make prove`: what a qualification is for, on images that are sound, slower and broken, whole and in shards.

Collected only by name: it boots real nodes for half an hour. PROOF=FOLDER keeps what is left of it, with every report.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness import tools
from harness.lab import builder, cache
from harness.report import earlier
from harness.storage.disk import Disk, open_image
from images import kernel, node
from images.cache import Cache

_ROOT = Path(__file__).parents[2]
_LOADER = "::EFI/Boot/Bootx64.efi"
_ORDER = "order.py::test_each_container_waits_for_the_one_before"
_MODULES = "modules.py::test_script_executes"
_WHOLE = f"""\
machines:
- {{name: plain, scenarios: ["{_ORDER}", "{_MODULES}", "hardening.py::test_log_containers_may_do_nothing"]}}
- {{name: cold boots, start: cold, scenarios: ["{_ORDER}"], repeats: {{presubmit: 6}}}}
canaries: {{presubmit: [order-failure]}}
"""
_ONE = f'machines: [{{name: plain, start: cold, scenarios: ["{_ORDER}"]}}]'
_TWO = f"""\
machines: [{{name: plain, scenarios: ["{_ORDER}", "{_MODULES}", "hardening.py::test_log_containers_may_do_nothing"]}}]
canaries: {{presubmit: [order-failure]}}
"""


@dataclass(frozen=True)
class Qualified:
    """What a qualification came to: its exit status, the last line that it said, and its report."""

    status: int
    said: str
    out: Path

    @property
    def report(self) -> dict[str, Any]:
        return earlier.read(self.out / "report")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("PROOF")
    folder = Path(named).absolute() if named else tmp_path_factory.mktemp("proof")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def reference() -> Path:
    return builder.reference_image(cache.folder(None)) / "kios.img"


@pytest.fixture
def broken(reference: Path, place: Path) -> Iterator[Path]:
    """A copy of the reference image, to be broken."""
    copy = place / "image.img"
    tools.run("cp", "--sparse=always", reference, copy)
    yield copy
    copy.unlink()


@pytest.fixture(scope="module")
def whole(reference: Path, place: Path) -> Qualified:
    """The first report."""
    return qualified(place / "whole", _WHOLE, reference)


def test_the_reference_image_is_qualified(whole: Qualified) -> None:
    assert (whole.status, whole.said[:10]) == (0, "qualified:"), whole.said


def test_a_slower_kernel_is_named_with_how_much(whole: Qualified, broken: Path, place: Path) -> None:
    parts = Cache(cache.folder(None))
    slow = parts.get(kernel.part(parts, node.built_initramfs(parts, "a") / "initramfs.cpio", "xz")) / "Bootx64.efi"
    _put_loader(broken, slow)
    slower = qualified(place / "slower", _WHOLE, broken, "--against", str(whole.out / "report"))
    assert slower.status == 0, slower.said
    [kernels] = [each for each in slower.report["answer"]["changes"] if each.startswith("kernel ")]
    print(kernels)
    assert re.fullmatch(r"kernel \+[0-9.]+ s, p = 0\.0\d+", kernels)


def _without_loader(image: Path) -> None:
    tools.run("mdel", "-i", _esp(image), _LOADER)


def _with_half_a_loader(image: Path) -> None:
    loader = image.with_suffix(".efi")
    tools.run("mcopy", "-o", "-n", "-i", _esp(image), _LOADER, loader)
    os.truncate(loader, loader.stat().st_size // 2)
    _put_loader(image, loader)


def _without_filesystem(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(_data(open_image(image)) + 1024)
        file.write(bytes(1024))


def _truncated(image: Path) -> None:
    os.truncate(image, image.stat().st_size // 2)


def _with_a_configuration_that_is_none(image: Path) -> None:
    made = image.with_suffix(".yaml")
    made.write_text("kind: Nonsense\n")
    _debugfs(image, f"write {made} /meta/etc/kubernetes/config.yaml")


def _without_a_module(image: Path) -> None:
    disk = open_image(image)
    [version] = disk.modules()
    folder = PurePosixPath("/modules") / version
    [module] = re.findall(r"^(\S*tiny-power-button\S*):", disk.file(folder / "modules.dep").decode(), re.MULTILINE)
    _debugfs(image, f"rm {folder / module}")


@pytest.mark.parametrize(
    ("breaks", "why"),
    [
        (_without_loader, "the firmware found nothing to boot"),
        (_with_half_a_loader, r"refused the EFI binary|found nothing to boot: .*Unsupported"),
        (_without_filesystem, "has no ext4 file system"),
        (_truncated, "is (truncated|damaged)"),
        (_with_a_configuration_that_is_none, "kubelet ended 4 times within .* a configuration or an argument that it refuses"),
        (_without_a_module, "container modprobe of pod node ended with status 1: .*tiny_power_button"),
    ],
)
def test_a_broken_image_is_not_qualified(broken: Path, place: Path, breaks: Callable[[Path], None], why: str) -> None:
    breaks(broken)
    found = qualified(place / breaks.__name__.strip("_"), _ONE, broken)
    assert (found.status, found.said[:15]) == (1, "not qualified: "), found.said
    assert re.search(why, found.said)


def test_a_failed_node_is_entered_after_the_run(place: Path, broken: Path) -> None:
    _without_a_module(broken)
    found = qualified(place / "entered", _ONE, broken)
    [failure] = found.report["failures"]
    [failed] = [found.out / "report" / each for each in failure["evidence"]["bundles"]]
    script = "print(node.run('ls /host/modules').text, node.boot.frozen is not None)"
    words = [sys.executable, "-m", "harness", "enter", str(failed), "--kios-image", str(broken)]
    done = subprocess.run(words, cwd=_ROOT, input=script, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout, done.stdout + done.stderr


def test_with_qemu_killed_nothing_could_be_told(reference: Path, place: Path) -> None:
    out = place / "killed"
    running = start(out, _ONE, reference)
    deadline = time.monotonic() + 300
    while not (mine := list(_qemus_below(running.pid))) or not list(out.rglob("console.log")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(8)
    os.kill(mine[-1], 9)
    said = running.communicate(timeout=600)[0].splitlines()[-1]
    assert running.returncode == 2, said
    assert re.match("could not tell: .*QEMU died with status -9", said), said


def test_two_shards_are_one_run(reference: Path, place: Path) -> None:
    one = qualified(place / "one", _TWO, reference)
    parts = [qualified(place / f"shard-{number}", _TWO, reference, "--shard", f"{number}/2") for number in (1, 2)]
    assert [each.status for each in parts] == [2, 2]
    words = ["report", *(str(each.out) for each in parts), "--out", str(place / "both")]
    joined = _run(words)
    assert joined.returncode == one.status == 0, joined.stdout
    both = earlier.read(place / "both")
    assert both["answer"] == one.report["answer"]
    assert verdicts(both) == verdicts(one.report)
    assert len(both["canaries"]) == len(one.report["canaries"])
    assert _run([*words[:1], str(parts[0].out), *words[-2:]]).stdout.splitlines()[-1] == "could not tell: shard 2/2 is missing"


def verdicts(report: dict[str, Any]) -> dict[str, dict[str, tuple[str, int]]]:
    return {
        each["test"]: {name: (cell["verdict"], cell["attempts"]) for name, cell in each["cells"].items()}
        for each in report["promises"]
    }


def qualified(out: Path, matrix: str, image: Path, *more: str) -> Qualified:
    running = start(out, matrix, image, *more)
    said = running.communicate()[0]
    return Qualified(running.returncode, said.splitlines()[-1], out)


def start(out: Path, matrix: str, image: Path, *more: str) -> subprocess.Popen[str]:
    out.mkdir()
    (out / "machines.yaml").write_text(matrix)
    named = {"--kios-image": image, "--out": out, "--matrix": out / "machines.yaml", "--tier": "presubmit"}
    words = ["qualify", *(str(word) for pair in named.items() for word in pair), *more]
    return subprocess.Popen([sys.executable, "-m", "harness", *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness", *words], cwd=_ROOT, capture_output=True, text=True, check=False)


def _qemus_below(pid: int) -> Iterator[int]:
    """The QEMUs below a process: whatever thread started them, and by their arguments, as the name may be a loader's."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        # One that has ended by now is none.
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                if b"qemu-system" in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield child
                yield from _qemus_below(child)


def _esp(image: Path) -> str:
    disk = open_image(image)
    return f"{image}@@{disk.esp.first * disk.table.sector_size}"


def _data(disk: Disk) -> int:
    return disk.data.first * disk.table.sector_size


def _put_loader(image: Path, loader: Path) -> None:
    tools.run("mdel", "-i", _esp(image), _LOADER)
    tools.run("mcopy", "-i", _esp(image), loader, _LOADER)


def _debugfs(image: Path, request: str) -> None:
    tools.run("debugfs", "-w", "-R", request, f"{image}?offset={_data(open_image(image))}")
