"""The generation of the kiOS under test: what the harness believes before anything boots, and why (docs/generations.md)."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.errors import InputError
from harness.escape import shown
from harness.storage.modules import Modules

_ALPHAS_KERNEL = "6.3."
_ADVICE = "--generation overrules"


class Generation(StrEnum):
    """The alphas of 2023; A, whose init mounts a data partition; B, since April 2025, which lives in memory."""

    ALPHA = "alpha"
    A = "a"
    B = "b"


@dataclass(frozen=True)
class Belief:
    """A generation, and the reason in words; a version in them is what the kiOS itself says."""

    generation: Generation
    reason: str

    def words(self) -> str:
        """The belief as a line for the run's header."""
        name = self.generation.upper() if len(self.generation) == 1 else self.generation
        return shown(f"generation {name}: {self.reason}")


THE_REFERENCE = Belief(Generation.A, "the reference image is made so")


def believed(modules: Modules, overruled: Generation | None = None) -> Belief:
    """Judges the generation by the kernel modules that come with it.

    NVMe as a module is the sure sign of B, whose init could not find a data partition. The alphas had Linux 6.3 (kiOS
    contract, "Generations").
    """
    if overruled:
        return Belief(overruled, "--generation says so")
    old = sorted(version for version in modules if version.startswith(_ALPHAS_KERNEL))
    if old:
        return Belief(Generation.ALPHA, f"its modules are of kernel {old[0]}, which only the alphas had ({_ADVICE})")
    with_nvme = sorted(version for version, names in modules.items() if "nvme" in names)
    if with_nvme:
        return Belief(Generation.B, f"nvme is one of its modules ({with_nvme[0]}), so that its init mounts no disk ({_ADVICE})")
    why = "nvme is none of its modules" if modules else "it has a data partition, and no modules that would say more"
    return Belief(Generation.A, f"{why} ({_ADVICE})")


def refuse_alphas(belief: Belief, what: Path) -> None:
    """Raises InputError for an alpha, whose init and kubelet lack what the harness needs."""
    if belief.generation is Generation.ALPHA:
        raise InputError(
            f"{what} is a released alpha of kiOS ({belief.reason}), and is not supported: it has cgroup v1, a kubelet that is "
            "told all by flags instead of a config.yaml, and no console on the screen. Bring an image of generation A or B."
        )
