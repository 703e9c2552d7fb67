"""What the kubelet refuses is looked for in its log: by the console pod, and without it by the mirror's container."""

from types import SimpleNamespace
from typing import Any

import pytest

from harness.lab import refusals
from harness.lab.refusals import Refusals
from harness.manifests.pods import StaticPod
from harness.verdict.feed import ContainerState, Feed, PodState
from harness.verdict.situation import Awaited, Situation, tells

_POD = StaticPod("odd.yaml", {"metadata": {"name": "odd"}, "spec": {"containers": []}})
_SAID = 'E1125 14:02:11.123456 412 file.go:108] "Could not process manifest file" err="no port" path="/m/odd.yaml"'


def found(feed: Feed) -> list[str]:
    return [each.reason for each in feed.since(0) if isinstance(each, PodState)]


@pytest.mark.parametrize("told", [_SAID, f"2026-11-25T14:02:11.1Z stdout F {_SAID}\n"], ids=["pipe", "mirror's file"])
def test_the_console_pod_is_asked_first(told: str) -> None:
    feed, asked = Feed(tells), list[str]()
    kubelet: Any = SimpleNamespace(states=lambda: pytest.fail("a node off the network keeps its asker waiting"))

    def output_of(command: str) -> str:
        asked.append(command)
        return told

    looked = Refusals(kubelet, output_of, feed, 0.0)
    looked.look([_POD])
    looked.look([_POD])
    assert found(feed) == ["odd.yaml: no port"]
    assert len(asked) == 1, "a log is looked at now and again only"


def test_a_log_that_says_nothing_of_it_is_no_reason_to_ask_the_kubelet() -> None:
    feed = Feed(tells)
    kubelet: Any = SimpleNamespace(states=lambda: pytest.fail("a node off the network keeps its asker waiting"))
    Refusals(kubelet, lambda _: "", feed, 0.0).look([_POD])
    assert found(feed) == []


def test_where_no_command_can_be_run_the_mirror_is_asked() -> None:
    feed = Feed(tells)
    mirror = ContainerState("node", "kubelet", "running")
    kubelet: Any = SimpleNamespace(states=lambda: [mirror], logs=lambda *_: _SAID)
    Refusals(kubelet, lambda _: None, feed, 0.0).look([_POD])
    assert found(feed) == ["odd.yaml: no port"]


def test_a_log_that_lags_is_looked_at_again_before_a_refusal_has_to_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy host what the kubelet writes is in its mirror some seconds later; `scenarios/refused.py` waits for five."""
    feed, now, says = Feed(tells), [100.0], iter(["", _SAID])
    monkeypatch.setattr("harness.lab.refusals.time.monotonic", lambda: now[0])
    looked = Refusals(SimpleNamespace(), lambda _: next(says), feed, 1.0)  # type: ignore[arg-type]
    for now[0] in (100.0, 102.0, 104.5):
        looked.look([_POD])
    assert found(feed) == ["odd.yaml: no port"]


def test_a_pod_of_which_nothing_is_heard_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(tells)
    looked = Refusals(SimpleNamespace(), lambda _: _SAID, feed, 0.0)  # type: ignore[arg-type]
    looked.look_unasked([_POD])
    assert not found(feed)
    monkeypatch.setattr(refusals, "_HEARD_WITHIN", 0.0)
    Refusals(SimpleNamespace(), lambda _: _SAID, feed, 0.0).look_unasked([_POD])  # type: ignore[arg-type]
    assert found(feed)


def test_nothing_is_heard_of_a_pod_until_a_container_of_it_or_the_kubelet_tells() -> None:
    situation, pod = Situation(), Awaited("odd", "default", "Always")
    assert situation.unheard([pod]) == [pod]
    situation.hear(ContainerState("odd", "main", "terminated", exit_code=0))
    assert situation.unheard([pod]) == []
    other = Situation()
    other.hear(PodState("node", "Running"))
    assert other.unheard([pod]) == []
