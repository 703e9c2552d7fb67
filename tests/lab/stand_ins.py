"""What stands in for those who can be asked of a node that failed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.errors import HarnessError
from harness.lab.evidence import Witnesses

MAC = "52:54:00:12:34:56"
# As `info registers` of QEMU 11.1 has them.
REGISTERS = """CPU#0
RAX=000000000000006b RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP={rip} RFL=00000246 [---Z-P-] CPL={cpl} II=0 A20=1 SMM=0 HLT={hlt}
ES =0000 0000000000000000 ffffffff 00c00000
"""


def registers(rip: str = "ffffffff810c356a", cpl: int = 0, hlt: int = 0) -> str:
    return REGISTERS.format(rip=rip, cpl=cpl, hlt=hlt)


def qmp(*answers: str) -> Any:
    told = list(answers)

    def execute(*_: object) -> str:
        return told.pop(0) if len(told) > 1 else told[0]

    return SimpleNamespace(execute=execute)


def refusing(error: Exception) -> Callable[..., Any]:
    def refuse(*_: object) -> None:
        raise error

    return refuse


def witnesses(tmp_path: Path, **others: Any) -> Witnesses:
    agent: Any = SimpleNamespace(answers=False)
    given: dict[str, Any] = {
        "kubelet": refusing(AssertionError("a run that failed as it started has none")),
        "agent": agent,
        "qmp": qmp(registers(hlt=1)),
        "screen": refusing(HarnessError("no font")),
        "captures": [],
        "mac": MAC,
        "artifacts": tmp_path,
        "reachable": lambda: False,
        "unplugged": lambda: False,
        "disk": refusing(HarnessError("nobody knows its disk")),
    }
    return Witnesses(**{**given, **others})
