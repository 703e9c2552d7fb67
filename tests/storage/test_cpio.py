"""Initramfs archives: read as the kernel unpacks them, whatever they hold, and written so that it takes them."""

import lzma
import random
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from harness.errors import InputError
from harness.storage import cpio
from harness.storage.overlay import File, Folder, Link, Tree

CONFIG = PurePosixPath("/etc/kubernetes/config.yaml")
TREE: Tree = {
    CONFIG: b"kind: KubeletConfiguration\n",
    PurePosixPath("/etc/key"): File(b"secret", 0o600),
    PurePosixPath("/etc/link"): Link("key"),
    PurePosixPath("/srv/empty"): Folder(0o700),
}


def packed(files: Tree) -> bytes:
    return lzma.compress(cpio.archive(files), format=lzma.FORMAT_ALONE)


def everything(_: PurePosixPath) -> bool:
    return True


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(packed(TREE))
    assert cpio.read(tmp_path / "one", everything) == {CONFIG: TREE[CONFIG], PurePosixPath("/etc/key"): b"secret"}


def test_later_archives_win_and_zeros_lie_between_them(tmp_path: Path) -> None:
    plain = cpio.archive({CONFIG: b"plain"})
    parts = [packed({CONFIG: b"first"}), plain + bytes(512), packed({CONFIG: b"last"})]
    (tmp_path / "joined").write_bytes(b"".join(parts))
    assert cpio.read(tmp_path / "joined", everything) == {CONFIG: b"last"}
    (tmp_path / "joined").write_bytes(b"".join(reversed(parts[:2])))
    assert cpio.read(tmp_path / "joined", everything) == {CONFIG: b"first"}


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio is installed")
def test_a_file_of_several_names_has_its_content_by_each(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc/kubernetes").mkdir(parents=True)
    (tree / "etc/one").write_bytes(b"two names")
    (tree / "etc/two").hardlink_to(tree / "etc/one")
    (tree / "etc/empty").write_bytes(b"")
    (tree / "etc/none").hardlink_to(tree / "etc/empty")
    (tree / "etc/kubernetes/config.yaml").hardlink_to(tree / "etc/one")
    names = b"./etc\n./etc/one\n./etc/kubernetes/config.yaml\n./etc/two\n./etc/empty\n./etc/none\n"
    archive = subprocess.run(["cpio", "-oHnewc", "--quiet"], cwd=tree, input=names, capture_output=True, check=True).stdout
    (tmp_path / "linked").write_bytes(archive)
    linked = dict.fromkeys(map(PurePosixPath, ("/etc/one", "/etc/two")), b"two names") | {CONFIG: b"two names"}
    assert cpio.read(tmp_path / "linked", everything) == {
        **linked,
        PurePosixPath("/etc/empty"): b"",
        PurePosixPath("/etc/none"): b"",
    }
    assert cpio.read(tmp_path / "linked", lambda path: path == CONFIG) == {CONFIG: b"two names"}


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio is installed")
def test_cpio_itself_takes_what_is_packed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    archive = cpio.archive(TREE)
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=there, input=archive, check=True)
    assert (there / "etc/link").read_bytes() == b"secret"
    assert (there / "etc/key").stat().st_mode & 0o777 == 0o600
    assert (there / "srv/empty").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b" + bytes(100), "it is gzip, not LZMA"),
        (b"\xfd7zXZ\0", "it is xz, not LZMA"),
        (b"MZ nonsense", "begins with b'MZ non'"),
        (packed(TREE)[:60], "ends in the middle"),
        (cpio.archive(TREE)[:-60], "ends in the middle"),
        (cpio.archive({CONFIG: bytes(cpio.MOST_OF_A_FILE + 1)}), "no more than"),
        (b"070701" + b"x" * 200, "a header of its archive is damaged"),
        (b"070701" + b"f" * 104, "a name in its archive has 4294967295 bytes"),
    ],
)
def test_what_the_kernel_cannot_unpack_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(InputError, match=words):
        cpio.read(tmp_path / "bad", everything)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MOST_UNPACKED", 1 << 20)
    (tmp_path / "bomb").write_bytes(packed({CONFIG: bytes(2 << 20)}))
    with pytest.raises(InputError, match="it unpacks to more than"):
        cpio.read(tmp_path / "bomb", lambda _: False)


def test_streams_that_are_a_bomb_together_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MOST_UNPACKED", 5 << 20)
    (tmp_path / "bomb").write_bytes(packed({CONFIG: bytes(1 << 20)}) * 4)
    assert cpio.read(tmp_path / "bomb", lambda _: False) == {}
    (tmp_path / "bomb").write_bytes(packed({CONFIG: bytes(1 << 20)}) * 5)
    with pytest.raises(InputError, match="it unpacks to more than"):
        cpio.read(tmp_path / "bomb", lambda _: False)


def test_files_that_are_too_much_together_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MOST_WANTED", 3 << 20)
    (tmp_path / "bomb").write_bytes(packed({PurePosixPath(f"/etc/{number}"): bytes(1 << 20) for number in range(3)}))
    with pytest.raises(InputError, match="more than 3 MiB of configuration"):
        cpio.read(tmp_path / "bomb", everything)
    assert len(cpio.read(tmp_path / "bomb", lambda path: path.name != "2")) == 2


def test_one_file_of_very_many_names_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MOST_WANTED", 1 << 20)
    # The fifth field is the number of links.
    one = bytearray(cpio._newc(1, 0o100644, b"etc/0", b""))
    one[6 + 4 * 8 : 6 + 5 * 8] = b"%08x" % 1000
    (tmp_path / "links").write_bytes(bytes(one) * 1000 + cpio.archive({}))
    with pytest.raises(InputError, match="MiB of configuration"):
        cpio.read(tmp_path / "links", everything)


@pytest.mark.parametrize("slashes", ["/", "//", "///"])
def test_a_name_that_begins_with_slashes_is_below_the_root(tmp_path: Path, slashes: str) -> None:
    (tmp_path / "one").write_bytes(cpio._newc(1, 0o100644, f"{slashes}etc/key".encode(), b"x") + cpio.archive({}))
    assert cpio.read(tmp_path / "one", everything) == {PurePosixPath("/etc/key"): b"x"}


def test_damage_of_any_kind_ends_in_words(tmp_path: Path) -> None:
    chance = random.Random(10)
    for sound in (packed(TREE), cpio.archive(TREE)):
        for _ in range(300):
            damaged = bytearray(sound)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                cpio.read(tmp_path / "damaged", everything)
            except InputError:
                continue
