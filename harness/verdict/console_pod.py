"""What the harness's console pod tells on the serial port: how containers ended, network or not (images' console.c)."""

import re

from harness.verdict.feed import ConsoleLine, ContainerState, Happening

_END = re.compile(
    r"^kios-e2e: container (?P<container>\S+) of pod (?P<namespace>[^/\s]+)/(?P<pod>\S+) ended with status (?P<status>\d+): "
    r"?(?P<words>.*)$"
)


def state_in(happening: Happening) -> ContainerState | None:
    """The state of a container that a happening tells of: the kubelet's word as it is, or a line of the console pod."""
    match happening:
        case ContainerState():
            return happening
        case ConsoleLine(text=text, at=at) if told := _END.match(text):
            return ContainerState(
                pod=told["pod"],
                namespace=told["namespace"],
                container=told["container"],
                state="terminated",
                reason=told["words"].strip(),
                exit_code=int(told["status"]),
                at=at,
            )
    return None
