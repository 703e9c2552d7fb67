"""The feed: what is published stays, but of a flood only what tells something and the last of the rest."""

import tracemalloc

from harness.verdict.feed import ConsoleLine, ConsoleText, Feed, QmpEvent


def flood(lines: int, text: str = "y") -> list[ConsoleLine]:
    return [ConsoleLine(text, at=1.0) for _ in range(lines)]


def test_positions_count_all_that_was_ever_heard() -> None:
    feed = Feed()
    feed.publish_all(flood(3))
    feed.publish(QmpEvent("RESUME"))
    assert feed.position() == 4
    assert [type(happening) for happening in feed.since(2)] == [ConsoleLine, QmpEvent]
    assert feed.read(4) == ([], 4)


def test_what_tells_something_outlives_a_flood() -> None:
    feed = Feed(tells=lambda text: "panic" in text)
    feed.publish_all([ConsoleLine("first"), ConsoleLine("a panic"), QmpEvent("RESET")])
    for _ in range(40):
        feed.publish_all(flood(10_000))
    assert feed.position() == 400_003
    kept = feed.since(0)
    assert [entry.text for entry in kept[:1] if isinstance(entry, ConsoleLine)] == ["a panic"]
    assert kept[1] == feed.since(2)[0]
    assert len(kept) <= 100_002
    assert len(feed.since(400_000)) == 3


def test_a_flood_takes_memory_within_a_bound() -> None:
    tracemalloc.start()
    feed = Feed()
    for _ in range(200):
        feed.publish_all([ConsoleLine("x" * 1000, at=1.0) for _ in range(1000)])
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 64 << 20


def test_a_flood_of_what_tells_something_is_cut_in_its_middle() -> None:
    feed = Feed(tells=lambda _: True)
    for number in range(30):
        feed.publish_all(flood(10_000, str(number)))
    assert len(feed.since(0)) < 120_000
    first, last = feed.since(0)[0], feed.since(0)[-1]
    assert (first, last) == (ConsoleLine("0", at=1.0), ConsoleLine("29", at=1.0))


def test_the_last_lines_are_those_with_words() -> None:
    feed = Feed()
    feed.publish_all([ConsoleLine("one"), ConsoleLine("two"), ConsoleLine("  "), QmpEvent("STOP")])
    assert feed.last_lines(8) == ["one", "two"]
    assert feed.last_lines(1) == ["two"]


def test_lines_that_came_at_once_count_each() -> None:
    feed = Feed()
    feed.publish_text("one\ntwo\n\nfour", at=2.0)
    feed.publish(QmpEvent("STOP", at=3.0))
    assert feed.position() == 5
    assert feed.since(1) == [*(ConsoleLine(text, at=2.0) for text in ("two", "", "four")), QmpEvent("STOP", at=3.0)]
    assert feed.entries(2)[0] == [(2, ConsoleText("\nfour", 2, at=2.0)), (4, QmpEvent("STOP", at=3.0))]
    assert feed.since(4) == [QmpEvent("STOP", at=3.0)]
    assert feed.entries(5) == ([], 5)
    assert feed.last_lines(2) == ["two", "four"]


def test_what_tells_something_in_a_text_outlives_a_flood_at_its_own_position() -> None:
    feed = Feed(tells=lambda text: "panic" in text)
    feed.publish_text("quiet\na panic\nquiet", at=1.0)
    for _ in range(100):
        feed.publish_text("\n".join(["y" * 100] * 10_000), at=1.0)
    (position, entry), *_ = feed.entries(0)[0]
    assert (position, entry) == (1, ConsoleLine("a panic", at=1.0))
    assert feed.position() == 1_000_003
    assert sum(entry.count for _, entry in feed.entries(0)[0] if isinstance(entry, ConsoleText)) < 400_000


def test_when_the_console_spoke_last_is_known() -> None:
    feed = Feed()
    assert feed.last_spoken() is None
    feed.publish_text("a\nb", 3.0)
    feed.publish(QmpEvent("RESUME", at=9.0))
    assert feed.last_spoken() == 3.0
    feed.publish(ConsoleLine("c", 4.0))
    assert feed.last_spoken() == 4.0
