"""The cache of built parts: made once for all that they are made from, whoever asks and however a build ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from images import __main__, cache, node
from images.cache import Cache, Part, digest_of
from images.errors import BuildError

PROJECT = Path(__file__).parents[2]


class Maker:
    """Fills a part's folder and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, place: Path) -> None:
        self.made += 1
        (place / "content").write_text(str(self.made))


@pytest.fixture
def parts(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def nothing(_: Path) -> None: ...


def test_the_key_depends_on_every_input() -> None:
    variants: list[dict[str, str]] = [
        {},
        {"a": "1"},
        {"a": "2"},
        {"b": "1"},
        {"a": "1", "b": "1"},
        {"a": "1", "b": "2"},
        {"a": "1, b", "b": ""},
    ]
    assert len({Part("p", inputs, nothing).key for inputs in variants}) == len(variants)
    assert Part("p", {"a": "1", "b": "2"}, nothing).key == Part("p", {"b": "2", "a": "1"}, nothing).key


def test_a_part_is_made_once(parts: Cache) -> None:
    make = Maker()
    places = [parts.get(Part("kernel", {"v": "1"}, make)) for _ in range(3)]
    assert make.made == 1
    assert len(set(places)) == 1
    assert (places[0] / "content").read_text() == "1"


@pytest.mark.parametrize("other", [Part("kernel", {"v": "2"}, nothing), Part("init", {"v": "1"}, nothing)])
def test_another_input_or_name_is_another_part(parts: Cache, other: Part) -> None:
    assert parts.get(Part("kernel", {"v": "1"}, nothing)) != parts.get(other)


def test_a_second_cache_on_the_same_root_finds_the_part(parts: Cache) -> None:
    make = Maker()
    place = parts.get(Part("kernel", {}, make))
    assert Cache(parts.root).get(Part("kernel", {}, make)) == place
    assert make.made == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_making_leaves_nothing_that_is_trusted_later(parts: Cache, error: type[BaseException]) -> None:
    def fail(place: Path) -> None:
        (place / "half").write_text("x")
        raise error

    for _ in range(2):
        with pytest.raises(error):
            parts.get(Part("kernel", {}, fail))
    make = Maker()
    place = parts.get(Part("kernel", {}, make))
    assert make.made == 1
    assert sorted(file.name for file in place.iterdir()) == ["content", "inputs.json"]


def test_a_killed_build_leaves_nothing_that_is_trusted_later(parts: Cache) -> None:
    program = "place.joinpath('half').write_text('x'); os.kill(os.getpid(), 9)"
    build = started(parts.root, program)
    assert build.wait(5) == -9
    make = Maker()
    place = parts.get(Part("kernel", {}, make))
    assert make.made == 1
    assert not (place / "half").exists()


def test_two_builds_at_once_make_a_part_once(parts: Cache) -> None:
    program = "open(root / 'made', 'a').write('x'); time.sleep(0.15); place.joinpath('content').write_text('x')"
    builds = [started(parts.root, program) for _ in range(2)]
    assert [build.wait(5) for build in builds] == [0, 0]
    assert (parts.root / "made").read_text() == "x"
    (place,) = (parts.root / "parts").iterdir()
    assert sorted(file.name for file in place.iterdir()) == ["content", "inputs.json"]


def test_the_newest_are_kept_and_old_ones_dropped(parts: Cache) -> None:
    bystander = parts.get(Part("kernel-modules", {}, nothing))
    places = []
    for version in range(5):
        places.append(parts.get(Part("kernel", {"v": str(version)}, nothing)))
        os.utime(places[-1], (version, version))
        assert places[-1].is_dir()
    newest = parts.get(Part("kernel", {"v": "newest"}, nothing))
    assert newest.is_dir()
    assert [place.is_dir() for place in places] == [False, False, False, True, True]
    assert bystander.is_dir()


def test_what_a_run_may_be_using_is_kept(parts: Cache) -> None:
    places = [parts.get(Part("kernel", {"v": str(version)}, nothing)) for version in range(6)]
    assert all(place.is_dir() for place in places)


def test_a_part_that_is_used_counts_as_new(parts: Cache) -> None:
    old = Part("kernel", {"v": "old"}, nothing)
    place = parts.get(old)
    os.utime(place, (0, 0))
    assert time.time() - parts.get(old).stat().st_mtime < 5


def test_a_lock_is_held_against_others_and_let_go(parts: Cache) -> None:
    lock = parts.root / "locks/kernel"
    with parts.locked("kernel"):
        assert subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 1
        assert subprocess.run(["flock", "-n", lock.with_name("init"), "true"], check=False).returncode == 0
    assert subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0


def test_a_workspace_keeps_what_is_in_it(parts: Cache) -> None:
    (parts.workspace("linux") / "object").write_text("x")
    assert (parts.workspace("linux") / "object").exists()


def test_the_root_follows_the_xdg_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache.default_root() == Path("/elsewhere/kios-e2e")
    for none in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert cache.default_root() == Path.home() / ".cache/kios-e2e"


@pytest.mark.parametrize("name", ["", "node-", "locks", "\0\0\0\0"], ids=["empty", "cut", "another", "zeros"])
def test_an_image_whose_name_was_torn_is_to_be_built(parts: Cache, name: str) -> None:
    (parts.root / "parts" / "node-1234").mkdir()
    node._pointer(parts).write_text("node-1234")
    assert node.find(parts) == parts.root / "parts/node-1234"
    node._pointer(parts).write_text(name)
    with pytest.raises(BuildError, match="No image was built from these recipes yet"):
        node.find(parts)


def test_who_has_no_home_has_to_name_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(BuildError, match="There is no home folder for the cache"):
        cache.default_root()
    monkeypatch.setattr(sys, "argv", ["images", "find", "--cache", str(tmp_path)])
    assert __main__.main() == 1
    assert "No image was built" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["images", "find"])
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert "required: --cache" in capsys.readouterr().err


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name, content in (("a", "1"), ("b", "2"), ("sub/c", "3")):
        (tree / name).write_text(content)
        (tree / name).chmod(0o644)
    return tree


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "sub/c").write_text("4"),
        lambda tree: (tree / "sub/c").write_text(""),
        lambda tree: (tree / "a").rename(tree / "z"),
        lambda tree: (tree / "a").rename(tree / "sub/a"),
        lambda tree: (tree / "a").chmod(0o755),
        lambda tree: (tree / "b").unlink(),
        lambda tree: (tree / "new").touch(),
    ],
    ids=["content", "emptied", "name", "folder", "executable", "gone", "added"],
)
def test_the_digest_changes_with_names_contents_and_executable_bits(tree: Path, change: object) -> None:
    assert callable(change)
    before = digest_of(tree)
    change(tree)
    assert digest_of(tree) != before


def test_the_digest_is_of_what_matters_only(tree: Path) -> None:
    before = digest_of(tree)
    os.utime(tree / "a", (0, 0))
    (tree / "a").chmod(0o600)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/a.pyc").write_text("x")
    moved = tree.rename(tree.with_name("moved"))
    assert digest_of(moved) == before


def test_the_digest_of_several_depends_on_each_and_their_order(tree: Path) -> None:
    a, b = tree / "a", tree / "b"
    assert len({digest_of(*paths) for paths in ((), (a,), (b,), (a, b), (b, a), (tree,))}) == 6
    with pytest.raises(FileNotFoundError):
        digest_of(tree / "none")


def started(root: Path, make: str) -> subprocess.Popen[bytes]:
    """Starts a process that gets the part `kernel` from the cache at `root` and makes it by the statements `make`."""
    program = (
        "import os, sys, time; from pathlib import Path; from images.cache import Cache, Part\n"
        f"root = Path(sys.argv[1])\ndef make(place):\n    {make}\nCache(root).get(Part('kernel', {{}}, make))"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(root)], cwd=PROJECT, stderr=subprocess.DEVNULL)
