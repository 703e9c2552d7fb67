"""A YAML file as the kubelet reads it: the first document, each value with its line.

The kubelet converts a manifest to JSON with go.yaml.in/yaml/v2 behind sigs.k8s.io/yaml. That reader takes `y` as a boolean,
`0o17` and `1_000` as numbers, `1:30` and dates as texts. PyYAML's resolver does not, so only its parser is used here.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import yaml

from harness.manifests import no_yaml
from harness.manifests.finding import Finding, Severity, shown

# A pod has about a hundred values on about fifteen levels; an alias counts as what it stands for.
_MOST_VALUES = 50_000
_DEEPEST = 64
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_RESOLVED_TAGS = {_TAG + name for name in ("bool", "int", "float", "null", "timestamp")}
# Those that YAML 1.1 has; the kubelet's reader drops all others.
_KNOWN_TAGS = _RESOLVED_TAGS | {
    _TAG + name for name in ("binary", "map", "merge", "omap", "pairs", "seq", "set", "str", "value")
}
_MERGE = "<<"
_MERGE_TAG = _TAG + "merge"
# The types of value that a tag allows (yaml/v2's resolve.go).
_TAGGED = {"null": type(None), "bool": bool, "int": int, "float": int | float}
# One or both of the two escapes by which JSON writes a character beyond the first 65,536.
_SURROGATES = re.compile(
    r"(?<!\\)((?:\\\\)*)"
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

_MARK = "\ufeff"
# Characters that end a line in YAML (1.1, 5.4) but in no editor.
_HIDDEN_BREAK = re.compile("[\x85\u2028\u2029]")
# yaml/v2's resolve.go.
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
# A quoted key after a brace: nobody writes YAML's braces like this.
_JSON = re.compile(r'\s*\{\s*"')
_NO_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_BASES = (16, 2, 8, 10)
_LONGEST_INTEGER = 70
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | list[YamlNode] | dict[str, YamlNode]"


@dataclass(frozen=True)
class YamlNode:
    """A value and its line, from 1 on; for a mapping's value, the line of its key. `text` is the spelling of a scalar.

    `size` and `height` count its values and levels, with every alias replaced by what it stands for.
    """

    line: int
    value: Value
    text: str = ""
    size: int = 1
    height: int = 1

    def get(self, key: str) -> "YamlNode | None":
        """The value of a key; None if it is null or missing, or if this is not a mapping."""
        found = self.value.get(key) if isinstance(self.value, dict) else None
        return found if found is not None and found.value is not None else None

    def items(self) -> list["YamlNode"]:
        """The items of a list; empty if this is not a list."""
        return self.value if isinstance(self.value, list) else []

    def fields(self) -> dict[str, "YamlNode"]:
        """The fields of a mapping itself, not a copy; empty if this is not a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    def entries(self, key: str) -> list["YamlNode"]:
        """The items of a field that is a list, not a copy; empty if it is not a list."""
        found = self.get(key)
        return found.items() if found else []

    def word(self, key: str) -> str:
        """The text of a field; empty if it is not a text."""
        found = self.get(key)
        return found.value if found and isinstance(found.value, str) else ""

    def below(self, lines: int) -> "YamlNode":
        """A copy that is so many lines further down; what aliases share is copied too."""
        value = self.value
        if isinstance(value, dict):
            value = {key: child.below(lines) for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.below(lines) for child in value]
        return replace(self, line=self.line + lines, value=value)

    def plain(self) -> Any:
        """The value without lines; each alias becomes a copy of its own."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, list) else self.value


@dataclass(frozen=True)
class Document:
    """What was read from a file; `root` is None if nothing could be read."""

    root: YamlNode | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are not hints."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


def parse(data: bytes) -> Document:
    """Reads the bytes of a file; never raises, whatever they are."""
    composer = _Composer()
    try:
        text = _text_of(data)
        is_json = text.lstrip().startswith("{")
        if not is_json and (hidden := _HIDDEN_BREAK.search(text)):
            words = f"has the character U+{ord(hidden[0]):04X}, which ends a line in YAML and in no editor: take it out."
            composer.findings.append(Finding(text.count("\n", 0, hidden.start()) + 1, words, Severity.HINT))
        if _JSON.match(text):
            _refuse_what_is_no_json(text)
        # Tabs may follow JSON, but not YAML.
        root = composer.compose(_events(_SURROGATES.sub(_joined, text.rstrip()) if is_json else text))
        if is_json:
            _refuse_what_is_no_json(text)
    except _UnreadableError as unreadable:
        return Document(None, (*composer.findings, unreadable.finding))
    return Document(root, tuple(composer.findings))


class _UnreadableError(Exception):
    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.finding = Finding(line, words)


@dataclass
class _Open:
    """A list or mapping whose end has not been read yet; `merges` are the positions of `<<` among a mapping's children."""

    line: int
    anchor: str | None
    children: list[YamlNode] = field(default_factory=list)
    merges: set[int] = field(default_factory=set)


class _Composer:
    """Makes nodes from events. As files are not trusted, it has its own stack, and checks its limits while it reads."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._anchors: dict[str, YamlNode] = {}
        self._open: list[_Open] = []
        self._values = 0

    def compose(self, events: Iterator[yaml.Event]) -> YamlNode:
        """Returns the first document; raises _UnreadableError if there is none, or if another one follows."""
        root: YamlNode | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if event.version not in (None, (1, 1)):
                    raise _UnreadableError(_line(event), "names a version of YAML other than 1.1: take the %YAML line out.")
            elif isinstance(event, yaml.NodeEvent):
                if root is None:
                    root = self._node(event, events)
                elif root.value is None and root.text == "":
                    words = "is empty, and all that the kubelet reads: a document ends at ---: take the first one out."
                    raise _UnreadableError(1, words)
                elif not (isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == ""):
                    raise _UnreadableError(
                        _line(event), "is a second document; the kubelet reads one pod from a file: give each a file."
                    )
        if root is None or root.value is None:
            raise _UnreadableError(1, "is empty; a static pod begins with apiVersion: v1, kind: Pod.")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event]) -> YamlNode:
        made = self._closed(event)
        while made is None or self._open:
            if made is not None:
                self._open[-1].children.append(made)
            made = self._closed(next(events))
        return made

    def _closed(self, event: yaml.Event) -> YamlNode | None:
        """The node that ends with an event; None if one only begins with it."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._grow(event, 1, 1)
            self._hear_of_tag(event)
            self._open.append(_Open(_line(event), event.anchor))
            return None
        if isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            node = self._collection(ended, event)
            if ended.anchor is not None:
                self._anchors[ended.anchor] = node
            return node
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        assert isinstance(event, yaml.ScalarEvent)
        node = self._scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _collection(self, ended: _Open, event: yaml.CollectionEndEvent) -> YamlNode:
        size = 1 + sum(child.size for child in ended.children)
        height = 1 + max((child.height for child in ended.children), default=0)
        made: Value = self._mapping(ended) if isinstance(event, yaml.MappingEndEvent) else ended.children
        return YamlNode(ended.line, made, size=size, height=height)

    def _mapping(self, ended: _Open) -> dict[str, YamlNode]:
        made: dict[str, YamlNode] = {}
        lines: dict[str, int] = {}
        for position in range(0, len(ended.children), 2):
            key, value = ended.children[position : position + 2]
            if position in ended.merges:
                # In the order of the file, as in yaml/v2: earlier fields are replaced too.
                made.update(_merged(key.line, value))
                continue
            name = _key(key)
            if name is None and isinstance(key.value, dict):
                # A mapping as a key is hardly ever meant: it is how {{ }} is read.
                raise _UnreadableError(key.line, "has a mapping as a key, as a template with {{ }} has: render it first.")
            if name is None:
                self.findings.append(Finding(key.line, "has a list or nothing as a key: a key is a word."))
                continue
            if not isinstance(key.value, str) and name != key.text:
                words = (
                    f'{shown(key.text)} is read as the key {shown(name)}: write "{shown(key.text)}" if it is to stay as it is.'
                )
                self.findings.append(Finding(key.line, words, Severity.HINT))
            if name in lines:
                words = f"{shown(name)} is there twice, first in line {lines[name]}; only the last counts: take one out."
                self.findings.append(Finding(key.line, words))
            lines.setdefault(name, key.line)
            made[name] = replace(value, line=key.line)
        return made

    def _alias(self, event: yaml.AliasEvent) -> YamlNode:
        name = str(event.anchor)
        if any(opened.anchor == name for opened in self._open):
            raise _UnreadableError(_line(event), f"the alias *{shown(name)} stands in what it stands for: write it out.")
        if name not in self._anchors:
            raise _UnreadableError(_line(event), f"the alias *{shown(name)} has no anchor &{shown(name)} before it.")
        node = replace(self._anchors[name], line=_line(event))
        if isinstance(node.value, list) and self._open and len(self._open[-1].children) - 1 in self._open[-1].merges:
            raise _UnreadableError(_line(event), f"<< takes no list by an alias: write its own, as <<: [*{shown(name)}].")
        self._grow(event, node.size, node.height)
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> YamlNode:
        self._grow(event, 1, 0)
        self._hear_of_tag(event)
        text: str = event.value
        value: Value = text
        if (event.implicit[0] and event.tag is None) or event.tag in _RESOLVED_TAGS or event.tag == _MERGE_TAG:
            if text == _MERGE and self._open:
                self._open[-1].merges.add(len(self._open[-1].children))
            if _NO_JSON.fullmatch(text):
                self.findings.append(Finding(_line(event), f'{text} is no number that the kubelet can read: write "{text}".'))
            else:
                value = resolved(text)
            tag = str(event.tag or "").removeprefix(_TAG)
            kind = _TAGGED.get(tag)
            if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
                words = f"is tagged !!{tag}, which {shown(text)} is not: take the tag out."
                self.findings.append(Finding(_line(event), words))
        elif event.tag == _TAG + "binary":
            self.findings.append(Finding(_line(event), "is tagged !!binary: write the text itself, without the tag."))
        return YamlNode(_line(event), value, text)

    def _hear_of_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag not in (None, "!", *_KNOWN_TAGS):
            tag = str(event.tag).replace(_TAG, "!!")
            self.findings.append(Finding(_line(event), f"the kubelet drops the tag {shown(tag)}: take it out.", Severity.HINT))

    def _grow(self, event: yaml.Event, values: int, levels: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise _UnreadableError(_line(event), f"holds more than {_MOST_VALUES} values, aliases written out: no pod does.")
        if len(self._open) + levels > _DEEPEST:
            raise _UnreadableError(_line(event), f"is nested deeper than {_DEEPEST} levels: no pod is.")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _text_of(data: bytes) -> str:
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise _UnreadableError(1, "is UTF-32: save it as UTF-8.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _UnreadableError(1, "is UTF-16: save it as UTF-8.")
    if data[:2].count(0) == 1:
        raise _UnreadableError(1, "is UTF-16, without its mark: save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        raise _UnreadableError(
            line, f"is no UTF-8: it has the byte {data[broken.start]:#x} here; save it as UTF-8."
        ) from broken
    if text.startswith(_MARK):
        raise _UnreadableError(1, "begins with two byte order marks, of which the kubelet knows one: take them out.")
    if odd := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise _UnreadableError(line, f"has the control character {odd.group()!r}: take it out.")
    return text


def _refuse_what_is_no_json(text: str) -> None:
    """Raises _UnreadableError for invalid JSON: to the kubelet, a leading brace is JSON (apimachinery, util/yaml, ToJSON)."""

    def refuse(word: str) -> float:
        line = text.count("\n", 0, text.index(word)) + 1
        raise _UnreadableError(line, f"{word} is no number in JSON, which the file is: write another value.")

    try:
        json.loads(text, parse_int=str, parse_constant=refuse)
    except json.JSONDecodeError as broken:
        if _JSON.match(text):
            cure = "take out what stands behind its last brace" if broken.msg == "Extra data" else "mend it"
            if re.search(r",\s*\Z", text[: broken.pos]) and text[broken.pos : broken.pos + 1] in ("}", "]"):
                cure = f"take out the comma before the {text[broken.pos]}"
            elif re.match(r"//|/\*|#", text[broken.pos :]) and broken.msg != "Extra data":
                cure = "take out the comment, as JSON has none"
            words = f"is no whole JSON ({broken.msg[:1].lower()}{broken.msg[1:]}): {cure}."
        else:
            words = (
                f"begins with {{ and so is JSON to the kubelet, but no JSON ({broken.msg}): write it without the outer braces."
            )
        raise _UnreadableError(broken.lineno, words) from broken
    except RecursionError as deep:
        raise _UnreadableError(1, f"is nested deeper than {_DEEPEST} levels: no pod is.") from deep


def _joined(match: re.Match[str]) -> str:
    """The character that one or two escapes stand for; half of a pair becomes U+FFFD, as in Go's encoding/json."""
    code = match[2]
    if len(code) == 6:
        return match[1] + "\N{REPLACEMENT CHARACTER}"
    high, low = int(code[2:6], 16), int(code[8:12], 16)
    return match[1] + chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as broken:
        raise _UnreadableError(*no_yaml.cause(broken, text.splitlines() or [""])) from broken
    except (ValueError, OverflowError) as broken:
        # From PyYAML without libyaml, for an escape beyond Unicode.
        raise _UnreadableError(1, f"is no YAML: {broken}.") from broken


def _merged(line: int, value: YamlNode) -> dict[str, YamlNode]:
    sources = list(reversed(value.value)) if isinstance(value.value, list) else [value]
    made: dict[str, YamlNode] = {}
    for source in sources:
        if not isinstance(source.value, dict):
            raise _UnreadableError(line, "<< takes a mapping or a list of mappings: write the fields out.")
        made.update(source.value)
    return made


def _key(node: YamlNode) -> str | None:
    """A key as sigs.k8s.io/yaml converts it for JSON, whose keys are texts; None if it cannot."""
    if isinstance(node.value, bool):
        return str(node.value).lower()
    if isinstance(node.value, float):
        return f"{node.value:g}"
    return str(node.value) if isinstance(node.value, str | int) else None


def resolved(text: str) -> Scalar:
    """The value of a word without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    bare = re.sub(r"(?<=\d)_(?=\d)", "", text) if text[0] == "." else text.replace("_", "")
    if (match := _INTEGER.fullmatch(bare)) and len(bare) <= _LONGEST_INTEGER:
        digits, base = next((group, base) for group, base in zip(match.groups()[1:], _BASES, strict=True) if group)
        integer = int(match[1] + digits, base)
        if -(1 << 63) <= integer < (1 << 63 if match[1] else 1 << 64):
            return integer
    if _FLOAT.fullmatch(bare) and math.isfinite(number := float(bare)):
        return number
    return text
