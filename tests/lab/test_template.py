from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.guest.credentials import Credentials
from harness.lab import template as template_of
from harness.lab.cache import NotKept
from harness.lab.template import Templates
from harness.verdict.timeline import Passed

_FACTS = {"image": "abc", "machine": "q35"}


class Maker:
    """Stands for the boot and freeze of a node: writes the files that these leave."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path, credentials: Credentials) -> Sequence[Passed]:
        assert credentials.client.exists()
        self.times += 1
        for name in ("disk.qcow2", "variables.fd", "memory", "state", "dhcp.pcap"):
            (folder / name).write_bytes(name.encode() * 1000)
        return [Passed("ready", 30.0)]


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    (tmp_path / "run").mkdir()
    return Templates(tmp_path / "templates", 1 << 30, tmp_path / "run")


def _place(tmp_path: Path) -> Path:
    (description,) = (tmp_path / "templates").glob("*/template.json")
    return description.parent


def test_a_template_is_made_once_and_its_milestones_are_marked(templates: Templates) -> None:
    make = Maker()
    for _ in range(2):
        with templates.get(_FACTS, make) as template:
            assert template.milestones == (Passed("ready", 30.0, frozen=True),)
            assert template.state.read_bytes() == b"state" * 1000
    assert make.times == 1


def test_other_facts_are_another_template(templates: Templates) -> None:
    make = Maker()
    for facts in (_FACTS, {**_FACTS, "image": "abd"}):
        with templates.get(facts, make):
            pass
    assert make.times == 2


@pytest.mark.parametrize("name", ["disk.qcow2", "variables.fd", "memory", "state", "dhcp.pcap", "template.json"])
def test_a_damaged_template_is_made_again(templates: Templates, tmp_path: Path, name: str) -> None:
    make = Maker()
    with templates.get(_FACTS, make):
        pass
    file = _place(tmp_path) / name
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    with templates.get(_FACTS, make) as template:
        assert (template.folder / name).read_bytes()[-1:] != b"X"
    assert make.times == 2


@pytest.mark.parametrize("name", ["disk.qcow2", "state", "template.json"])
def test_a_template_that_lacks_a_file_is_made_again(templates: Templates, tmp_path: Path, name: str) -> None:
    make = Maker()
    with templates.get(_FACTS, make):
        pass
    (_place(tmp_path) / name).unlink()
    with templates.get(_FACTS, make):
        pass
    assert make.times == 2


def test_of_those_that_suit_the_one_that_had_passed_most_is_the_latest(templates: Templates) -> None:
    class Longer(Maker):
        def __call__(self, folder: Path, credentials: Credentials) -> Sequence[Passed]:
            return [Passed("init", 7.0), *super().__call__(folder, credentials)]

    for facts, make in (({"pods": "a"}, Maker()), ({"pods": "a b"}, Longer()), ({"pods": "a b c"}, Longer())):
        with templates.get(facts, make):
            pass
    with templates.latest(lambda facts, passed: "c" not in facts["pods"] and "late" not in passed) as found:
        assert found
        assert (found.facts, [entry.name for entry in found.milestones]) == ({"pods": "a b"}, ["init", "ready"])
    with templates.latest(lambda _, passed: "init" not in passed) as found:
        assert found
        assert found.facts == {"pods": "a"}
    with templates.latest(lambda *_: False) as found:
        assert found is None


def test_a_failed_freeze_leaves_nothing_to_trust(templates: Templates, tmp_path: Path) -> None:
    def fail(folder: Path, credentials: Credentials) -> Sequence[Passed]:
        Maker()(folder, credentials)
        raise RuntimeError("the node died while it was frozen")

    with pytest.raises(RuntimeError), templates.get(_FACTS, fail):
        pass
    assert list((tmp_path / "templates").glob("*/")) == []


def test_the_longest_unused_goes_when_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    templates = Templates(tmp_path / "templates", 150_000, tmp_path / "run")
    make = Maker()
    for image in ("first", "second", "third", "fourth"):
        with templates.get({"image": image}, make):
            pass
    with templates.get({"image": "fourth"}, make):
        pass
    assert make.times == 4, "the newest went"
    with templates.get({"image": "first"}, make):
        pass
    assert make.times == 5, "the oldest stayed"


def test_one_that_is_in_use_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    templates = Templates(tmp_path / "templates", 1, tmp_path / "run")
    with templates.get({"image": "first"}, Maker()) as used:
        with templates.get({"image": "second"}, Maker()):
            pass
        assert used.state.exists()


def test_a_template_that_cannot_be_moved_to_the_cache_lasts_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, place: Path) -> None:
        place.mkdir()
        raise NotKept("no space left on the cache's disk")

    monkeypatch.setattr(template_of, "_move", full)
    (tmp_path / "run").mkdir()
    make, said = Maker(), list[str]()
    for _ in range(2):
        with Templates(tmp_path / "templates", 1 << 30, tmp_path / "run", said.append).get(_FACTS, make) as template:
            assert template.memory.exists()
    assert make.times == 1
    assert said == ["templates last for this run only: no space left on the cache's disk"]
    assert [place for place in (tmp_path / "templates").iterdir() if place.is_dir()] == []


def test_where_the_cache_cannot_be_written_templates_last_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "cache").write_text("no folder")
    make, said = Maker(), list[str]()
    templates = Templates(tmp_path / "cache/templates", 1 << 30, tmp_path / "run", said.append)
    for _ in range(2):
        with templates.get(_FACTS, make) as template:
            assert template.memory.exists()
    assert make.times == 1
    assert len(said) == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second disk")
def test_a_template_is_moved_to_another_disk_with_its_holes() -> None:
    with TemporaryDirectory(dir="/dev/shm") as run, TemporaryDirectory(dir="/var/tmp") as folder:

        def make(place: Path, credentials: Credentials) -> Sequence[Passed]:
            Maker()(place, credentials)
            with (place / "memory").open("r+b") as memory:
                memory.truncate(8 << 20)
            return []

        with Templates(Path(folder) / "templates", 1 << 30, Path(run)).get(_FACTS, make) as template:
            assert template.memory.stat().st_blocks * 512 < 1 << 20
            assert Path(folder) in template.folder.parents
        assert list(Path(run).glob("*/*")) == []
