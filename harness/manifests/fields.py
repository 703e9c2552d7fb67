"""The fields of a v1 Pod, and the kind of value that each takes.

They are in pod-fields.json, made from Kubernetes' own Go types by setup/pod_fields.py: type to field to kind. A kind is
another type's name, `string`, `bool`, `int32`, `int64`, `quantity`, `int-or-string`, `time`, `any`, or the allowed words
(`Always|Never`); after `[]` it is a list of that kind, after `{}` a mapping of words to it; with `!` at the end it must not be
empty.
"""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.manifests.finding import Finding, Severity, shown
from harness.manifests.yaml_reader import Value, YamlNode, resolved

Types = Mapping[str, Mapping[str, str]]

_TABLE = Path(__file__).with_name("pod-fields.json")
_MOST_WORDS = 8

_SCALARS = {
    "string": "a text",
    "bool": "true or false",
    "int32": "a whole number",
    "int64": "a whole number",
    "quantity": "a quantity such as 64Mi or 0.5",
    "int-or-string": "a number or a name",
    "time": "a time such as 2026-01-31T12:00:00Z",
}
# The kubelet writes powers of ten out: at an exponent of nine digits it hangs, for ever.
_QUANTITY = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]?|[eE][-+]?0*[0-9]{1,3})", re.ASCII)
# Units of quantities as people write them elsewhere.
_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", re.ASCII)
_UNITS = {
    **{written: unit for unit in ("Ki", "Mi", "Gi", "Ti") for written in (unit.lower(), f"{unit.lower()}b")},
    "k": "k",
    "kb": "k",
    "mb": "M",
    "g": "G",
    "gb": "G",
    "t": "T",
    "tb": "T",
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)", re.ASCII)
_BITS = {"int32": 31, "int64": 63, "int-or-string": 31}

# For a field that was written into a type without it: the types that may have it, and where they are.
_HOMES = {
    "Pod": {"ObjectMeta": "metadata", "PodSpec": "spec"},
    "PodSpec": {"SecurityContext": "each container's securityContext", "Container": "a container", "ObjectMeta": "metadata"},
    "PodSecurityContext": {"SecurityContext": "each container's securityContext", "PodSpec": "spec"},
    "Container": {"SecurityContext": "the container's securityContext", "PodSpec": "spec"},
    "SecurityContext": {"PodSecurityContext": "spec.securityContext", "Container": "the container", "PodSpec": "spec"},
}


@dataclass(frozen=True)
class FieldPlace:
    """A value of a manifest and the kind that belongs in its place.

    `owner` and `name` are its type and its field, empty for the items of a list or mapping; `path` is the place in words.
    """

    owner: str
    name: str
    kind: str
    path: str
    node: YamlNode


@functools.cache
def types() -> Types:
    """The table of fields."""
    read: Types = json.loads(_TABLE.read_text("utf-8"))["types"]
    return read


def places(root: YamlNode) -> Iterator[FieldPlace]:
    """Yields every value in a Pod whose field is in the table; like the kubelet, takes a null as a missing field."""
    yield from _under(FieldPlace("", "", "Pod", "", root))


def findings(place: FieldPlace) -> Iterator[Finding]:
    """Yields what is wrong with a value itself, not with what is in it: its kind, unknown fields, missing fields."""
    kind, node, where = place.kind.rstrip("!"), place.node, place.path or "the pod"
    if node.value is None and kind not in types():
        yield Finding(node.line, f'{where} is empty and read as "": write "" or take it out.', Severity.HINT)
    elif kind.startswith("[]"):
        if not isinstance(node.value, list):
            yield Finding(node.line, f"{where} is {_what(node)}; a list belongs there: begin each entry with a dash.")
    elif kind.startswith("{}"):
        if not isinstance(node.value, dict):
            yield Finding(node.line, f"{where} is {_what(node)}; a mapping of words belongs there, as name: word.")
    elif kind in types():
        yield from _of_struct(kind, node, where)
    elif not _fits(kind, node.value):
        yield Finding(node.line, f"{where} is {_what(node)}; {_advice(kind, node)}")


def _under(place: FieldPlace) -> Iterator[FieldPlace]:
    yield place
    kind, value = place.kind.rstrip("!"), place.node.value
    if kind.startswith("[]") and isinstance(value, list):
        for position, item in enumerate(value):
            yield from _under(FieldPlace("", "", kind[2:], f"{place.path}[{label(item, position)}]", item))
    elif kind.startswith("{}") and isinstance(value, dict):
        for key, item in value.items():
            yield from _under(FieldPlace("", "", kind[2:], f"{place.path}.{shown(key)}", item))
    elif kind in types() and isinstance(value, dict):
        for name, of in types()[kind].items():
            if (held := place.node.get(name)) is not None:
                yield from _under(FieldPlace(kind, name, of, f"{place.path}.{name}".lstrip("."), held))


def _of_struct(kind: str, node: YamlNode, where: str) -> Iterator[Finding]:
    if not isinstance(node.value, dict | None):
        yield Finding(node.line, f"{where} is {_what(node)}; a mapping belongs there: its fields are {_some(types()[kind])}.")
        return
    for name, child in (node.value or {}).items():
        if name not in types()[kind]:
            yield Finding(child.line, f"{where} has no field {shown(name)}, the kubelet drops it: {_better(kind, name)}")
    for name, of in types()[kind].items():
        held = node.get(name)
        if of.endswith("!") and (held is None or held.value == ""):
            yield Finding((held or node).line, f"{where} lacks its {name}: add it.")


def _better(kind: str, name: str) -> str:
    for home, words in _HOMES.get(kind, {}).items():
        if name in types()[home]:
            return f"it belongs into {words}."
    near = _nearest(name, types()[kind])
    return f"did you mean {near}?" if near else "take it out."


def _nearest(word: str, known: Iterable[str]) -> str | None:
    folded = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word[:100].lower(), folded, n=1, cutoff=0.7)
    return folded[near[0]] if near else None


def _fits(kind: str, value: Value) -> bool:
    match kind:
        case "any":
            return True
        case "bool":
            return isinstance(value, bool)
        case "int32" | "int64":
            return _is_whole(value, _BITS[kind])
        case "int-or-string":
            return isinstance(value, str) or _is_whole(value, _BITS[kind])
        case "quantity":
            spelled = isinstance(value, str) and _QUANTITY.fullmatch(value.strip()) is not None
            return spelled or (isinstance(value, int | float) and not isinstance(value, bool))
        case "time":
            return isinstance(value, str) and _TIME.fullmatch(value) is not None
        case "string":
            return isinstance(value, str)
        case _:
            return value == "" or value in kind.split("|")


def _is_whole(value: Value, bits: int) -> bool:
    number = _whole(value)
    return number is not None and -(1 << bits) <= number < 1 << bits


def _whole(value: Value) -> int | None:
    # 5.0 and 1e3 reach the kubelet as the JSON numbers 5 and 1000.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _what(node: YamlNode) -> str:
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "empty"
        case bool():
            return f"the truth value {shown(node.text)}"
        case int() | float():
            return f"the number {shown(node.text)}"
        case text:
            return f"the text {shown(text)}"


def _advice(kind: str, node: YamlNode) -> str:
    if "|" in kind:
        words = kind.split("|")
        if near := _nearest(node.text, words):
            return f"did you mean {near}?"
        return f"it is one of {_some(words)}."
    wanted = f"{_SCALARS[kind]} belongs there"
    if kind == "string" and isinstance(node.value, int | float):
        return f"{wanted}: write {json.dumps(node.text):.60}."
    if kind == "string" and isinstance(node.value, dict):
        return f"{wanted}: put it in quotes if the colon is part of it."
    if kind in _BITS and _whole(node.value) is not None:
        return f"{_SCALARS[kind]} of less than {_BITS[kind] + 1} bits belongs there."
    if kind == "quantity" and (unit := _UNIT.fullmatch(node.text.strip())) and unit[2].lower() in _UNITS:
        return f"{wanted}: did you mean {unit[1]}{_UNITS[unit[2].lower()]}?"
    quoted = isinstance(node.value, str) and _fits(kind, resolved(node.value))
    return f"{wanted}, without quotes." if quoted else f"{wanted}."


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_MOST_WORDS]) + (" and more" if len(listed) > _MOST_WORDS else "")


def label(item: YamlNode, position: int) -> str:
    """An entry's name or, if it has none, its position."""
    named = item.get("name")
    return shown(named.value) if named and isinstance(named.value, str) and named.value else str(position)
