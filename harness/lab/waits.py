"""The waits on one run of a node: for what, for how long, and how a wait fails."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.errors import Party
from harness.lab import evidence
from harness.lab.evidence import Heard, Witnesses
from harness.lab.expectation import Expectation, awaited, milestones_of
from harness.lab.frozen import Frozen
from harness.manifests.pods import StaticPod
from harness.verdict.feed import ConsolePodOpen, Feed, Happening, QmpEvent, Restored
from harness.verdict.goal import AnyOf, Goal, LineMatching, Unspoken
from harness.verdict.judge import Judge, Patience
from harness.verdict.lost_time import LostTime, Moment, stretch
from harness.verdict.outcome import Met, NoSpace, Outcome, TooLate, cause, party
from harness.verdict.situation import Awaited, KubeletsWord, Needed
from harness.verdict.timeline import API, BOOT, CONSOLE, INIT, KERNEL, SHELL, Milestone, Passed, Timeline
from harness.verdict.trouble import Trouble

T = TypeVar("T")
_Container = tuple[str, str, str]

# In seconds on the reference host. The longest silence of a good boot is the kubelet's start, 10 s.
_SILENCE = 90.0
_WITHIN = 60.0
_LAST_LINES = 8
_MOST_ANSWER = 300


class Waits:
    """The waits of one run that began at `started`; its budgets are multiplied by the host's slowness.

    `lost` is the time that the host has taken from the run, `full_disk` names a folder of the run whose disk is full, `look`
    publishes refused manifests to the feed, and `witnesses` are asked when a wait fails.
    """

    def __init__(
        self,
        feed: Feed,
        started: float,
        expectation: Expectation,
        frozen: Frozen | None,
        *,
        lost: LostTime,
        full_disk: Callable[[], str],
        look: Callable[[], None],
        witnesses: Callable[[], Witnesses],
    ) -> None:
        self.pods = list(expectation.pods)
        self._feed, self._started, self._expectation, self._frozen = feed, started, expectation, frozen
        self._full_disk, self._look, self._witnesses = full_disk, look, witnesses
        self._lost, self._begun = lost, Moment(started)
        self._expected_since = {pod.name: self._begun for pod in expectation.pods}
        self._judge = Judge(feed, lost, expectation.earlier_boots)
        self._timeline = Timeline(feed, started)
        self._cursor = 0

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """The node's own, then those of each pod."""
        return (*BOOT, *(milestone for pod in self.pods for milestone in milestones_of(pod)))

    @property
    def all_pods(self) -> list[StaticPod]:
        """The pods, and the harness's own pod."""
        return [*self.pods, self._expectation.console_pod]

    def expect(self, pod: StaticPod) -> None:
        """Adds a pod to those that are awaited."""
        self.pods.append(pod)
        self._expected_since[pod.name] = Moment(time.monotonic(), self._lost())

    def passed(self) -> list[Passed]:
        """The milestones passed so far; those of a frozen node that the run continues come first."""
        before = self._frozen.milestones if self._frozen else ()
        known = {entry.name for entry in before}
        now = self._timeline.passed([*self.milestones, CONSOLE, API, SHELL])
        return [*before, *(entry for entry in now if entry.name not in known)]

    def wait(self, goal: Milestone | str | Callable[[Happening], bool], within: float | None, since: int | None) -> Happening:
        """See `Boot.wait`."""
        if isinstance(goal, Milestone):
            return self._wait_for_milestone(goal, within)
        what = f"console line {goal!r}" if isinstance(goal, str) else getattr(goal, "__doc__", None) or repr(goal)
        met = LineMatching(goal) if isinstance(goal, str) else goal
        patience = self._patience(_WITHIN if within is None else within)
        begin = self._cursor if since is None else since
        outcome = self._judge.wait(met, patience, since=begin, needed=self._still_hoped_for())
        if not isinstance(outcome, Met) or outcome.happening is None:
            raise self._failure(outcome, what)
        self._cursor = max(self._cursor, outcome.position)
        return outcome.happening

    def _wait_for_milestone(self, goal: Milestone, within: float | None) -> Happening:
        patience = self._budget_for(goal) if within is None else self._patience(within)
        # A budget also runs during the waits for earlier milestones.
        begun = self._expected(goal) if within is None else None
        proofs = _any_of(goal.name, self._proofs_of(goal))
        needed: list[Needed] = [*self._awaited(), *([KubeletsWord()] if goal.told_by_kubelet else [])]
        outcome = self._judge.wait(proofs, patience, needed=needed, condition=self._looks, begun=begun)
        if isinstance(outcome, Met) and outcome.happening is not None:
            return outcome.happening
        raise self._failure(outcome, f"milestone {goal.name}", awaited=self._container_of(goal))

    def budget(self, milestone: Milestone) -> float:
        """See `Boot.budget`."""
        begun, within = self._expected(milestone), self._budget_for(milestone).within
        after = next((entry.after for entry in self.passed() if entry.name == milestone.name), math.inf)
        lost = self._lost.by(self._started + after) - begun.lost
        return begun.at - self._started + within + stretch(within, max(0.0, lost))

    def until(self, condition: Callable[[], T], what: str, within: float, seen: Callable[[], str]) -> T:
        """See `Boot.until`."""
        last: list[T] = []

        def holds() -> bool:
            last[:] = [condition()]
            return bool(last[0])

        outcome = self._judge.wait(lambda _: False, self._patience(within), needed=self._still_hoped_for(), condition=holds)
        if not isinstance(outcome, Met):
            answer = f"the last answer was {last[0]!r}"[:_MOST_ANSWER] if last and last[0] not in (None, False) else ""
            raise self._failure(outcome, what, seen() or answer)
        return last[0]

    def for_console_pod(self, within: float) -> ConsolePodOpen | None:
        """Waits until the harness's own pod greets; returns None for a clone that does not greet again."""
        own = awaited(self._expectation.console_pod)
        outcome = self._judge.wait(_console_pod_opens, self._budget_of(within), needed=[own])
        if isinstance(outcome, Met) and isinstance(outcome.happening, ConsolePodOpen):
            return outcome.happening
        if self._frozen and isinstance(outcome, TooLate):
            return None
        raise self._failure(outcome, f"milestone {SHELL.name}")

    def for_power_off(self, within: float) -> None:
        """Waits until the guest has switched the machine off."""
        outcome = self._judge.wait(_switched_off_by_guest, self._patience(within))
        if not isinstance(outcome, Met):
            raise self._failure(outcome, "power-off by the guest")

    def is_switched_off(self) -> bool:
        """Whether the guest has switched the machine off."""
        return any(map(_switched_off_by_guest, self._feed.since(0)))

    def end(self, what: str) -> Exception | None:
        """Why nothing more can come of the run, as the failure of `what`; None while something can, failed pods or not."""
        outcome = self._judge.verdict()
        return None if outcome is None else self._failure(outcome, what)

    def ended_by_host(self) -> str:
        """How the host stopped or ended the run, in words; empty where it did not."""
        outcome = self._judge.verdict()
        return cause(outcome) if outcome and party(outcome) is Party.HOST else ""

    def check(self, what: str) -> None:
        """See `Boot.check`."""
        if (outcome := self._judge.verdict(self._awaited())) is not None:
            raise self._failure(outcome, what)

    def unlisted(self) -> list[StaticPod]:
        """The pods that the kubelet, when asked, did not list."""
        return self._pods_of(self._judge.unlisted(self._awaited()))

    def unheard(self) -> list[StaticPod]:
        """The pods of which nothing was heard; without the harness's own, of which a clone never hears."""
        return self._pods_of(self._judge.unheard([awaited(pod) for pod in self.pods]))

    def _expected(self, milestone: Milestone) -> Moment:
        """Since when a milestone is expected: one of a pod since the pod was added."""
        return self._expected_since.get(milestone.name.partition("/")[0], self._begun)

    def _looks(self) -> bool:
        """Looks for refusals, which go to the feed; never meets a goal itself."""
        self._look()
        return False

    def _proofs_of(self, milestone: Milestone) -> Sequence[Milestone]:
        """A milestone of the boot with all later ones, which prove it too: an image that is silent at first has only these."""
        if milestone not in BOOT:
            return [milestone]
        return [*BOOT[BOOT.index(milestone) :], CONSOLE, *(later for pod in self.pods for later in milestones_of(pod))]

    def _pods_of(self, awaited: Sequence[Awaited]) -> list[StaticPod]:
        names = {(pod.namespace, pod.name) for pod in awaited}
        return [pod for pod in self.all_pods if (pod.namespace, pod.name) in names]

    def _budget_for(self, milestone: Milestone) -> Patience:
        """For a milestone; what a silent kernel passes is not known before the console opens: until then nothing is heard."""
        if self._expectation.is_silent and milestone in (KERNEL, INIT):
            return self._patience(CONSOLE.within)
        return self._budget_of(milestone.within)

    def _budget_of(self, within: float) -> Patience:
        """For a stage of the way up, on which no node stays silent for long."""
        return Patience(within * self._expectation.slowness, _SILENCE * self._expectation.slowness)

    def _patience(self, within: float) -> Patience:
        """For a time that whoever waits has chosen: the node may be silent for all of it."""
        return Patience(within * self._expectation.slowness, math.inf)

    def _container_of(self, milestone: Milestone) -> _Container | None:
        """The namespace, pod and name of the container whose milestone it is; None for a stage of the node's own."""
        pod, _, container = milestone.name.partition("/")
        return next(((each.namespace, pod, container) for each in self.pods if each.name == pod and container), None)

    def _awaited(self) -> list[Awaited]:
        return [awaited(pod) for pod in self.all_pods]

    def _still_hoped_for(self) -> list[Awaited]:
        """The pods that have not failed yet: a wait for something else ends only at a new failure."""
        return [pod for pod in self._awaited() if self._judge.verdict([pod]) is None]

    def _unbegun(self) -> list[Awaited]:
        given = [awaited(pod) for pod in self.pods]
        return self._judge.unbegun(given) or self._judge.unheard(given)

    def _failure(self, outcome: Outcome, what: str, seen: str = "", awaited: _Container | None = None) -> Exception:
        if full_disk := self._full_disk():
            outcome = NoSpace(full_disk)
        unended = {container: words for words, container in self._judge.unended(self._awaited())}
        spoken = self._feed.last_spoken()
        heard = Heard(
            passed=self.passed(),
            last_lines=self._feed.last_lines(_LAST_LINES),
            troubles=[_told(trouble) for trouble in self._judge.troubles()],
            nearest=self._judge.nearest(self._awaited()),
            init_awaits=self._judge.awaits(),
            unbegun=[(pod.namespace, pod.name) for pod in self._unbegun()],
            failed=self._judge.failed(self._awaited()),
            unended=[(words, container) for container, words in ({awaited: ""} | unended if awaited else unended).items()],
            silent=None if spoken is None else time.monotonic() - spoken,
        )
        return evidence.failure(outcome, what, seen, heard, self._witnesses())


def _told(trouble: Trouble) -> str:
    """A trouble that was survived, and how long before now it came, if that is a while."""
    ago = time.monotonic() - trouble.at
    return f"{trouble.cause} ({ago:.0f} s ago)" if ago >= 1 else trouble.cause


def _any_of(name: str, proofs: Sequence[Milestone]) -> Goal:
    restored = Unspoken(lambda happening: isinstance(happening, Restored) and name in happening.milestones)
    return AnyOf([*(proof.passed for proof in proofs), restored])


_console_pod_opens = Unspoken(lambda happening: isinstance(happening, ConsolePodOpen))
_switched_off_by_guest = Unspoken(
    lambda happening: (
        isinstance(happening, QmpEvent) and happening.name == "SHUTDOWN" and happening.data.get("reason") == "guest-shutdown"
    )
)
