"""The verdict on a scenario that was broken, and what is wrong with it."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

from faults.fault import Fault
from faults.stage import Stage
from harness.errors import Party
from harness.summary import AT_FAULT
from harness.verdict.outcome import TOO_BUSY

_MOST = 300


@dataclass(frozen=True)
class Verdict:
    """How a scenario ended: `passed`, `skipped`, `failure`, `error`, or `refused` by pytest; and what it said.

    `seconds` are from the fault to the verdict, None where there was no such moment.
    """

    kind: str
    words: str = ""
    party: Party | None = None
    stage: Stage = Stage.BEFORE
    seconds: float | None = None


def read(junit: str, observed: str = "{}") -> Verdict:
    """The verdict on the one test in a JUnit report; `observed` is what the plugin wrote down."""
    cases = list(ET.fromstring(junit).iter("testcase"))
    if not cases:
        return Verdict("nothing", "no test of that name was run")
    told = json.loads(observed)
    for case in cases:
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                at_fault = [str(each.get("value")) for each in case.iter("property") if each.get("name") == AT_FAULT]
                # In JUnit a failure is the node's, if nothing else is said.
                party = Party(at_fault[0]) if at_fault else Party.NODE if child.tag == "failure" else None
                stage = Stage(told.get("stage", Stage.BEFORE))
                return Verdict(child.tag, f"{child.get('message')}\n{child.text or ''}", party, stage, told.get("seconds"))
    return Verdict("passed")


def refusal(output: str) -> Verdict:
    """The verdict where pytest took no report: it refused what it was given, before a node was thought of."""
    return Verdict("refused", output, Party.TEST)


def is_of_a_busy_host(verdict: Verdict) -> bool:
    """Whether it says no more than that the host left the node too little time."""
    return verdict.party is Party.HOST and TOO_BUSY in verdict.words


def is_caught(fault: Fault, verdict: Verdict) -> bool:
    """Whether the fault was seen; one that must not be noticed is held off."""
    return verdict.kind == "passed" if fault.party is None else verdict.kind in ("failure", "error", "refused")


def misnaming(name: str, verdict: Verdict, table: Mapping[str, Fault]) -> str:
    """What is wrong with how a fault that was caught was named; nothing if it has its own words, party and stage."""
    fault = table[name]
    if fault.party is None:
        return ""
    if not re.search(fault.words, verdict.words):
        return f"without the words {fault.words!r}: {verdict.words[: 2 * _MOST]}"
    line = line_of(fault, verdict)
    if verdict.party is not fault.party:
        return f"put down to {verdict.party or 'nobody'}, not to {fault.party}: {line}"
    if verdict.stage is not fault.stage:
        return f"{verdict.stage}, not {fault.stage}: {line}"
    return also_matched(name, line, table)


def also_matched(name: str, line: str, table: Mapping[str, Fault]) -> str:
    """Says for which other fault this failure could be taken; the same damage to another scenario may look the same."""
    mine = table[name]
    if mine.party is None:
        return ""
    rivals = {other: each for other, each in table.items() if (each.party, each.stage) == (mine.party, mine.stage)}
    others = [other for other, each in rivals.items() if each.how != mine.how and re.search(each.words, line)]
    return f"it could be {', '.join(others)} as well: {line}" if others else ""


def line_of(fault: Fault, verdict: Verdict) -> str:
    """The line of a failure by which the fault is known, cut where it is long."""
    if fault.party is None:
        return ""
    found = re.search(fault.words, verdict.words)
    first, last = found.span() if found else (0, 0)
    start = verdict.words.rfind("\n", 0, first) + 1
    # What it is known by may stand far behind in a long line.
    begin = start if last - start <= _MOST else first
    line = verdict.words[begin : max(begin + _MOST, last)].partition("\n")[0]
    return " ".join(line.split())
