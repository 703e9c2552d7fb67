"""The one answer: qualified, not qualified, or could not tell."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch

from harness.journal.gathering import UNDER_TEST, Attempt, Gathering
from harness.qualification.canary import Canary


class Word(StrEnum):
    """What may be answered."""

    QUALIFIED = "qualified"
    NOT_QUALIFIED = "not qualified"
    COULD_NOT_TELL = "could not tell"


# pytest's own: all passed, and no tests, as in an empty shard.
_RIGHT = (0, 5)
_STATUS = {Word.QUALIFIED: 0, Word.NOT_QUALIFIED: 1, Word.COULD_NOT_TELL: 2}


@dataclass(frozen=True)
class Answer:
    """The word, why in a sentence, and every reason: first those for which it is not qualified, then what could not be told.

    `unproven` has the promises that nothing proved, `known` those that kiOS is known not to keep, with the reason. `changes` is
    what takes another time than in an earlier report, as `kernel +17 s, p = 0.007`, and `others` what ran that one otherwise;
    they decide nothing.
    """

    word: Word
    why: str
    reasons: Sequence[str] = ()
    unproven: Sequence[str] = ()
    known: Sequence[str] = ()
    changes: Sequence[str] = ()
    others: Sequence[str] = ()

    @property
    def status(self) -> int:
        """The exit status: 0 qualified, 1 not qualified, 2 could not tell."""
        return _STATUS[self.word]


def decide(
    gathering: Gathering,
    canaries: Sequence[Canary],
    excused: Iterable[str] = (),
    cut_short: str = "",
    damage: Sequence[str] = (),
    limits: Sequence[str] = (),
) -> Answer:
    """Decides by what was run. `excused` are patterns of tests that need not be proven; `cut_short` is why the run ended early.

    `damage` is what is wrong with an image of which no node can be made. This and a failure of the node outrank all that could
    not be told, which is listed behind them. What kiOS is known not to keep is said, and decides nothing; what the tier leaves
    out is counted, and need not be proven. `limits` is said of an image that is qualified.
    """
    failures = [attempt for attempt in gathering.attempts if attempt.ended.verdict == "failed"]
    lacking, patterns, known = _unproven(gathering), list(excused), _known(gathering)
    unproven = [test for test in lacking if not any(_is_named(test, pattern) for pattern in patterns)]
    doubts = [*_doubts(gathering, cut_short), *_about(canaries)]
    if causes := [*damage, *_by_cause(failures)]:
        more = f" (and {_counted(len(causes) - 1, 'more cause')})" if len(causes) > 1 else ""
        return Answer(Word.NOT_QUALIFIED, f"{causes[0]}{more}", [*causes, *doubts], unproven, known)
    reasons = [*doubts, *(f"nothing proved {test}{lacking[test]}" for test in unproven)]
    passed = [attempt for attempt in gathering.attempts if attempt.ended.verdict == "passed"]
    # As where all is excused.
    if not passed and not reasons:
        reasons = ["nothing was proven"]
    if reasons:
        more = f" (and {_counted(len(reasons) - 1, 'more reason')})" if len(reasons) > 1 else ""
        return Answer(Word.COULD_NOT_TELL, f"{reasons[0]}{more}", reasons, unproven, known)
    cells = {attempt.cell for attempt in passed}
    # As on one with other blocks than the image is made for.
    idle = [cell for cell in dict.fromkeys(run.cell for run in gathering.runs) if cell not in cells]
    limited = "".join(f"; {each}" for each in limits)
    limited += f"; nothing proven on: {', '.join(idle)}" if idle else ""
    limited += f"; known not to hold: {len(known)}" if known else ""
    limited += f"; excused: {len(lacking)}" if lacking else ""
    by_tier = [tier for tier in gathering.left_out.values() if tier]
    limited += f"; {len(by_tier)} left out by the tier {by_tier[0]}" if by_tier else ""
    held = f"{_counted(len({attempt.ended.test for attempt in passed}), 'promise')} proven on {_counted(len(cells), 'machine')}"
    why = f"{held}{limited}; {len(canaries)} of {_counted(len(canaries), 'canary', 'canaries')} caught"
    return Answer(Word.QUALIFIED, why, known=known)


def _is_named(test: str, pattern: str) -> bool:
    """Whether a pattern is a part of a test's name; `*` and `?` are wildcards, the brackets of a parameter are not."""
    return fnmatch(test, f"*{pattern.replace('[', '[[]')}*")


def _by_cause(failures: Iterable[Attempt]) -> list[str]:
    """The failures, those together that say the same: an image that does not boot fails in many tests for one reason."""
    tests: dict[str, list[str]] = defaultdict(list)
    for attempt in failures:
        if attempt.ended.test not in tests[attempt.ended.sentence]:
            tests[attempt.ended.sentence].append(attempt.ended.test)
    return [
        f"{found[0] if len(found) == 1 else f'{len(found)} promises'}: {sentence or 'failed'}"
        for sentence, found in sorted(tests.items(), key=lambda each: -len(each[1]))
    ]


def _doubts(gathering: Gathering, cut_short: str) -> list[str]:
    doubts = [cut_short] if cut_short else []
    doubts += [] if gathering.runs else ["nothing was run"]
    doubts += [f"{each} is missing" for each in gathering.missing]
    done = _verdicts(gathering)
    # What could not be told at first and was proven when it was run again is told.
    doubts += [
        _told(attempt)
        for attempt in gathering.attempts
        if attempt.ended.verdict == "error" and "passed" not in done[attempt.ended.test, attempt.cell]
    ]
    undone = {
        (test, run.cell): f"{test} was not run to its end on the machine {run.cell}"
        for run in gathering.runs
        for test in run.undone
        if not done[test, run.cell]
    }
    return [*doubts, *undone.values(), *_mixed(gathering), *_unexplained(gathering)]


def _mixed(gathering: Gathering) -> Iterator[str]:
    """Why the runs are no whole: an answer is on one image, and by one harness."""
    if more := [name for name, digests in gathering.facts.get(UNDER_TEST, {}).items() if len(digests) > 1]:
        yield f"{', '.join(more)} had other bytes in one run than in another"
    largest = max((run.tested for run in gathering.runs), key=len, default=frozenset[str]())
    if not more and any(not run.tested <= largest for run in gathering.runs):
        yield "one run tested another image than another run"
    harnesses = list(dict.fromkeys(run.began.harness for run in gathering.runs if run.began.harness))
    if len(harnesses) > 1:
        yield f"the runs are by different harnesses: {'; '.join(harnesses)}"


def _unexplained(gathering: Gathering) -> Iterator[str]:
    """The runs that pytest says went wrong, though nothing that they left does."""
    told = {attempt.run for attempt in gathering.attempts if attempt.ended.verdict in ("failed", "error")}
    for run in gathering.runs:
        if run.status not in (None, *_RIGHT) and not run.undone and run.began.run not in told:
            yield f"a run on the machine {run.cell} ended with pytest's status {run.status}, and none of its tests says why"


def _about(canaries: Sequence[Canary]) -> list[str]:
    if not canaries:
        return ["no canary was run: nothing shows that this harness can fail"]
    return [f"the canary {canary.name} was not caught and named: {canary.words}" for canary in canaries if not canary.caught]


def _unproven(gathering: Gathering) -> dict[str, str]:
    """The promises that no attempt proved, with the reason in brackets; those that failed or could not be told are reasons of
    their own.

    What is promised only of images of another kind is none of this image's promises.
    """
    left_out = [test for test, tier in gathering.left_out.items() if not tier]
    verdicts: dict[str, set[str]] = {test: set() for test in [*gathering.planned, *left_out]}
    reasons = dict.fromkeys(left_out, " (an option of pytest's left it out)")
    for attempt in gathering.attempts:
        verdicts.setdefault(attempt.ended.test, set()).add(attempt.ended.verdict)
        if attempt.ended.sentence:
            reasons[attempt.ended.test] = f" ({attempt.ended.sentence})"
    return {test: reasons.get(test, "") for test, found in verdicts.items() if found <= {"skipped", "blocked"}}


def _counted(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def _known(gathering: Gathering) -> Sequence[str]:
    return tuple(dict.fromkeys(_told(attempt) for attempt in gathering.attempts if attempt.ended.verdict == "known"))


def _verdicts(gathering: Gathering) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for attempt in gathering.attempts:
        found[attempt.ended.test, attempt.cell].add(attempt.ended.verdict)
    return found


def _told(attempt: Attempt) -> str:
    return f"{attempt.ended.test}: {attempt.ended.sentence or attempt.ended.verdict}"
