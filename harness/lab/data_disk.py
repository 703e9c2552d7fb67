"""A user's own disk beside a kiOS of generation B, which mounts none itself: its partition goes to the node's disk."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import DamagedImageError, InputError
from harness.storage import gpt
from harness.storage.gpt import GptError


@dataclass(frozen=True)
class Partition:
    """The partition that a node is given: start and size in bytes of a raw disk whose blocks have `sector_size` bytes."""

    start: int
    size: int
    sector_size: int


def partition_of(disk: Path) -> Partition:
    """Finds the only partition beside the EFI System Partition.

    Raises InputError if there is none, or more than one; it is a DamagedImageError if the disk itself is at fault.
    """
    try:
        table = gpt.read(disk, gpt.sector_size_of(disk))
    except GptError as unfit:
        raise DamagedImageError(f"{disk} is no disk that a node could have: {unfit}.") from unfit
    if problems := gpt.problems(disk, table):
        raise DamagedImageError(f"{disk} is damaged: {'; '.join(problems)}.")
    theirs = [each for each in table.partitions if each.type_guid != gpt.ESP]
    if len(theirs) != 1:
        raise InputError(
            f"{disk} has {len(theirs)} partitions beside its EFI System Partition: one is taken, as p2 of a node's disk."
        )
    size = table.sector_size
    return Partition(theirs[0].first * size, theirs[0].sectors * size, size)
