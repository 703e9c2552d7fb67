"""The kubelet's own rules: its reader and validator of static pods as a program, `kubelet-check` (images/kubelet/check).

It is asked about a manifest in which the harness's own rules found no error; its answer is traced to lines of the file and
put into words. Its paths are those of the validator (k8s.io/apimachinery, field.Path), its values those after defaulting.
"""

import base64
import functools
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.manifests import fields
from harness.manifests.finding import Finding, shown
from harness.manifests.yaml_reader import YamlNode

_NAME = "kubelet-check"
_SOURCES = Path(__file__).parents[2] / "images/kubelet"
_WITHIN = 60.0

_STEP = re.compile(r"\[([^\]]*)\]|([^.\[]+)")
_QUOTED = re.compile(r'"([^"]*)"')
# What the validator says about itself, and not about the manifest.
_ITS_OWN = re.compile(
    r",? *regex used for validation is '.*'(?=\))|\s*Enable \w+ feature gate[^.]*\.|error converting fieldPath: |\(e\.g\. *\)"
)
_NO_LABEL = re.compile(r"field label not supported: \S+")
_OTHER_VERSION = "unsupported pod version"
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_UNFIT = re.compile(r"json: cannot unmarshal (?P<what>.+) into Go struct field \w+\.(?P<path>\S+) of type")
_AT_LINE = re.compile(r"yaml: line (?P<line>\d+): (?P<words>.*)")
_WHOLE_FILE = re.compile(r" in '\{.*", re.DOTALL)
_TIME = re.compile(r'parsing time "(?P<text>[^"]*)".*: (?P<words>[^:]+)$')
_KINDS = {"string": "a text", "bool": "a truth value", "object": "a mapping", "array": "a list"}
_LEFT_OUT = "items"
# Paths of the validator that differ from the manifest's.
_ELSEWHERE = {
    "spec.securityContext.shareProcessNamespace": "spec.shareProcessNamespace",
    "spec.os": "spec.os.name",
    "spec.HostPID": "spec.hostPID",
    "spec.HostIPC": "spec.hostIPC",
}


@dataclass(frozen=True)
class Fault:
    """One fault in the validator's list; `value` is None if it is not a value of the manifest."""

    path: str
    kind: str
    value: str | int | bool | None = None
    detail: str = ""


@dataclass(frozen=True)
class Answer:
    """What the kubelet of a version, as `v1.34.9`, says about a manifest; see images/kubelet/check/main.go."""

    kubelet: str
    unreadable: str = ""
    refused: str = ""
    faults: tuple[Fault, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def takes_it(self) -> bool:
        """Whether this kubelet would accept the pod."""
        return not (self.unreadable or self.refused or self.faults)


class UnansweredError(Exception):
    """The program gave no answer; in words, why."""


@dataclass(frozen=True)
class KubeletRules:
    """The program that has the rules."""

    program: Path

    @property
    def version(self) -> str:
        """The version of the kubelet that has these rules, as v1.34.9."""
        match = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (_SOURCES / "go.mod").read_text("utf-8"), re.MULTILINE)
        return match[1] if match else "of an unknown version"

    def ask(self, manifests: Sequence[bytes]) -> list[Answer]:
        """Returns the answers in the order of the manifests; raises UnansweredError if the program fails."""
        questions = "".join(f"{json.dumps(base64.b64encode(data).decode())}\n" for data in manifests)
        try:
            done = subprocess.run([self.program], input=questions.encode(), capture_output=True, timeout=_WITHIN, check=False)
            answers = [answer_of(json.loads(line)) for line in done.stdout.splitlines()]
        except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, KeyError) as failed:
            raise UnansweredError(f"{self.program}: {failed}") from failed
        if done.returncode or len(answers) != len(manifests):
            words = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
            raise UnansweredError(f"{self.program}: {words[0]}")
        return answers

    def findings(self, data: bytes, root: YamlNode) -> Iterator[Finding]:
        """Yields the kubelet's objections to a manifest, from which `root` was read; never raises."""
        try:
            (answer,) = self.ask([data])
        except UnansweredError as why:
            yield Finding(1, f"cannot be asked of the kubelet's own rules ({why}): build them anew by make check-tool.")
            return
        yield from in_words(answer, root)


def link(cache: Path) -> Path:
    """Where `images` leaves a link to the program, by the sources from which it is built."""
    return cache / _NAME / _sources_digest()


@functools.cache
def _sources_digest() -> str:
    sources = sorted(file for file in _SOURCES.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]


def find(cache: Path) -> KubeletRules | None:
    """The rules, if they were built into a cache folder."""
    program = link(cache)
    # Path.exists would raise for another user's cache that may not be entered.
    return KubeletRules(program) if os.access(program, os.X_OK) else None


_CACHE: list[Path] = []


def look_in(cache: Path) -> None:
    """Sets the cache folder in which this process looks for the rules."""
    _CACHE[:] = [cache]


def at_hand() -> KubeletRules | None:
    """The rules in this process's cache folder; None if no folder was set, or none are built yet."""
    return find(_CACHE[0]) if _CACHE else None


def in_words(answer: Answer, root: YamlNode) -> Iterator[Finding]:
    """An answer as findings, each with its line in the file, and each once."""
    if answer.unreadable:
        yield _unreadable(answer.unreadable, root)
    if answer.refused:
        yield Finding(root.line, f"is refused by the kubelet: {_plain(answer.refused)}.")
    located = [(fault, _located(root, fault)) for fault in answer.faults]
    said: dict[tuple[int, str], list[str]] = {}
    for fault, place in located:
        if not _follows(fault, place, located):
            line, words, detail = _words(fault, place)
            details = said.setdefault((line, words), [])
            if detail not in details:
                details.append(detail)
    for (line, words), details in said.items():
        yield Finding(line, f"{words}{' and '.join(filter(None, details))}.")


@dataclass(frozen=True)
class _Place:
    """Where a path of the validator's leads: `node` is what it names, or the nearest node above it; `path` is that in words.

    `is_whole` says whether the file has all of the path.
    """

    path: str
    node: YamlNode
    is_whole: bool
    line: int


def answer_of(said: dict[str, Any]) -> Answer:
    """Reads an answer as the program prints it."""
    return Answer(
        said["kubelet"],
        said.get("unreadable", ""),
        said.get("refused", ""),
        tuple(Fault(**fault) for fault in said.get("faults", ())),
        tuple(said.get("dropped", ())),
    )


def _located(root: YamlNode, fault: Fault) -> _Place:
    told = _ELSEWHERE.get(fault.path, fault.path).replace("spec.overhead.limits[", "spec.overhead[")
    if _OTHER_VERSION in fault.detail:
        told = told.removesuffix("fieldPath") + "apiVersion"
    steps = [index or name for index, name in _STEP.findall(told)]
    node, path, left = root, "", list(steps)
    while left:
        step = left[0]
        if isinstance(node.value, list):
            position = int(step) if step.isdigit() else _holder(node, step, fault)
            if position is None or position >= len(node.value):
                break
            node = node.value[position]
            path += f"[{fields.label(node, position)}]"
            if step.isdigit():
                left.pop(0)
            continue
        # An annotation's key may contain dots, and the validator's paths leave out a volume's list of files (`items`).
        names = {".".join(left[:count]): count for count in range(len(left), 0, -1)}
        name = next(filter(node.get, [*names, _LEFT_OUT]), "")
        child = node.get(name)
        if child is None or (name == _LEFT_OUT and not child.items()):
            break
        node, path = child, f"{path}.{shown(name)}".lstrip(".")
        del left[: names.get(name, 0)]
    if len(left) == 1 and isinstance(fault.value, str) and (inner := _inner(node, path, fault)):
        # The validator names the operator of a toleration whose value is at fault.
        return inner
    if left:
        whole = path + "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in left)
        return _Place(whole.lstrip("."), node, False, _mentioned(node, fault.detail) or node.line)
    inner = _inner(node, path, fault)
    return inner or _Place(path, node, True, node.line)


def _holder(entries: YamlNode, name: str, fault: Fault) -> int | None:
    """The entry that a path without an index means: one that has the field, preferably with the fault's value."""
    having = [(number, item.get(name)) for number, item in enumerate(entries.items())]
    meant = [number for number, held in having if held is not None and fault.value in ("", None, held.value)]
    return next(iter(meant or [number for number, held in having if held is not None]), None)


def _inner(node: YamlNode, path: str, fault: Fault) -> _Place | None:
    """The field or entry that has a fault's value, in a mapping or list of which the validator names only the whole.

    Of several, it is the one that the detail mentions, or else a name.
    """
    if fault.value in ("", None):
        return None
    spoken = {*_WORD.findall(fault.detail), "name"}
    found = min(_having(node, path, fault.value), key=lambda each: each[0] not in spoken, default=None)
    return found[1] if found else None


def _having(node: YamlNode, path: str, value: object) -> Iterator[tuple[str, _Place]]:
    """Everything in a mapping or list that has a value, each with the name of its field."""
    for number, item in enumerate(node.items()):
        if item.value == value:
            yield "", _Place(f"{path}[{number}]", item, True, item.line)
        yield from _having(item, f"{path}[{fields.label(item, number)}]", value)
    for key, child in node.fields().items():
        if value in (key, child.value, child.text):
            yield key, _Place(f"{path}.{shown(key)}", child, True, child.line)


def _mentioned(node: YamlNode, detail: str) -> int | None:
    """The line of the field that a detail mentions, for a fault that is not in the file itself."""
    return next((child.line for word in _WORD.findall(detail) if (child := node.get(word)) is not None), None)


def _follows(fault: Fault, place: _Place, all_faults: Sequence[tuple[Fault, _Place]]) -> bool:
    """Whether a fault only follows from another: from a default that copies its value, or from a volume that is refused."""
    if fault.kind == "Not found" and any(other.kind != "Not found" for other, _ in all_faults):
        return True
    return not place.is_whole and any(
        other is not fault
        and there.is_whole
        and (other.kind, other.value, other.detail) == (fault.kind, fault.value, fault.detail)
        for other, there in all_faults
    )


def _words(fault: Fault, place: _Place) -> tuple[int, str, str]:
    """The line of a fault, and the beginning and end of its sentence."""
    path, detail = place.path, _plain(fault.detail)
    value = place.node.text if place.is_whole and place.node.text else None
    stands = value if value is not None else ("" if fault.value is None else str(fault.value))
    match fault.kind:
        case "Required value":
            return place.line, f"{path}: " if place.is_whole else f"{path} is missing: ", detail or "add it"
        case "Unsupported value":
            words = _QUOTED.findall(detail)
            only = f"nothing but {words[0]} can stand there" if len(words) == 1 else f"it is one of {', '.join(words)}"
            return place.line, f"{path} is {shown(stands)}; ", only
        case "Forbidden":
            return place.line, f"{path} cannot stand here: ", detail
        case "Duplicate value":
            # A port's value includes its protocol and address.
            return place.line, f"{path} is {shown(stands.rpartition('/')[2])}, which is there already: ", detail or "change one"
        case "Not found":
            return place.line, f"{path} names {shown(stands)}, which is not there: ", detail or "add it"
        case _ if stands and not place.is_whole:
            return place.line, f"{path} would be {shown(stands)}: ", detail
        case _ if stands and value is not None and str(fault.value) in (value, str(place.node.value)):
            return place.line, f"{path} is {shown(stands)}: ", detail
        case _:
            return place.line, f"{path}: ", detail or fault.kind.lower()


def _unreadable(words: str, root: YamlNode) -> Finding:
    if match := _AT_LINE.search(words):
        return Finding(int(match["line"]), f"is no YAML to the kubelet: {_plain(match['words'])}.")
    if match := _UNFIT.search(words):
        place = _located(root, Fault(match["path"], ""))
        return Finding(
            place.line,
            f"{place.path} is {_KINDS.get(match['what'], 'the ' + match['what'])}; the kubelet cannot read that there.",
        )
    if (match := _TIME.search(words)) and (node := _scalar(root, match["text"])):
        return Finding(node.line, f"{shown(match['text'])} is no time: {match['words']}.")
    return Finding(root.line, f"cannot be read by the kubelet: {_plain(_WHOLE_FILE.sub('', words))}.")


def _scalar(node: YamlNode, text: str) -> YamlNode | None:
    children = [*node.items(), *node.fields().values()]
    if not children:
        return node if node.value == text else None
    return next((found for child in children if (found := _scalar(child, text))), None)


def _plain(words: str) -> str:
    """The validator's words without what only its developers need; fields are spelled as in a manifest."""
    names = {name[0].upper() + name[1:]: name for of in fields.types().values() for name in of if name}
    names |= {name[0].upper() + name[1:]: name for name in ("hostPID", "hostIPC")}
    cleaned = _NO_LABEL.sub("no container can read that", _ITS_OWN.sub("", words)).replace("yaml: ", "")
    spelled = _WORD.sub(lambda word: names.get(word[0], word[0]) if word[0][1:] != word[0][1:].lower() else word[0], cleaned)
    return " ".join(spelled.split()).rstrip(". ")
