"""The run's folder is on a disk where there is one, unless its user wants another."""

import errno
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import HarnessError
from harness.lab.place import choose, filesystem_of, for_run

_MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /tmp rw,nosuid shared:11 - tmpfs tmpfs rw
31 30 254:1 / /tmp/my\\040disk rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/no/such", "ext4"),
        ("/tmp", "tmpfs"),
        ("/tmp/x/y", "tmpfs"),
        ("/tmpx", "ext4"),
        ("/tmp/my disk/x", "xfs"),
    ],
)
def test_a_path_is_on_the_nearest_mount(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), _MOUNTS) == kind


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The room on every disk, which a test may change."""
    usage = SimpleNamespace(free=100 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    return usage


@pytest.mark.usefixtures("free")
def test_a_disk_is_taken_in_place_of_memory() -> None:
    assert choose(Path("/tmp"), False, _MOUNTS).folder == Path("/var/tmp")
    assert "/tmp is in memory" in choose(Path("/tmp"), False, _MOUNTS).words


@pytest.mark.usefixtures("free")
def test_what_is_on_a_disk_is_taken_without_a_word() -> None:
    assert choose(Path("/srv"), False, _MOUNTS) == choose(Path("/srv"), True, _MOUNTS)
    assert choose(Path("/srv"), True, _MOUNTS).words == ""


@pytest.mark.usefixtures("free")
def test_memory_that_was_named_is_taken_and_said() -> None:
    place = choose(Path("/tmp"), True, _MOUNTS)
    assert place.folder == Path("/tmp")
    assert "in memory: TMPDIR=FOLDER" in place.words


def test_a_disk_without_room_or_that_cannot_be_written_is_left(free: SimpleNamespace) -> None:
    assert choose(Path("/tmp"), False, _MOUNTS, Path("/no/such")).folder == Path("/tmp")
    assert choose(Path("/tmp"), False, _MOUNTS, Path("/tmp/x")).folder == Path("/tmp")
    free.free = 1 << 30
    assert choose(Path("/tmp"), False, _MOUNTS).folder == Path("/tmp")


def test_where_nothing_can_be_written_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(HarnessError, match=r"No usable temporary directory found in .*: make room, or name a folder"):
        for_run()
