"""The page of the matrix, `docs/faults.md`: every fault with its verdict, and what was seen of it last."""

from collections.abc import Mapping

from faults.fault import Fault
from faults.ledger import Seen, last_line
from faults.table import FAMILIES

_HEAD = """# Faults, and the verdicts by which they are known

`make faults` runs every scenario of this table as it is, which must pass, then with each fault, which must be caught and named:
by its own words (a regular expression that matches no other row's failure of that party and stage), with the right party at
fault, and by how far the node had come. `make faults FAULTS="NAME..."` runs some; among the options of `python -m faults` are
`-k WORD`, `--shard K/N`, `--resume`, `--short` (the few that CI runs), and `--page FILE` (for the row that breaks kiOS's page).
The rows of `in_memory.py` run on the reference image's variant `b`, where no other image is named.

The seconds are from the fault to the verdict, or from the start of a node that has it from its start. A row with nothing
there has yet to be run in this form. What must not be noticed has no verdict: its scenario passes. This page is written by
`python -m faults --table`, from the table in `faults/` and what was seen last (`faults/seen.json`):
"""


_COLUMNS = """| fault | on | what is broken | at fault | its failure says | seen after |
|---|---|---|---|---|---|"""


def page(seen: Mapping[str, Seen]) -> str:
    """The whole page in Markdown."""
    known = {name: one for name, one in seen.items() if any(name in family for family in FAMILIES.values())}
    words = [
        _HEAD,
        f"`{last_line(known)}`, of {sum(map(len, FAMILIES.values()))} rows in all" if known else "Nothing was seen so far.",
    ]
    for family, faults in FAMILIES.items():
        words += [f"\n## {family[0].upper()}{family[1:]}\n", _COLUMNS]
        words += [_row(name, fault, seen.get(name)) for name, fault in faults.items()]
    return "\n".join(words) + "\n"


def _row(name: str, fault: Fault, seen: Seen | None) -> str:
    at_fault = f"{fault.party}, {fault.stage}" if fault.party else "nobody"
    damage, words = (text.replace("|", "\\|") for text in (fault.how.described(), fault.words))
    after = "" if seen is None else "wrong" if seen.wrong else "yes" if seen.seconds is None else f"{seen.seconds} s"
    said = f"`{words}`" if words else "it passes"
    return f"| `{name}` | `{fault.scenario}` | {damage} | {at_fault} | {said} | {after} |"
