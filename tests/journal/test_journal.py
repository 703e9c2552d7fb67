"""A run's journal: what was written is read, whoever wrote it and however that ended."""

import multiprocessing
import os
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.journal import journal
from harness.journal.entry import Began, Booted, Ended, Entry, Fact, Finished, Stage, Started
from harness.journal.journal import Journal

_ENTRIES: list[Entry] = [
    Began("r", 1.0, "pytest", "abc", "1/2", {"nic": "e1000e"}, {"name": "here"}),
    Fact("host", "QEMU", "11.1"),
    Booted("t", "node-1", 1, 2.0, 40.5, "cold", stages=[Stage("kernel", 4.5)], budgets={"kernel": 90.0}, status=0),
    Ended("t", "failed", 3.0, "node", "it died", "it died\n\x1b[31m<b>\ud800", {"call": 1.5}, "order/t"),
    Finished(4.0, 1),
]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = Journal(tmp_path, "r")
    for entry in _ENTRIES[:3]:
        written.write(entry)
    assert list(journal.read(written.file)) == _ENTRIES[:3]


def test_words_of_any_kind_are_kept_on_their_line(tmp_path: Path) -> None:
    written = Journal(tmp_path, "r")
    for entry in _ENTRIES:
        written.write(entry)
    read = list(journal.read(written.file))
    assert [type(entry) for entry in read] == [type(entry) for entry in _ENTRIES]
    assert isinstance(read[3], Ended)
    assert read[3].words.startswith("it died\n\x1b[31m<b>")


def test_a_torn_line_and_what_a_later_version_wrote_are_left_out(tmp_path: Path) -> None:
    written = Journal(tmp_path, "r")
    written.write(_ENTRIES[1])
    with written.file.open("a") as file:
        file.write('{"entry": "Fact", "kind": "host", "name": "moon", "value": "full", "phase": 4}\n')
        file.write('{"entry": "Tomorrow", "at": 1}\n[1, 2]\n"Fact"\n')
        file.write('{"entry": "Fact", "kind": "ho')
    assert list(journal.read(written.file)) == [Fact("host", "QEMU", "11.1"), Fact("host", "moon", "full")]


@pytest.mark.parametrize(
    "line",
    [
        '{"entry": "Ended", "test": "t", "verdict": "molten", "at": 1}',
        '{"entry": "Ended", "test": "t", "verdict": "passed", "at": "x"}',
        '{"entry": "Ended", "test": "t", "verdict": "passed", "at": 1, "seconds": {"call": null}}',
        '{"entry": "Figure", "test": "t", "name": "f", "value": NaN}',
        '{"entry": "Booted", "test": "t", "node": "n", "number": true, "at": 1, "seconds": 1, "start": "cold"}',
        '{"entry": "Booted", "test": "t", "node": "n", "number": 1, "at": 1, "seconds": 1, "start": "cold", "stages": [{}]}',
        '{"entry": [], "test": "t"}',
        "[" * 100_000,
    ],
)
def test_an_entry_of_another_shape_is_left_out(tmp_path: Path, line: str) -> None:
    written = Journal(tmp_path, "r")
    written.file.write_text(f"{line}\n")
    written.write(_ENTRIES[1])
    assert list(journal.read(written.file)) == [_ENTRIES[1]]


def test_of_a_journal_that_was_replaced_meanwhile_there_is_none(tmp_path: Path) -> None:
    assert list(journal.read(tmp_path / "journal-r.jsonl")) == []


def test_a_journal_that_cannot_be_read_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "journal-r.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        list(journal.read(tmp_path / "journal-r.jsonl"))


def _write_many(folder: Path, name: str) -> None:
    mine = Journal(folder, "r")
    for number in range(200):
        mine.write(Started(f"{name}-{number}" + "x" * 9000, 1.0, name))


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    workers = [spawning.Process(target=_write_many, args=(tmp_path, name)) for name in ("gw0", "gw1", "gw2")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    [file] = journal.found_in(tmp_path)
    assert len(list(journal.read(file))) == 600


def test_a_runs_journal_replaces_those_of_earlier_runs_in_its_folder(tmp_path: Path) -> None:
    Journal(tmp_path, "before").write(_ENTRIES[1])
    first, second = Journal(tmp_path, "now"), Journal(tmp_path, "now")
    first.write(_ENTRIES[1])
    second.write(_ENTRIES[1])
    assert journal.found_in(tmp_path) == [first.file]
    assert len(list(journal.read(first.file))) == 2


def test_a_folder_without_a_journal_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no journal"):
        journal.found_in(tmp_path)
    with pytest.raises(InputError, match=r"xxx cannot be read \(File name too long"):
        journal.found_in(tmp_path / ("x" * 300))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "journal-r.jsonl").symlink_to("/dev/full")
    Journal(tmp_path, "r").write(_ENTRIES[1])


def test_what_comes_behind_a_line_that_a_full_disk_tore_is_kept(small_disk: Path) -> None:
    written = Journal(small_disk, "r")
    written.write(_ENTRIES[1])
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(5 << 20))
    written.write(Started("t" * 10_000, 1.0, "main"))
    assert not written.file.read_bytes().endswith(b"\n"), "it is torn"
    (small_disk / "filler").unlink()
    Journal(small_disk, "r").write(_ENTRIES[4])
    assert list(journal.read(written.file)) == [_ENTRIES[1], _ENTRIES[4]]
