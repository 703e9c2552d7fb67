"""PID 1 of both generations, compiled: what it says and does is in the program, or it is not."""

from pathlib import Path

import pytest

from images import command, init
from images.cache import Cache

pytestmark = pytest.mark.skipif(not command.installed("gcc"), reason="gcc is not installed")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return {generation: (cache.get(init.part(cache, generation)) / "init").read_bytes() for generation in ("a", "b")}


@pytest.mark.parametrize(
    ("words", "of"),
    [
        (b"kiOS Init", "ab"),
        (b"/proc/sys/net/ipv4/ip_forward", "ab"),
        (b"/proc/sys/net/ipv6/conf/all/forwarding", "b"),
        (b"Using Datapart:", "a"),
        (b"--node-ip", "a"),
    ],
)
def test_what_the_generations_differ_in(programs: dict[str, bytes], words: bytes, of: str) -> None:
    assert "".join(generation for generation, program in programs.items() if words in program) == of


def test_init_is_built_anew_for_its_own_sources_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    for file in init.SOURCES.iterdir():
        if file.suffix in (".c", ".h"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(init, "SOURCES", tmp_path)
    before = {generation: init.part(cache, generation).key for generation in ("a", "b")}
    (tmp_path / "memory.c").write_text("/* other */\n")
    after = {generation: init.part(cache, generation).key for generation in ("a", "b")}
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    (tmp_path / "init.h").write_text("/* other */\n")
    assert init.part(cache, "a").key != before["a"]
