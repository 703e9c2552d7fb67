"""The harness under faults, with real QEMUs that run nothing but the firmware: every end is named, and nothing stays."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from faults import mute_qmp
from harness.cli import main
from harness.errors import EXIT_STATUS, HarnessError, NodeFailure, Party
from harness.lab import cache
from harness.lab.maker import NewNode
from harness.lab.stock import Stock, Supplies
from harness.qualification import canary
from harness.qualification.canary import Canary
from harness.storage import disk
from harness.storage.disk import Disk
from harness.verdict.timeline import KERNEL
from harness.vm import machine, qemu

pytestmark = pytest.mark.skipif(
    not Path("/usr/share/qemu/firmware").is_dir(), reason="no UEFI firmware is installed: setup/debian.sh test"
)

_DATA_TYPE = "97aac693-d920-465a-94fe-eb59fc86dfaa"
_ROOT = Path(__file__).parent.parent
_SECONDS_TO_VANISH = 5.0


@pytest.fixture(scope="module")
def blank_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk as kiOS partitions it, with nothing to boot on it."""
    image = tmp_path_factory.mktemp("blank") / "blank.img"
    image.touch()
    os.truncate(image, 32 << 20)
    layout = f"label: gpt\nstart=2048, size=4096, type=U\nstart=8192, size=40960, type={_DATA_TYPE}\n"
    subprocess.run(["/sbin/sfdisk", "-q", image], input=layout.encode(), check=True)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-E", f"offset={8192 * 512}", image, "20M"], check=True)
    return image


class Nothing(Stock):
    """No container image is looked for: none of these nodes comes to run one."""

    def supply(self, disk: Disk, names: Iterable[str], served: ExitStack) -> Supplies:
        return Supplies({})


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Nothing(lambda: tmp_path, (), tmp_path)


def test_disk_without_a_loader_is_named_at_once(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    with pytest.raises(NodeFailure, match="milestone kernel: the guest died: the firmware found nothing to boot"):
        node.wait(KERNEL)


def test_death_of_qemu_ends_a_wait_at_once(new_node: NewNode, blank_image: Path) -> None:
    took: list[float] = []
    # A busy host may hold one of them up.
    while not took or (took[-1] >= 0.5 and len(took) < 3):
        node = new_node(disk.open_image(blank_image), [])
        node.start()
        killed: list[float] = []

        def kill(pid: int = node.boot.process.pid, at: list[float] = killed) -> None:
            os.kill(pid, signal.SIGKILL)
            at.append(time.monotonic())

        threading.Timer(0.3, kill).start()
        with pytest.raises(HarnessError, match="milestone kernel: QEMU died with status -9"):
            node.wait(KERNEL)
        took.append(time.monotonic() - killed[0])
    assert took[-1] < 0.5, took


_QUALIFIED = """
import os
import signal

from harness.verdict.timeline import KERNEL


def test_boots(new_node, image):
    node = new_node(image, [])
    node.start()
    {then}
    node.wait(KERNEL)
"""


@pytest.mark.parametrize(
    ("then", "status", "answer"),
    [
        ("os.kill(node.boot.process.pid, signal.SIGKILL)", 2, "could not tell: .*test_boots: .*QEMU died with status -9"),
        ("pass", 1, "not qualified: .*test_boots: .*the firmware found nothing to boot"),
    ],
    ids=["killed", "broken"],
)
def test_a_qualification_tells_a_killed_qemu_from_a_broken_image(
    tmp_path: Path, blank_image: Path, then: str, status: int, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scenarios, out = tmp_path / "scenarios", tmp_path / "out"
    for folder in (scenarios, out / "canaries"):
        folder.mkdir(parents=True)
    (scenarios / "conftest.py").write_text(_CONFTEST)
    (scenarios / "test_inner.py").write_text(_QUALIFIED.format(then=then))
    (tmp_path / "m.yaml").write_text("machines: [{name: plain, scenarios: [test_inner.py]}]")
    canary.write(out / "canaries/canaries.json", [Canary("c", "test_inner.py", "all", True, "it fails")])
    named = {"--kios-image": blank_image, "--out": out, "--matrix": tmp_path / "m.yaml", "--scenarios": scenarios}
    words = [str(word) for pair in named.items() for word in pair]
    assert main(["qualify", *words, "--", "--rootdir", str(tmp_path)]) == status
    assert re.match(answer, capsys.readouterr().out.splitlines()[-1])


def test_stopped_guest_ends_a_wait_at_once(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    node.boot.qmp.execute("stop")
    with pytest.raises(HarnessError, match="the host ended it: its CPUs were stopped: somebody paused it"):
        node.wait(KERNEL)


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="there is no /dev/kvm that could fail")
def test_a_kvm_that_dies_is_told_in_its_own_words(
    new_node: NewNode, blank_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a hypervisor in a hypervisor opens its device and runs no guest: nobody else can make one die."""

    def with_kvm(*arguments: Any) -> list[str]:
        words = machine.argv(*arguments)
        words[words.index("-accel") + 1], words[words.index("-cpu") + 1] = "kvm", "host"
        return words

    monkeypatch.setattr("harness.lab.node.argv", with_kvm)
    node = new_node(disk.open_image(blank_image), [])

    def boot() -> None:
        node.start()
        node.wait(KERNEL)

    with pytest.raises((HarnessError, NodeFailure)) as ended:
        boot()
    words = str(ended.value)
    if "its CPUs were stopped" not in words:
        pytest.skip(f"no KVM dies here: {words}")
    assert "its CPUs were stopped: an internal error of the accelerator: KVM internal error. Suberror: " in words


def test_a_qmp_that_falls_silent_is_the_hosts_and_ends_with_its_qemu(
    new_node: NewNode, blank_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relays = mute_qmp.relayed(monkeypatch)
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    relays[node.boot.qmp].mute()
    with pytest.raises(HarnessError, match=r"QMP command query-status: no reply within 1\.0 s"):
        node.boot.qmp.execute("query-status", timeout=1)
    assert node.boot.process.running()
    began = time.monotonic()
    node.boot.close()
    assert time.monotonic() - began < 5
    assert not node.boot.process.running()


def test_quit_of_qemu_is_not_taken_for_a_power_off(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    node.boot.qmp.execute("quit")
    with pytest.raises(HarnessError, match="the host ended it: somebody told QEMU to quit"):
        node.wait(KERNEL)


def test_a_signal_to_qemu_is_the_hosts(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    os.kill(node.boot.process.pid, signal.SIGTERM)
    with pytest.raises(HarnessError, match="the host ended it: somebody sent QEMU a signal"):
        node.wait(KERNEL)


def test_qemu_has_a_sandbox_and_no_powers(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    lines = Path(f"/proc/{node.boot.process.pid}/status").read_text().splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh")} == {0}


_START = "new_node(image, []).start(); begun()"
# As a template is started, before it is frozen.
_START_FREEZABLE = 'new_node(image, []).start_freezable(run_folder / "memory"); begun()'
# The way of every scenario to its clone, stopped where QEMU writes or reads the state of the machine.
_FREEZE = 'monkeypatch.setattr(migration, "_wait_until_completed", begun); ready_node(image, [])'
_CLONE = 'monkeypatch.setattr(boot.clock, "set_to_hosts", begun); ready_node(image, [])'
_INNER = """
import time
from pathlib import Path

from harness.lab import boot
from harness.vm import migration
from harness.lab import node


def test_inner(new_node, ready_node, image, run_folder, monkeypatch):
    monkeypatch.setattr(node.Node, "wait_until_ready", lambda node: None)

    def begun(*_):
        Path("started").touch()
        {then}

    {start}
"""


_CONFTEST = """
import pytest

from harness.lab.stock import Stock, Supplies

pytest_plugins = ["harness.plugin"]


@pytest.fixture
def stock(monkeypatch):
    monkeypatch.setattr(Stock, "supply", lambda *_: Supplies({}))
    return Stock(None, (), None)
"""


@pytest.fixture
def inner_run(tmp_path: Path, blank_image: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A pytest of its own that has started a QEMU, then does what the test's parameter says."""
    start, then, *more = request.param
    (tmp_path / "test_inner.py").write_text(_INNER.format(start=start, then=then))
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cache").mkdir()
    with contextlib.suppress(FileNotFoundError):
        # Proven once for all of these runs.
        shutil.copy(cache.folder(None) / "accelerators.json", tmp_path / "cache")
    options = ["--kios-image", str(blank_image), "--image-cache", str(tmp_path / "cache"), *more]
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_inner.py", *options]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "TMPDIR": str(tmp_path / "tmp")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield process
    process.kill()
    process.wait()


def _wait_for_start(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "started").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "the inner run does not start its node"
        time.sleep(0.05)


def _left_behind(folder: Path) -> list[str]:
    """Files of the run, and processes that have them on their command line."""
    left = [str(path) for path in (folder / "tmp").iterdir()]
    left += [str(path) for path in Path("/dev/shm").glob("*") if path.stat().st_mtime > folder.stat().st_mtime]
    mine = str(folder / "tmp").encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if mine in words:
            left.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return left


def _assert_nothing_left_soon(folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_VANISH
    while left := _left_behind(folder):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("inner_run", "status"),
    [((_START, "pass"), 0), ((_START, "assert False"), 1)],
    ids=["success", "failure"],
    indirect=["inner_run"],
)
def test_nothing_is_left_after_the_end(inner_run: subprocess.Popen[bytes], tmp_path: Path, status: int) -> None:
    assert inner_run.wait(120) == status, (tmp_path / "output").read_text()
    assert _left_behind(tmp_path) == []


_ENDED = "ended = new_node(image, []); ended.start(); ended.boot.close(); begun()"
_KILLED = "ended = new_node(image, []); ended.start(); ended.boot.process.kill(); begun()"
_FAILS = "raise AssertionError('it is at fault')"


@pytest.mark.parametrize("inner_run", [(_START, _FAILS, "--bundle-on-failure")], indirect=True)
def test_a_node_that_failed_as_it_booted_is_entered_where_it_failed(inner_run: subprocess.Popen[bytes], tmp_path: Path) -> None:
    if not qemu.find(None, cache.folder(None) / "qemu").can_freeze:
        pytest.skip("this QEMU cannot freeze an NVMe disk")
    assert inner_run.wait(120) == 1, (tmp_path / "output").read_text()
    said = _entered(tmp_path)
    assert (said.stdout, said.stderr) == ("it is at fault () running\n", "")


@pytest.mark.parametrize("inner_run", [(_ENDED, _FAILS, "--bundle-on-failure")], indirect=True)
def test_a_node_whose_qemu_is_gone_boots_its_disk(inner_run: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert inner_run.wait(120) == 1, (tmp_path / "output").read_text()
    said = _entered(tmp_path)
    assert said.stdout == "it is at fault None running\n"
    assert said.stderr.endswith("cannot be brought back (its QEMU had ended): its disk is booted as it was left\n")


def _entered(folder: Path) -> subprocess.CompletedProcess[str]:
    """What a script says at the one node that failed."""
    (bundle,) = folder.glob("artifacts/**/FAIL.tar.zst")
    assert f"kios-e2e enter {bundle}" in (folder / "output").read_text()
    script = (
        "frozen = node.boot.frozen and node.boot.frozen.milestones\n"
        "print(bundle.failure.sentence, frozen, node.boot.qmp.execute('query-status')['status'])"
    )
    enter = [sys.executable, "-m", "harness", "enter", str(bundle), "--image-cache", str(folder / "cache")]
    return subprocess.run(enter, input=script, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("inner_run", [(_START, _FAILS, "--bundle-on-failure", "--bundle-limit", "1K")], indirect=True)
def test_a_bundle_that_is_too_large_changes_no_verdict(inner_run: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert inner_run.wait(120) == 1
    output = (tmp_path / "output").read_text()
    assert "test_inner.py::test_inner: it takes more than the 0 MiB that are left for it\n" in output
    assert "1 failed" in output
    assert "error" not in output.splitlines()[-1]
    assert not list(tmp_path.glob("artifacts/**/FAIL*"))


@pytest.mark.parametrize(
    ("inner_run", "party"),
    [
        ((_START, "raise KeyError('mistyped')", "--bundle-on-failure"), Party.TEST),
        ((_KILLED, _FAILS, "--bundle-on-failure"), Party.HOST),
        ((_START, _FAILS, "--bundle-on-failure", "--bundle-limit", "0"), Party.NODE),
    ],
    ids=["the test's own", "the host's", "not wanted"],
    indirect=["inner_run"],
)
def test_no_bundle_is_made_of_what_no_node_failed(inner_run: subprocess.Popen[bytes], tmp_path: Path, party: Party) -> None:
    assert inner_run.wait(120) == EXIT_STATUS[party]
    assert not list(tmp_path.glob("artifacts/**/FAIL*"))
    assert "bundle" not in (tmp_path / "output").read_text().partition("short test summary")[2]


@pytest.mark.parametrize(
    "inner_run",
    [(start, "time.sleep(600)") for start in (_START, _START_FREEZABLE, _FREEZE, _CLONE)],
    ids=["boot", "template", "freeze", "clone"],
    indirect=True,
)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_nothing_is_left_after_a_signal(
    request: pytest.FixtureRequest, inner_run: subprocess.Popen[bytes], tmp_path: Path, sent: signal.Signals
) -> None:
    name = request.node.callspec.id
    if ("freeze" in name or "clone" in name) and not qemu.find(None, cache.folder(None) / "qemu").can_freeze:
        pytest.skip("this QEMU cannot freeze an NVMe disk")
    _wait_for_start(inner_run, tmp_path)
    assert _left_behind(tmp_path), "the run has nothing that could be left"
    inner_run.send_signal(sent)
    inner_run.wait(60)
    _assert_nothing_left_soon(tmp_path)
    # What was frozen whole may be used again; what was not, never.
    assert len(list((tmp_path / "cache").glob("templates/*/template.json"))) == ("clone" in name)
