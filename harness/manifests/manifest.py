"""Static pod manifests as files: read, and checked before anything boots."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.manifests import admission, container_rules, kubelet_rules, ports, rules, yaml_reader
from harness.manifests.finding import Finding, Severity, named, shown
from harness.manifests.ports import HostPort
from harness.manifests.yaml_reader import YamlNode

_LARGEST = 1 << 20
_STDIN = Path("-")
_DEFAULT_NAMESPACE = "default"

# A manifest as it is in the file; every field has the kind that Kubernetes gives it.
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What was read from a file: its bytes, the findings ordered by line, and the document, None if there is none."""

    file: Path
    findings: tuple[Finding, ...]
    root: YamlNode | None
    data: bytes = b""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings because of which the pod would not run as it is written."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def manifest(self) -> Manifest:
        """Returns the pod in the file; raises InputError with all errors, a line each."""
        if self.root is None or self.errors:
            raise InputError("\n".join(error.at(self.file) for error in self.errors))
        manifest: Manifest = self.root.plain()
        return manifest


def check(file: Path, data: bytes) -> Reading:
    """Checks the bytes of a file; never raises, whatever they are."""
    read_from = yaml_reader.parse(data)
    found = list(read_from.findings)
    if read_from.root:
        found += [each for of in (rules, admission, container_rules) for each in of.findings(read_from.root)]
    if file.name.startswith("."):
        found.append(Finding(1, "is skipped by the kubelet, because its name begins with a dot: rename it."))
    return Reading(file, _in_order(found), read_from.root, data)


def read(file: Path) -> Reading:
    """Reads and checks one file, also by the kubelet's own rules if they are built; never raises."""
    try:
        return asked(check(file, _bytes_of(file)))
    except InputError as refused:
        words = str(refused)
    except OSError as failed:
        words = f"cannot be read: {failed.strerror}."
    except ValueError as failed:
        words = f"cannot be read: {failed}."
    return Reading(file, (Finding(1, words),), None)


def asked(reading: Reading) -> Reading:
    """The reading with the findings of the kubelet's own rules, if they are built and no error was found before."""
    its_own = kubelet_rules.at_hand()
    if its_own is None or reading.root is None or reading.errors:
        return reading
    found = its_own.findings(reading.data, reading.root)
    return replace(reading, findings=_in_order([*reading.findings, *found]))


def read_all(files: Iterable[Path]) -> list[Reading]:
    """Reads and checks the manifests of one node: each by itself, and that no two claim what a node has once."""
    once: dict[str, Path] = {}
    for file in files:
        once.setdefault(os.path.normpath(file.absolute()), file)
    readings: list[Reading] = []
    for file in once.values():
        reading = read(file)
        readings.append(replace(reading, findings=_in_order([*reading.findings, *_clashes(reading, readings)])))
    return readings


def _clashes(reading: Reading, others: Sequence[Reading]) -> Iterator[Finding]:
    """What a manifest has in common with an earlier one, though a node has it once: of each kind the first."""
    known = [(named(other.file), other) for other in others]
    names = (
        Finding(1, f"is named as {place} is; on a node one would replace the other: rename one.")
        for place, other in known
        if other.file.name == reading.file.name
    )
    pods = (
        Finding(line, f"is the pod {pod}, as is {place}:{same}; the kubelet runs one of them: rename one.")
        for place, other in known
        for pod, line in pods_in(reading)
        for its, same in pods_in(other)
        if its == pod
    )
    uids = (
        Finding(uid.line, f"has the uid {shown(uid.text)}, as has {place}; the kubelet runs one of them: take it out.")
        for place, other in known
        if (uid := _uid(reading)) and (its := _uid(other)) and its.value == uid.value
    )
    taken = (
        Finding(port.line, f"takes port {port} of the node, as does {place}:{its.line}; the kubelet admits one: change one.")
        for place, other in known
        for port, its in ports.shared(_ports(reading), _ports(other))
    )
    of_pod = list(islice(pods, 1))
    yield from (*islice(names, 1), *of_pod, *islice(uids, 1))
    if not of_pod:
        yield from islice(taken, 1)


def _bytes_of(file: Path) -> bytes:
    """Returns the content of a regular file, or of stdin for `-`; raises InputError for any other file without opening it.

    Opening a fifo would wait for a writer.
    """
    if file == _STDIN:
        if sys.stdin is None:
            raise InputError("is stdin, which is closed.")
        data = sys.stdin.buffer.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise InputError(f"more than {_LARGEST} bytes are no manifest.")
        return data
    status = file.stat()
    if stat.S_ISDIR(status.st_mode):
        raise InputError("is a directory: name the files in it.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("is no regular file: copy what it holds into one.")
    size = status.st_size
    if size <= _LARGEST:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) <= _LARGEST:
            return data
        size = len(data)
    raise InputError(f"{size} bytes are no manifest: the largest one read has {_LARGEST}.")


def _in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda finding: finding.line))


def pods_in(reading: Reading) -> list[tuple[str, int]]:
    """Namespace and name of the pod in a file, and their line; empty if there is no pod."""
    metadata = reading.root.get("metadata") if reading.root else None
    name = metadata.get("name") if metadata else None
    if metadata is None or name is None or not isinstance(name.value, str):
        return []
    namespace = metadata.get("namespace")
    return [(f"{namespace.value if namespace else _DEFAULT_NAMESPACE}/{name.value}", name.line)]


def _uid(reading: Reading) -> YamlNode | None:
    metadata = reading.root.get("metadata") if reading.root else None
    uid = metadata.get("uid") if metadata else None
    return uid if uid and uid.value else None


def _ports(reading: Reading) -> Iterator[HostPort]:
    return ports.of(reading.root) if reading.root else iter(())
