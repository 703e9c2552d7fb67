"""The report: the answer on top, evidence of what failed, nothing of a guest's that a browser would act on."""

import json
import os
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.history import night
from harness.journal.entry import Began, Booted, Ended, Entry, Figure, Stage
from harness.journal.journal import Journal
from harness.qualification.answer import Word
from harness.qualification.task import Task
from harness.report import binder, content, earlier
from harness.wire import record
from tests.report.conftest import HOSTILE, write_run


def test_a_failure_opens_with_the_judges_sentence(failed_run: Path, tmp_path: Path) -> None:
    answer = binder.bind([failed_run], tmp_path / "out")
    assert (answer.word, answer.status) == (Word.NOT_QUALIFIED, 1)
    told = earlier.read(tmp_path / "out")
    [failure] = told["failures"]
    assert failure["sentence"].startswith("milestone node/dhcpcd: it cannot happen any more")
    assert failure["artifacts"] == "../artifacts/order/test_bad"
    [boot] = failure["evidence"]["boots"]
    assert failure["evidence"]["bundles"] == ["../artifacts/order/test_bad/node-1/FAIL.tar.zst"]
    assert (
        "<code>kios-e2e enter ../artifacts/order/test_bad/node-1/FAIL.tar.zst</code>"
        in (tmp_path / "out/report.html").read_text()
    )
    assert (len(boot["console"]), boot["before"], boot["console"][-1]["after"]) == (400, 200, pytest.approx(59.9))
    assert [frame["what"][:20] for frame in boot["frames"]] == [
        "ARP who has 10.0.2.2",
        "type 0x86dd, 44 byte",
        "type 0x, 5 bytes",
    ]
    assert [event["name"] for event in boot["events"]] == ["SHUTDOWN"]
    assert boot["screen"].startswith("iVBORw0KGgo")


def test_the_capture_that_a_whole_run_keeps_is_read(failed_run: Path, tmp_path: Path) -> None:
    boot = failed_run / "order/test_bad/node-1/boot-1"
    record.keep(boot / "wire.pcap", boot / "wire.pcapng", "52:54:00:6b:69:6f", [])
    binder.bind([failed_run], tmp_path / "out")
    frames = earlier.read(tmp_path / "out")["failures"][0]["evidence"]["boots"][0]["frames"]
    assert [frame["after"] for frame in frames] == pytest.approx([0, 0.5, 1], abs=0.01)
    assert frames[0]["what"].startswith("ARP who has")


def segment(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """A TCP segment without a word in it."""
    addresses = b"".join(IPv4Address(host).packed for host, _ in (source, destination))
    header = struct.pack("!BBHHHBBH8s", 0x45, 0, 40, 0, 0, 64, 6, 0, addresses)
    total = sum(struct.unpack("!10H", header))
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    return bytes(12) + b"\x08\x00" + header + struct.pack("!HHIIBB6x", source[1], destination[1], 0, 0, 0x50, 16)


def test_the_harness_own_questions_are_counted_and_left_out(failed_run: Path, tmp_path: Path) -> None:
    host, guest = "10.0.2.2", "10.0.2.15"
    own = [((host, 40000), (guest, 10250)), ((guest, 10250), (host, 40000)), ((host, 40001), (guest, 22))]
    others = [
        ((guest, 40000), (host, 10250)),
        ((host, 40002), (guest, 8080)),
        ((guest, 40003), ("198.51.100.1", 22)),
        (("198.51.100.1", 40004), (guest, 10250)),
        ((guest, 22), ("10.0.2.100", 40005)),
    ]
    frames = [segment(*ends) for ends in [*own * 100, *others]]
    records = b"".join(struct.pack("<IIII", 100, 0, len(each), len(each)) + each for each in frames)
    capture = failed_run / "order/test_bad/node-1/boot-1/wire.pcap"
    capture.write_bytes(capture.read_bytes() + records)
    binder.bind([failed_run], tmp_path / "out")
    boot = earlier.read(tmp_path / "out")["failures"][0]["evidence"]["boots"][0]
    shown = [(each["source"], each["destination"]) for each in boot["frames"] if each["what"].startswith("TCP")]
    assert shown == [tuple(f"{host}:{port}" for host, port in ends) for ends in others]
    assert boot["own_frames"] == 300
    assert "Wire: 8 frames, without 300 of the harness&#39;s own" in (tmp_path / "out/report.html").read_text().replace(
        "'", "&#39;"
    )


@pytest.mark.parametrize("is_kept", [False, True])
def test_of_many_frames_the_last_are_shown(failed_run: Path, tmp_path: Path, is_kept: bool) -> None:
    boot = failed_run / "order/test_bad/node-1/boot-1"
    own, other = segment(("10.0.2.2", 40000), ("10.0.2.15", 10250)), segment(("10.0.2.15", 22), ("10.0.2.100", 40005))
    frames = [own, other] * 300
    records = [struct.pack("<IIII", 110 + number, 0, len(each), len(each)) + each for number, each in enumerate(frames)]
    capture = boot / "wire.pcap"
    capture.write_bytes(capture.read_bytes() + b"".join(records) + struct.pack("<IIII", 999, 0, 1 << 31, 1 << 31) + b"torn")
    if is_kept:
        record.keep(capture, boot / "wire.pcapng", "52:54:00:6b:69:6f", [])
    binder.bind([failed_run], tmp_path / "out")
    left = earlier.read(tmp_path / "out")["failures"][0]["evidence"]["boots"][0]
    assert (len(left["frames"]), left["frames_before"], left["own_frames"]) == (200, 103, 300)
    assert [left["frames"][place]["after"] for place in (0, -1)] == [211, 609]
    page = (tmp_path / "out/report.html").read_text()
    assert "Wire: the last 200 frames, without 300 of the harness" in page
    assert "103 frames before these are in the artifacts." in page


def test_what_a_guest_wrote_is_text(failed_run: Path, tmp_path: Path) -> None:
    binder.bind([failed_run], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "<script>document" not in page
    assert page.count("<script>") == 1
    for sign in "\x1b\x07\0\u202e":
        assert sign not in page
    assert "\\x1b[31m" in page


def test_what_is_left_is_shown_within_bounds(failed_run: Path, tmp_path: Path) -> None:
    left = failed_run / "order/test_bad/node-1"
    line = json.dumps({"after": 1.0, "text": "<script>alert(1)</script>" * 4000})
    with (left / "boot-1/console.jsonl").open("w") as console:
        console.writelines(f"{line}\n" for _ in range(700))
    (left / "manifests/huge.yaml").write_text("<script>" * 1_000_000)
    (left / "manifests/folder").mkdir()
    binder.bind([failed_run], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<script>") == 1
    assert len(page) < 2_000_000


def test_nothing_is_fetched(failed_run: Path, tmp_path: Path) -> None:
    binder.bind([failed_run], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert not [word for word in ("http://", "https://", "<link", "@import", 'src="/', "url(") if word in page]


def test_what_is_there_twice_counts_once(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", "w", failures=False)
    binder.bind([whole], tmp_path / "one")
    binder.bind([whole, whole, tmp_path], tmp_path / "twice")
    one, twice = (earlier.read(tmp_path / name) for name in ("one", "twice"))
    for part in ("promises", "boots", "spreads", "figures", "answer"):
        assert one[part] == twice[part]


def test_a_slower_kernel_is_named_with_its_change_and_p(tmp_path: Path) -> None:
    before = write_run(tmp_path / "before", "b", boots=6, failures=False)
    after = write_run(tmp_path / "after", "a", boots=6, failures=False, slow=1.9)
    binder.bind([before], tmp_path / "old")
    answer = binder.bind([after], tmp_path / "new", against=tmp_path / "old")
    assert any(each.startswith("kernel +1.71 s, p = 0.0") for each in answer.changes)
    changed = [each for each in earlier.read(tmp_path / "new")["differences"] if each["significant"]]
    assert {each["name"] for each in changed} == {"kernel", "in all", "firmware"}
    kernel = next(each for each in changed if each["name"] == "kernel")
    assert (kernel["shift"], kernel["p"] < 0.05) == (pytest.approx(1.71, abs=0.1), True)
    assert "kernel (changed)" in (tmp_path / "new/report.html").read_text()


_PLAIN = Booted(
    "a.py::test_it",
    "node-1",
    1,
    1.0,
    9.0,
    "cold",
    budgets={"kernel": 90.0, "node/dhcpcd": 120.0},
    machine={"nic": "virtio-net-pci", "cpus": "1", "memory": str(1 << 30), "sector-size": "512", "disk-size": str(1 << 29)},
)


def _write(folder: Path, entries: Sequence[Entry], chosen: Mapping[str, str] | None = None) -> None:
    folder.mkdir(parents=True)
    journal = Journal(folder, folder.name)
    for entry in [Began(folder.name, 1.0, machine=chosen or {}), *entries]:
        journal.write(entry)
    journal.close()


def _six(folder: Path, booted: Booted, kernel: float, chosen: Mapping[str, str]) -> None:
    """Six boots of the same kind in a run with some options, in which the kernel took so many seconds and a bit."""
    stages = [[Stage("kernel", kernel + number / 100), Stage("node/dhcpcd", kernel + 3)] for number in range(6)]
    _write(folder, [replace(booted, stages=each) for each in stages], chosen)


@pytest.mark.parametrize(
    ("other", "chosen"),
    [
        pytest.param(_PLAIN, {"disk-size": "64G"}, id="a larger disk"),
        pytest.param(_PLAIN, {"firmware": "system"}, id="another firmware"),
        pytest.param(_PLAIN, {"accelerator": "kvm"}, id="another accelerator"),
        pytest.param(replace(_PLAIN, test="a.py::test_late_pods"), {}, id="another test"),
        pytest.param(replace(_PLAIN, node="node-2"), {}, id="another node of the test"),
        pytest.param(replace(_PLAIN, number=2), {}, id="a second boot"),
        pytest.param(replace(_PLAIN, start="clone"), {}, id="a clone"),
    ],
)
def test_boots_of_two_kinds_are_not_compared(tmp_path: Path, other: Booted, chosen: Mapping[str, str]) -> None:
    _six(tmp_path / "before", _PLAIN, 5.0, {})
    _six(tmp_path / "after/like", _PLAIN, 5.0, {})
    _six(tmp_path / "after/unlike", other, 50.0, chosen)
    binder.bind([tmp_path / "before"], tmp_path / "old")
    assert binder.bind([tmp_path / "after"], tmp_path / "new", against=tmp_path / "old").changes == []
    [kernel] = [each for each in earlier.read(tmp_path / "new")["differences"] if each["name"] == "kernel"]
    assert (kernel["before"], kernel["after"]) == (pytest.approx(5.025), pytest.approx(5.025))


@pytest.mark.parametrize(("beside", "changed"), [("a.py::test_it", True), ("a.py::test_other", False)])
def test_boots_that_had_their_host_to_themselves_are_compared_with_no_others(
    tmp_path: Path, beside: str, changed: bool
) -> None:
    _six(tmp_path / "before", _PLAIN, 5.0, {})
    stages = [Stage("kernel", 50.0), Stage("node/dhcpcd", 53.0)]
    ended = [Ended(test, "passed", 9.0) for test in (_PLAIN.test, beside)]
    _write(tmp_path / "after", [*[replace(_PLAIN, stages=stages)] * 6, *ended])
    binder.bind([tmp_path / "before"], tmp_path / "old")
    assert bool(binder.bind([tmp_path / "after"], tmp_path / "new", against=tmp_path / "old").changes) == changed


def test_boots_of_images_of_two_sizes_are_compared(tmp_path: Path) -> None:
    larger = replace(_PLAIN, machine={**_PLAIN.machine, "disk-size": str(3 << 29)})
    _six(tmp_path / "before", _PLAIN, 5.0, {})
    _six(tmp_path / "after", larger, 7.0, {"start": "cold"})
    binder.bind([tmp_path / "before"], tmp_path / "old")
    changes = binder.bind([tmp_path / "after"], tmp_path / "new", against=tmp_path / "old").changes
    assert [each.partition(",")[0] for each in changes] == ["kernel +2 s", "in all +2 s"]


def test_a_stage_has_its_budget_and_each_budget_within_the_chart_a_mark(tmp_path: Path) -> None:
    slow, quick = [Stage("kernel", 4.2), Stage("node/dhcpcd", 130.0)], [Stage("kernel", 4.1, frozen=True), Stage("shell", 5.0)]
    boots = [replace(_PLAIN, stages=slow, budgets={**_PLAIN.budgets, "init": 120.0, "node/crio": 420.0})]
    boots.append(replace(_PLAIN, stages=quick, start="clone", budgets={"kernel": 90.0}))
    _write(tmp_path / "runs", boots)
    binder.bind([tmp_path / "runs"], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert re.findall(r"<title>(\S+: came after [^<]*)</title>", page) == [
        "kernel: came after 4.2 s of 90.0 s",
        "node/dhcpcd: came after 130.0 s of 120.0 s",
        "kernel: came after 4.1 s of 90.0 s, before it was frozen",
        "shell: came after 5.0 s",
    ]
    assert re.findall(r'class="budget"><title>([^<]*)</title>', page) == [
        "budget of kernel: 90.0 s",
        "budget of node/dhcpcd, init: 120.0 s",
        "budget of kernel: 90.0 s",
    ]


def test_one_boot_alone_has_no_spread(tmp_path: Path) -> None:
    binder.bind([write_run(tmp_path / "runs", boots=1)], tmp_path / "out")
    assert earlier.read(tmp_path / "out")["spreads"] == []


@pytest.mark.parametrize(
    ("unit", "before", "after", "is_changed"),
    [
        ("MiB", 300.0, 305.0, False),
        ("MiB", 300.0, 307.0, True),
        ("MiB", 300.0, 293.0, True),
        ("", 100, 100, False),
        ("", 100, 101, True),
        ("", 0, 1, True),
    ],
)
def test_a_count_is_changed_by_one_and_a_measure_by_more_than_2_percent(
    tmp_path: Path, unit: str, before: float, after: float, is_changed: bool
) -> None:
    for name, value in (("before", before), ("after", after)):
        _write(tmp_path / name, [Figure("a.py::test_it", "memory or ports", value, unit)])
    binder.bind([tmp_path / "before"], tmp_path / "old")
    binder.bind([tmp_path / "after"], tmp_path / "new", against=tmp_path / "old")
    [difference] = earlier.read(tmp_path / "new")["differences"]
    assert difference["significant"] == is_changed
    assert ("memory or ports (changed)" in (tmp_path / "new/report.html").read_text()) == is_changed


def test_the_same_boots_are_no_change(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, name, boots=6, failures=False)
    binder.bind([tmp_path / "a"], tmp_path / "old")
    assert not binder.bind([tmp_path / "b"], tmp_path / "new", against=tmp_path / "old").changes
    assert not [each for each in earlier.read(tmp_path / "new")["differences"] if each["significant"]]


def test_two_hundred_boots_stay_below_ten_megabytes(tmp_path: Path) -> None:
    for number in range(40):
        write_run(tmp_path / f"runs/{number}", f"r{number}", boots=5)
    binder.bind([tmp_path / "runs"], tmp_path / "out")
    assert len(earlier.read(tmp_path / "out")["boots"]) == 200
    assert (tmp_path / "out/report.html").stat().st_size < 10_000_000


def _left(failed_run: Path) -> Path:
    return failed_run / "order/test_bad/node-1/boot-1"


@pytest.mark.parametrize("text", ["\x1b" * 400, "<" * 400])
def test_what_guests_wrote_makes_no_page_too_large(tmp_path: Path, text: str) -> None:
    line = json.dumps({"after": 1.0, "text": text}) + "\n"
    for number in range(20):
        (_left(write_run(tmp_path / f"runs/{number}", f"r{number}")) / "console.jsonl").write_text(line * 600)
    binder.bind([tmp_path / "runs"], tmp_path / "out")
    assert (tmp_path / "out/report.html").stat().st_size < 10_000_000
    kept = [bool(each["evidence"] and each["evidence"]["boots"]) for each in earlier.read(tmp_path / "out")["failures"]]
    assert kept == sorted(kept, reverse=True)
    assert 1 < sum(kept) < 20


def test_a_screen_full_of_noise_is_among_the_artifacts(failed_run: Path, tmp_path: Path) -> None:
    (_left(failed_run) / "screen.ppm").write_bytes(b"P6\n1280 800\n255\n" + os.urandom(1280 * 800 * 3))
    binder.bind([failed_run], tmp_path / "out")
    [boot] = earlier.read(tmp_path / "out")["failures"][0]["evidence"]["boots"]
    assert (boot["screen"], "../artifacts/order/test_bad/node-1/boot-1/screen.ppm" in boot["files"]) == ("", True)


def test_of_many_boots_the_last_are_shown(failed_run: Path, tmp_path: Path) -> None:
    first = _left(failed_run)
    for number in range(2, 151):
        shutil.copytree(first, first.with_name(f"boot-{number}"))
    binder.bind([failed_run], tmp_path / "out")
    found = earlier.read(tmp_path / "out")["failures"][0]["evidence"]
    assert found["boots"][-1]["name"] == "node-1/boot-150"
    assert found["more_boots"] == 150 - len(found["boots"]) > 0
    page = (tmp_path / "out/report.html").read_text()
    assert f"Of earlier boots, {found['more_boots']} more are in the artifacts." in page
    assert len(page) < 10_000_000


def test_a_file_of_any_name_is_linked(failed_run: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b'x\xff\n"><img src=x onerror=alert(1)>.log')
    (_left(failed_run) / odd).touch()
    binder.bind([failed_run], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "/x%FF%0A%22%3E%3Cimg" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qmp.jsonl", '{"at": "x", "message": {"event": "E"}}\n{"at": null, "message": {"event": "E"}}\n3\n' + "[" * 100_000),
        ("console.jsonl", '{"after": "x", "text": 1}\n{"after": [1]}\n{"after": NaN, "text": "a"}'),
    ],
)
def test_what_is_left_of_another_shape_ends_no_report(failed_run: Path, tmp_path: Path, name: str, text: str) -> None:
    (_left(failed_run) / name).write_text(text)
    assert binder.bind([failed_run], tmp_path / "out").word is Word.NOT_QUALIFIED


@pytest.mark.timeout(60)
def test_a_capture_full_of_nothing_has_no_frames(failed_run: Path, tmp_path: Path) -> None:
    os.truncate(_left(failed_run) / "wire.pcap", 0)
    os.truncate(_left(failed_run) / "wire.pcap", 1 << 40)
    binder.bind([failed_run], tmp_path / "out")
    [boot] = earlier.read(tmp_path / "out")["failures"][0]["evidence"]["boots"]
    assert boot["frames"] == []


@pytest.mark.timeout(60)
def test_a_link_or_a_pipe_among_artifacts_is_not_read(failed_run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret of this host")
    for name in ("console.jsonl", "console.log", "qmp.jsonl"):
        (_left(failed_run) / name).unlink()
    (_left(failed_run) / "console.log").symlink_to(tmp_path / "secret")
    os.mkfifo(_left(failed_run) / "qmp.jsonl")
    binder.bind([failed_run], tmp_path / "out")
    assert "a secret of this host" not in (tmp_path / "out/report.html").read_text()


def _on(folder: Path, name: str, accelerator: str, firmware: Sequence[str] = ()) -> Path:
    made = write_run(folder / name, name, boots=1, failures=False)
    facts = [("accelerator", accelerator), *(("firmware", build) for build in firmware)]
    with (made / f"journal-{name}.jsonl").open("a") as journal:
        for kind, value in facts:
            journal.write(json.dumps({"entry": "Fact", "kind": "host", "name": kind, "value": value}) + "\n")
    return made


def test_an_earlier_report_of_another_host_is_said_to_be(tmp_path: Path) -> None:
    binder.bind([_on(tmp_path, "tcg", "tcg (no /dev/kvm)")], tmp_path / "old")
    same = binder.bind([_on(tmp_path, "same", "tcg (it does not open)")], tmp_path / "new", against=tmp_path / "old")
    assert same.others == []
    other = binder.bind([_on(tmp_path, "kvm", "kvm (in 0.5 s)")], tmp_path / "new", against=tmp_path / "old")
    assert other.others == ["accelerator: tcg then, kvm now"]
    assert "That one is of another host: accelerator: tcg then, kvm now" in (tmp_path / "new/report.html").read_text()


def test_hosts_are_the_same_in_whichever_order_their_runs_began(tmp_path: Path) -> None:
    runs = [_on(tmp_path, "tcg", "tcg"), _on(tmp_path, "kvm", "kvm")]
    binder.bind(runs, tmp_path / "old")
    assert binder.bind(runs[::-1], tmp_path / "new", against=tmp_path / "old").others == []
    assert [content.night_of(earlier.of(tmp_path / name)).host for name in ("old", "new")] == ["kvm / tcg"] * 2


def test_another_build_of_the_firmware_is_said_even_beside_the_same(tmp_path: Path) -> None:
    old, more = (_on(tmp_path, name, "kvm", builds) for name, builds in [("old", ["a"]), ("more", ["b", "a"])])
    binder.bind([old], tmp_path / "old/report")
    told = binder.bind([more], tmp_path / "more/report", against=tmp_path / "old/report").others
    assert told == ["firmware: a then, a / b now"]


def test_two_nights_in_which_nothing_ran_are_two(tmp_path: Path) -> None:
    names = set()
    Task("kios.img", "nightly", ["plain"], damage="it is an empty file").write(tmp_path)
    for number in range(2):
        binder.bind([tmp_path], tmp_path / "out")
        told = earlier.of(tmp_path / "out")
        names.add(content.night_of(replace(told, began=told.began + number * 86400)).name)
    assert len(names) == 2


def test_a_folder_of_something_else_is_refused_by_name_beside_others(failed_run: Path, tmp_path: Path) -> None:
    Task("kios.img", "nightly", ["plain"]).write(tmp_path / "artifacts")
    (tmp_path / "else").mkdir()
    with pytest.raises(InputError, match=f"{tmp_path}/else has no journal"):
        binder.bind([failed_run, tmp_path / "else"], tmp_path / "out")


def test_the_commands_are_those_of_plans_and_of_runs_beside_them(failed_run: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "qualified/runs/plain", "q")
    Task("kios.img", "nightly", ["plain"], command="kios-e2e qualify").write(tmp_path / "qualified")
    binder.bind([failed_run, tmp_path / "qualified"], tmp_path / "out")
    assert earlier.read(tmp_path / "out")["commands"] == ["kios-e2e qualify", f"python -m pytest scenarios {HOSTILE}"]


def test_nights_of_two_hosts_are_two_curves(failed_run: Path, tmp_path: Path) -> None:
    for number in range(40):
        slow = number % 2
        kernel = {"kernel": 5.0 + 5 * slow + 0.01 * (number % 7)}
        made = night.Night(f"n{number}", 86400.0 * number, "qualified", milestones=kernel, host=f"host {slow}")
        night.add(made, tmp_path)
    binder.bind([failed_run], tmp_path / "out", history=tmp_path)
    curves = earlier.read(tmp_path / "out")["curves"]
    assert [(each["name"], len(each["values"]), each["changes"]) for each in curves if "on host" in each["name"]] == [
        ("kernel on host 0", 20, []),
        ("kernel on host 1", 20, []),
    ]


def test_every_curve_is_there_and_the_last_night_is_the_first_column(failed_run: Path, tmp_path: Path) -> None:
    for number in range(40):
        figures = {f"figure {which}": 1.0 for which in range(30)}
        night.add(night.Night(f"n{number}", 86400.0 * number, "qualified", verdicts={"t": "passed"}, figures=figures), tmp_path)
    binder.bind([failed_run], tmp_path / "out", history=tmp_path)
    page = (tmp_path / "out/report.html").read_text()
    # Those of the run itself are five.
    assert "Without a change (35)" in page
    assert page.count("<figure>") == 35
    columns = re.findall(r'<abbr title="(\d{4}-\d\d-\d\d)', page)
    assert (len(columns), columns) == (30, sorted(columns, reverse=True))
    assert columns[:2] == ["2027-01-15", "1970-02-09"]


def test_the_night_itself_is_among_the_nights_once(failed_run: Path, tmp_path: Path) -> None:
    history = tmp_path / "history"
    night.add(night.Night("before", 86400.0, "qualified", figures={"modules": 12}), history)
    for _ in range(2):
        binder.bind([failed_run], tmp_path / "out", history=history)
        told = earlier.read(tmp_path / "out")
        assert [(each["name"], each["answer"]) for each in told["nights"]] == [
            ("before", "qualified"),
            ("run", "not qualified"),
        ]
        assert [each["values"] for each in told["curves"] if each["name"] == "modules"] == [[12, 11]]
        night.add(content.night_of(earlier.of(tmp_path / "out")), history)
    assert len(night.read(history)) == 2


def test_a_report_says_for_the_nights_on_what_it_was_run(tmp_path: Path) -> None:
    binder.bind([_on(tmp_path, "tcg", "tcg (no /dev/kvm)")], tmp_path / "out")
    assert content.night_of(earlier.of(tmp_path / "out")).host == "tcg"


def test_nights_of_a_later_version_are_shown_as_far_as_they_are_known(failed_run: Path, tmp_path: Path) -> None:
    night.add(night.Night("n", 1e300, "molten", verdicts={"t": "molten"}), tmp_path)
    binder.bind([failed_run], tmp_path / "out", history=tmp_path)
    assert "molten" in (tmp_path / "out/report.html").read_text()


def test_the_nights_are_shown_with_where_they_changed(failed_run: Path, tmp_path: Path) -> None:
    binder.bind([failed_run], tmp_path / "out")
    told = content.night_of(earlier.of(tmp_path / "out"))
    assert (told.answer, told.image) == ("not qualified", "a" * 64)
    assert told.verdicts == {
        "order.py::test_good": "passed",
        "order.py::test_bad": "failed",
        "order.py::test_skipped": "skipped",
    }
    assert told.figures == {"modules": 11}
    for number in range(20):
        milestones = {name: value * 1.01**number for name, value in told.milestones.items()}
        made = night.Night(f"n{number}", told.at + 86400 * number, "qualified", verdicts=told.verdicts, milestones=milestones)
        night.add(made, tmp_path / "history")
    binder.bind([failed_run], tmp_path / "out", history=tmp_path / "history")
    shown = earlier.read(tmp_path / "out")
    assert all(curve["changes"] for curve in shown["curves"] if curve["name"] in told.milestones)
    assert "changed from" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 2, "spreads": []}'])
def test_what_is_no_report_is_refused(failed_run: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match="report"):
        binder.bind([failed_run], tmp_path / "out", against=tmp_path)


def test_the_json_keeps_the_guests_words_as_they_were(failed_run: Path, tmp_path: Path) -> None:
    binder.bind([failed_run], tmp_path / "out")
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert told["promises"][1]["proves"].endswith(HOSTILE)
