"""How far a node had come when its verdict was there."""

from collections.abc import Sequence
from enum import StrEnum

from harness.verdict.timeline import API, CONSOLE, SHELL

# What is heard of containers, without a name of theirs.
_OF_PODS = {API.name, CONSOLE.name, SHELL.name}


class Stage(StrEnum):
    """As far as its milestones tell."""

    BEFORE = "before any boot"
    BOOTING = "before its first container"
    STARTING = "while its pods start"
    READY = "on a ready node"


def of(passed: Sequence[str], awaited: Sequence[str]) -> Stage:
    """The stage of a node that passed these milestones, and has yet to pass those."""
    if not awaited:
        return Stage.READY
    of_pods = [name for name in passed if name in _OF_PODS or "/" in name]
    return Stage.STARTING if of_pods else Stage.BOOTING
