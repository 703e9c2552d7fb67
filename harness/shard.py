"""Which tests one of several machines runs: a part of the suite, chosen without communication between them."""

import re
import zlib
from dataclasses import dataclass

from harness.errors import HarnessError


@dataclass(frozen=True)
class Shard:
    """The part `number` of `count`, from 1 on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Reads `2/4`; raises HarnessError for anything that is not K/N with 1 <= K <= N."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise HarnessError(f"{text!r} is no shard: write 1/4 for the first of four, up to 4/4 for the last.")
        return cls(int(match[1]), int(match[2]))

    def has(self, name: str) -> bool:
        """Whether a test is in this part. Its name alone decides, so that adding or removing a test moves no other."""
        return zlib.crc32(name.encode()) % self.count == self.number - 1
