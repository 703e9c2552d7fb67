"""What the harness's console pod writes to the first serial port if there is no second one: images' console.c.

Its lines carry the run's token, so that nobody else who writes to that port can speak in its name.
"""

import re
from collections.abc import Callable

from harness.verdict.feed import ConsoleLine, ConsolePodOpen, ContainerState, Happening

PORT = "ttyS0"


def greeting(token: str) -> str:
    """The line that the console pod writes when it starts."""
    return f"kios-e2e {token}: the console is open"


def reader(token: str) -> Callable[[ConsoleLine], Happening | None]:
    """Returns a function that reads a line of the console pod's; it returns None for anybody else's line."""
    end = re.compile(
        rf"^kios-e2e {re.escape(token)}: container (?P<container>\S+) of pod (?P<namespace>[^/\s]+)/(?P<pod>\S+) "
        r"ended with status (?P<status>\d+): ?(?P<words>.*)$"
    )
    opened = greeting(token)

    def read(line: ConsoleLine) -> Happening | None:
        if line.text == opened:
            return ConsolePodOpen(PORT, line.at)
        if told := end.match(line.text):
            return ContainerState(
                pod=told["pod"],
                namespace=told["namespace"],
                container=told["container"],
                state="terminated",
                reason=told["words"].strip(),
                exit_code=int(told["status"]),
                at=line.at,
            )
        return None

    return read
