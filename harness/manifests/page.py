"""A page of documentation as the pod and the containers that its YAML describes.

The Markdown is read here, because CommonMark parsers take a fence in a MkDocs admonition as text, and MkDocs' own parser does
not know line numbers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.manifests import yaml_reader
from harness.manifests.finding import shown
from harness.manifests.yaml_reader import YamlNode

# CommonMark 0.31, 4.5. A fence is indented as deep as the admonition or list that contains it. The first word after it is the
# language, which may be written as a class: {.yaml title="..."}.
_FENCE = r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})[\s{.]*"
_OPENING = re.compile(rf"(?P<indent> *(?:(?:[*+-]|\d+[.)]) +)*){_FENCE}(?P<language>[\w+-]*).*")
_YAML = {"yaml", "yml"}
# In a quotation or after a tab, every fenced line has something before it.
_OUT_OF_REACH = re.compile(rf"[\s>*+\-\d.)]*{_FENCE}ya?ml\b", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")


@dataclass(frozen=True)
class Snippet:
    """A Pod or a container on the page: its lines are those of the page; the headings above it are outermost first."""

    node: YamlNode
    headings: tuple[str, ...]

    @property
    def line(self) -> int:
        """The line where it begins."""
        return self.node.line


@dataclass(frozen=True)
class Page:
    """What a page tells its reader to put on a node: one Pod, and containers that run once, in the order of the page.

    `length` is the page's number of lines.
    """

    file: Path
    length: int
    pod: Snippet
    one_shots: tuple[Snippet, ...]


@dataclass(frozen=True)
class _Fence:
    """A fenced block: the line of its opening fence, and its text without the fence's indentation."""

    line: int
    language: str
    headings: tuple[str, ...]
    text: str


def read(file: Path) -> Page:
    """Reads a page of Markdown; raises InputError, with the line, for YAML that is neither a Pod nor a list of containers.

    A block's content decides what it is, wherever it is: `kind: Pod`, or a list in which each item has a name and an image.
    """
    text = text_of(file)
    found = [snippet for fence in _fences(file, text) for snippet in _snippets(file, fence)]
    return Page(file, text.count("\n") + 1, _pod(file, found), _one_shots(file, found))


def _pod(file: Path, found: Sequence[Snippet]) -> Snippet:
    pods = [snippet for snippet in found if _is_pod(snippet.node)]
    if not pods:
        raise InputError(f"{file}: shows no Pod: none of its YAML is `kind: Pod`.")
    if len(pods) > 1:
        raise InputError(f"{file}:{pods[1].line}: is a second Pod beside that of {_place(pods[0])}: a node's page has one.")
    return pods[0]


def _one_shots(file: Path, found: Sequence[Snippet]) -> tuple[Snippet, ...]:
    by_name: dict[str, Snippet] = {}
    for one_shot in (snippet for snippet in found if not _is_pod(snippet.node)):
        name = one_shot.node.word("name")
        if name in by_name:
            place = _place(by_name[name])
            raise InputError(f"{file}:{one_shot.line}: is a second container {shown(name)} beside that of {place}: rename one.")
        by_name[name] = one_shot
    return tuple(by_name.values())


def _place(snippet: Snippet) -> str:
    return f"line {snippet.line}" + (f" under {shown(snippet.headings[-1])}" if snippet.headings else "")


def _fences(file: Path, text: str) -> Iterator[_Fence]:
    """The page's fenced blocks; raises InputError for a fence without an end, and for fenced YAML that cannot be read here."""
    headings: list[tuple[int, str]] = []
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        if line.lstrip().startswith("<!--"):
            while "-->" not in line:
                _, line = next(lines, (0, "-->"))
        elif heading := _HEADING.fullmatch(line):
            level = len(heading[1])
            headings = [*[above for above in headings if above[0] < level], (level, heading[2])]
        elif opening := _OPENING.fullmatch(line):
            content = "".join(f"{inner}\n" for inner in _content(file, lines, number, opening))
            yield _Fence(number, opening["language"].lower(), tuple(title for _, title in headings), content)
        elif _OUT_OF_REACH.match(line):
            raise InputError(f"{file}:{number}: is YAML whose fence does not begin the line: put only spaces before it.")


def _content(file: Path, lines: Iterator[tuple[int, str]], opened: int, opening: re.Match[str]) -> Iterator[str]:
    """The lines up to the closing fence, without the opening fence's indentation."""
    indent, fence = len(opening["indent"]), opening["fence"]
    closing = re.compile(rf" {{0,3}}{fence[0]}{{{len(fence)},}}\s*")
    for number, line in lines:
        if line[:indent].strip():
            raise InputError(
                f"{file}:{number}: stands left of the fence of line {opened}, which is not closed: close it above."
            )
        if closing.fullmatch(line[indent:]):
            return
        yield line[indent:]
    raise InputError(f"{file}:{opened}: is a fence that nothing closes.")


def _snippets(file: Path, fence: _Fence) -> Iterator[Snippet]:
    if fence.language not in _YAML:
        unlabelled = yaml_reader.parse(fence.text.encode()).root
        if unlabelled and (_is_pod(unlabelled) or any(map(_is_container, unlabelled.items()))):
            raise InputError(f"{file}:{fence.line}: fences what a node runs as {fence.language or 'nothing'}: call it yaml.")
        return
    root = parsed(file, fence.text.encode(), fence.line).below(fence.line)
    if _is_pod(root):
        yield Snippet(root, fence.headings)
        return
    if not root.items():
        raise InputError(f"{file}:{root.line}: is YAML, but no Pod and no list of containers: nobody knows where it belongs.")
    for item in root.items():
        if not _is_container(item):
            raise InputError(f"{file}:{item.line}: is no container: in a list each item has a name and an image.")
        yield Snippet(item, fence.headings)


def text_of(file: Path) -> str:
    """A file's text; raises InputError, with the line, if it is not UTF-8."""
    try:
        return file.read_text("utf-8")
    except OSError as missing:
        raise InputError(f"{file}: cannot be read: {missing.strerror}.") from missing
    except UnicodeDecodeError as broken:
        line = broken.object.count(b"\n", 0, broken.start) + 1
        raise InputError(f"{file}:{line}: is no UTF-8: save it as UTF-8.") from broken


def parsed(file: Path, data: bytes, above: int) -> YamlNode:
    """The one document in `data`, which follows `above` lines of the file; raises InputError for anything else."""
    read_from = yaml_reader.parse(data)
    if read_from.root is None or read_from.errors:
        raise InputError("\n".join(f"{file}:{above + found.line}: {found.words}" for found in read_from.errors))
    return read_from.root


def _is_pod(node: YamlNode) -> bool:
    return node.word("kind") == "Pod"


def _is_container(node: YamlNode) -> bool:
    return bool(node.word("name") and node.word("image"))
