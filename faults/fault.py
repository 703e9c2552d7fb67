"""A fault: what is broken for a scenario, and the one verdict by which it has to be known."""

from dataclasses import dataclass

from faults.sabotage import Sabotage
from faults.stage import Stage
from harness.errors import Party


@dataclass(frozen=True)
class Fault:
    """`scenario` is `FILE::TEST` below scenarios/, `words` a pattern of its failure: cause and object.

    `party` is who has to be at fault, None for what must not be noticed at all.
    """

    scenario: str
    how: Sabotage
    words: str
    party: Party | None = Party.NODE
    stage: Stage = Stage.READY
