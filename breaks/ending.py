"""How a broken scenario ended, and whether it failed for its own break alone."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from breaks.table import BREAKS


@dataclass(frozen=True)
class Ending:
    """How a scenario ended: `passed`, `skipped`, `failure` or `error`, and what it said."""

    kind: str
    words: str = ""


def ending_in(report: str) -> Ending:
    """How the one test in a JUnit report ended."""
    cases = list(ET.fromstring(report).iter("testcase"))
    if not cases:
        return Ending("nothing", "no test of that name was run")
    for child in (child for case in cases for child in case):
        if child.tag in ("failure", "error", "skipped"):
            return Ending(child.tag, f"{child.get('message')}\n{child.text or ''}")
    return Ending("passed")


def fault_in(name: str, ending: Ending) -> str:
    """What is wrong with how a broken scenario ended; nothing if it failed for its own break alone."""
    if ending.kind not in ("failure", "error"):
        return f"NOT CAUGHT: it ended with {ending.kind} {ending.words[:300]}"
    if not re.search(BREAKS[name].words, ending.words):
        return f"MISNAMED: without the words {BREAKS[name].words!r}: {ending.words[:600]}"
    return also_matched(name, line_of(name, ending.words))


def also_matched(name: str, line: str) -> str:
    """Says which other break this failure could be taken for; the same damage to another scenario may look the same."""
    mine = BREAKS[name].how
    others = [other for other, each in BREAKS.items() if each.how != mine and re.search(each.words, line)]
    return f"MISNAMED: it could be {', '.join(others)} as well: {line}" if others else ""


def line_of(name: str, words: str) -> str:
    """The line of a failure by which the break is known, in at most 300 characters."""
    lines = [line.strip() for line in words.splitlines() if re.search(BREAKS[name].words, line)]
    return (lines or [" ".join(words.split())])[0][:300]
