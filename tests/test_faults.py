"""The harness under faults, with real QEMUs that run nothing but the firmware: every end is named, and nothing stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import disk
from harness.errors import HarnessError, NodeFailure
from harness.maker import NewNode
from harness.timeline import KERNEL

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


def test_disk_without_a_loader_is_named_at_once(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    with pytest.raises(NodeFailure, match="milestone kernel: the guest died: the firmware found nothing to boot"):
        node.wait(KERNEL)


def test_death_of_qemu_ends_a_wait_at_once(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    killed = []

    def kill() -> None:
        os.kill(node.boot.process.pid, signal.SIGKILL)
        killed.append(time.monotonic())

    threading.Timer(0.3, kill).start()
    with pytest.raises(HarnessError, match="milestone kernel: QEMU died with status -9"):
        node.wait(KERNEL)
    assert time.monotonic() - killed[0] < 0.5


def test_stopped_guest_ends_a_wait_at_once(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    node.boot.qmp.execute("stop")
    with pytest.raises(NodeFailure, match="its CPUs were stopped"):
        node.wait(KERNEL)


def test_quit_of_qemu_is_not_taken_for_a_power_off(new_node: NewNode, blank_image: Path) -> None:
    node = new_node(disk.open_image(blank_image), [])
    node.start()
    node.boot.qmp.execute("quit")
    with pytest.raises((NodeFailure, HarnessError), match=r"switched off|QEMU died"):
        node.wait(KERNEL)


_START = "new_node(image, []).start()"
# As a template is started, before it is frozen.
_START_FREEZABLE = 'new_node(image, []).start_freezable(run_folder / "memory")'
_INNER = """
import time
from pathlib import Path


def test_inner(new_node, image, run_folder):
    {start}
    Path("started").write_text(str(run_folder))
    {then}
"""


@pytest.fixture
def inner_run(tmp_path: Path, blank_image: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A pytest of its own that has started a QEMU, then does what the test's parameter says."""
    start, then = request.param
    (tmp_path / "test_inner.py").write_text(_INNER.format(start=start, then=then))
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    (tmp_path / "tmp").mkdir()
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_inner.py", "--kios-image", str(blank_image)]
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


@pytest.mark.parametrize(
    "inner_run", [(_START, "time.sleep(600)"), (_START_FREEZABLE, "time.sleep(600)")], ids=["boot", "template"], indirect=True
)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_nothing_is_left_after_a_signal(inner_run: subprocess.Popen[bytes], tmp_path: Path, sent: signal.Signals) -> None:
    _wait_for_start(inner_run, tmp_path)
    assert _left_behind(tmp_path), "the run has nothing that could be left"
    inner_run.send_signal(sent)
    inner_run.wait(60)
    _assert_nothing_left_soon(tmp_path)
