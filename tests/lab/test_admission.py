import fcntl
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.lab import admission
from harness.lab.admission import Admission, Need

_ROOT = Path(__file__).parents[2]
_LIMIT = Need(memory=1000, cpus=2.0)

_HOLDER = """
import sys
from pathlib import Path
from harness.lab.admission import Admission, Need
with Admission(Path(sys.argv[1]), Need(1000, 2.0)).reserve(Need(600, 1.0), 5):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(folder: Path) -> subprocess.Popen[bytes]:
    """Another process with a node of 600 bytes and one CPU."""
    argv = [sys.executable, "-c", _HOLDER, str(folder)]
    process = subprocess.Popen(argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_what_fits_beside_another_process_is_let_in_at_once(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    began = time.monotonic()
    with Admission(tmp_path, _LIMIT).reserve(Need(400, 1.0), 5):
        assert time.monotonic() - began < 1
    other.communicate(b"")


@pytest.mark.parametrize("need", [Need(401, 0.5), Need(100, 1.5)], ids=["memory", "cpus"])
def test_what_does_not_fit_is_refused_after_its_time(tmp_path: Path, need: Need) -> None:
    other, said = _holder(tmp_path), list[str]()
    with pytest.raises(HarnessError, match="no room for one more"), Admission(tmp_path, _LIMIT, said.append).reserve(need, 0.3):
        pass
    other.communicate(b"")
    assert said == [], "a short wait is no news"


def test_a_waiting_node_is_let_in_when_another_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_QUIET_SECONDS", 0.3)
    other, said = _holder(tmp_path), list[str]()

    def end_other(words: str) -> None:
        said.append(words)
        other.communicate(b"")

    with Admission(tmp_path, _LIMIT, end_other).reserve(Need(900, 2.0), 5):
        pass
    assert len(said) == 1
    assert f"beside the nodes of process {other.pid}" in said[0]


def test_a_long_wait_says_what_is_wanted_what_is_free_and_whose_nodes_have_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_QUIET_SECONDS", 0.1)
    other, said = _holder(tmp_path), list[str]()
    gate = Admission(tmp_path, Need(5 << 30, 2.0), said.append)
    with gate.reserve(Need(2 << 30, 0.5), 5), pytest.raises(HarnessError, match="no room"), gate.reserve(Need(4 << 30, 0.5), 1):
        pass
    other.communicate(b"")
    assert said == [
        f"a node waits for 4.0 GiB of memory and 0.5 CPUs: 3.0 GiB and 0.5 are free beside the nodes of process {other.pid}"
    ]


def test_what_never_fits_is_refused_at_once(tmp_path: Path) -> None:
    gate = Admission(tmp_path, _LIMIT)
    assert gate.can_ever(Need(1000, 64.0))
    assert not gate.can_ever(Need(1001, 1.0))
    with pytest.raises(InputError, match="never fits here"), gate.reserve(Need(1001, 1.0), 60):
        pass


def test_a_node_of_more_cpus_than_there_are_is_let_in_beside_none(tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    with Admission(tmp_path, _LIMIT).reserve(Need(100, 64.0), 0.3):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    other.kill()
    other.wait()
    with Admission(tmp_path, _LIMIT).reserve(Need(900, 2.0), 5):
        assert len(list(tmp_path.glob("*.need"))) == 1
    assert list(tmp_path.glob("*.need")) == []


def test_nodes_of_one_process_do_not_wait_for_each_other(tmp_path: Path) -> None:
    gate = Admission(tmp_path, _LIMIT)
    with gate.reserve(Need(900, 2.0), 5), gate.reserve(Need(900, 2.0), 0.3):
        assert len(list(tmp_path.glob("*.need"))) == 2


def test_what_is_lowered_makes_room_for_others(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    gate = Admission(tmp_path, Need(memory=2000, cpus=2.0))
    with gate.reserve(Need(400, 1.0), 5) as keep:
        with pytest.raises(HarnessError, match="no room"), gate.reserve(Need(400, 0.8), 0.3):
            pass
        keep(0.2)
        with gate.reserve(Need(400, 0.8), 0.3):
            pass
        keep(1.0)
        with pytest.raises(HarnessError, match="no room"), gate.reserve(Need(400, 0.8), 0.3):
            pass
    other.communicate(b"")


def test_a_gate_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(OSError, match="cache"):
        Admission(tmp_path / "cache/admission", _LIMIT)


def test_what_killed_runs_left_goes_with_the_next_run(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    Admission(tmp_path, _LIMIT)
    assert list(tmp_path.glob("*.need")), "it lives"
    other.kill()
    other.communicate()
    Admission(tmp_path, _LIMIT)
    assert list(tmp_path.glob("*.need")) == []


_WAITER = """
import sys
from pathlib import Path
from harness.lab import admission
from harness.lab.admission import Admission, Need
admission._QUIET_SECONDS = 0.0
with Admission(Path(sys.argv[1]), Need(1000, 2.0), lambda words: print("waits", flush=True)).reserve(Need(100, 2.0), 20):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_large_node_has_its_turn_before_small_ones_that_come_later(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    argv = [sys.executable, "-c", _WAITER, str(tmp_path)]
    waiter = subprocess.Popen(argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == b"waits\n"
    with pytest.raises(HarnessError, match="no room"), Admission(tmp_path, _LIMIT).reserve(Need(100, 0.5), 0.5):
        pass
    other.communicate(b"")
    assert waiter.stdout.readline() == b"in\n"
    waiter.kill()
    waiter.communicate()
    with Admission(tmp_path, _LIMIT).reserve(Need(100, 0.5), 1):
        pass


def test_a_process_with_a_node_waits_behind_nobody(tmp_path: Path) -> None:
    """Else it and a large node could wait for each other."""
    gate = Admission(tmp_path, _LIMIT)
    with gate.reserve(Need(100, 0.5), 1):
        other = _holder(tmp_path)
        waiter = subprocess.Popen([sys.executable, "-c", _WAITER, str(tmp_path)], cwd=_ROOT, stdin=subprocess.PIPE)
        while not list(tmp_path.glob("*.turn")):
            time.sleep(0.01)
        with gate.reserve(Need(100, 0.5), 1):
            pass
        waiter.kill()
        waiter.communicate()
        other.communicate(b"")


def test_the_turn_of_a_killed_process_is_nobodys(tmp_path: Path) -> None:
    other = _holder(tmp_path)
    waiter = subprocess.Popen([sys.executable, "-c", _WAITER, str(tmp_path)], cwd=_ROOT, stdin=subprocess.PIPE)
    while not list(tmp_path.glob("*.turn")):
        time.sleep(0.01)
    waiter.kill()
    waiter.communicate()
    with Admission(tmp_path, _LIMIT).reserve(Need(100, 0.5), 1):
        pass
    assert list(tmp_path.glob("*.turn")) == []
    other.communicate(b"")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"memory": 600, "cpus"', '{"bytes": 600}'], ids=["empty", "a list", "torn", "other"]
)
def test_a_need_that_tells_nothing_hinders_nobody(tmp_path: Path, text: str) -> None:
    with (tmp_path / "other.need").open("w") as other:
        other.write(text)
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with Admission(tmp_path, _LIMIT).reserve(Need(900, 2.0), 5):
            pass


def test_a_need_with_more_than_is_known_here_counts(tmp_path: Path) -> None:
    with (tmp_path / "other.need").open("w") as other:
        other.write('{"memory": 600, "cpus": 1.0, "pid": 1, "disk": 1}')
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(HarnessError, match="no room for one more"),
            Admission(tmp_path, _LIMIT).reserve(Need(900, 1.0), 0.3),
        ):
            pass


def test_a_full_disk_ends_only_the_run_that_finds_it_so(small_disk: Path) -> None:
    gate = Admission(small_disk, _LIMIT)
    with gate.reserve(Need(100, 1.0), 5) as keep:
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "filler").write_bytes(bytes(5 << 20))
        keep(0.5)
        with pytest.raises(HarnessError, match=f"No space is left in {small_disk}"), gate.reserve(Need(100, 1.0), 5):
            pass
        assert len(list(small_disk.glob("*.need"))) == 1
        with pytest.raises(HarnessError, match="No space is left"), Admission(small_disk, _LIMIT).reserve(Need(1, 0.1), 5):
            pass


def test_a_cache_that_was_emptied_in_the_middle_of_a_run_is_made_again(tmp_path: Path) -> None:
    gate = Admission(tmp_path / "cache/admission", _LIMIT)
    with gate.reserve(Need(100, 1.0), 5) as keep:
        shutil.rmtree(tmp_path / "cache")
        keep(0.5)
        with gate.reserve(Need(100, 1.0), 5):
            assert len(list((tmp_path / "cache/admission").glob("*.need"))) == 1
