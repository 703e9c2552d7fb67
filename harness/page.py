"""A page of documentation as the pod that it describes: its YAML, completed by what it leaves to the reader.

The Markdown is read here: to CommonMark's parsers a fence in an admonition of MkDocs is text, and MkDocs' own knows no lines.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import document, rules
from harness.document import Node
from harness.errors import HarnessError
from harness.finding import Finding, Severity, shown
from harness.pods import StaticPod

# CommonMark 0.31, 4.5. A fence stands as deep as the admonition or the list that it is in; the first word behind it is the
# language, also where it is written as a class: {.yaml title="..."}.
_FENCE = r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})[\s{.]*"
_OPENING = re.compile(rf"(?P<indent> *(?:(?:[*+-]|\d+[.)]) +)*){_FENCE}(?P<language>[\w+-]*).*")
_YAML = {"yaml", "yml"}
# In a quotation or behind a tab every line of what is fenced has something before it.
_OUT_OF_REACH = re.compile(rf"[\s>*+\-\d.)]*{_FENCE}ya?ml\b", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_MAPPINGS, _LISTS = ("spec", "before", "args"), ("volumes", "container_level")


@dataclass(frozen=True)
class Snippet:
    """A Pod or a container as it stands on the page: lines are those of the page, headings those above, the outermost first."""

    node: Node
    headings: tuple[str, ...]

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.node.line


@dataclass(frozen=True)
class Page:
    """What a page has its reader put on a node: one Pod, and containers that run once, in the order of the page.

    `length` is in lines.
    """

    file: Path
    length: int
    pod: Snippet
    one_shots: tuple[Snippet, ...]


@dataclass(frozen=True)
class _Fence:
    """What is fenced: the line of the fence itself, and the text behind it without the fence's indentation."""

    line: int
    language: str
    headings: tuple[str, ...]
    text: str


class _MisfitError(Exception):
    """What a completion asks of a page that does not have it, or has it already, and at which line it asks."""

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line


def read(file: Path) -> Page:
    """Reads a page of Markdown; raises HarnessError, with the line, for YAML in it that is no Pod and no list of containers.

    A block is what its content says, wherever it stands: `kind: Pod`, or a list in which everything has a name and an image.
    """
    text = _text_of(file)
    found = [snippet for fence in _fences(file, text) for snippet in _snippets(file, fence)]
    return Page(file, text.count("\n") + 1, _pod(file, found), _one_shots(file, found))


def completed(page: Page, completion: Path) -> StaticPod:
    """The page's Pod with its one-shots as init containers, and with what the page leaves to the reader.

    That is declared in the file `completion` (scenarios/page-completion.yaml says how); nothing else is changed.
    Raises HarnessError where it does not fit the page, and for a Pod that would not run even so, with the lines of both files.
    """
    pod = _below(page.pod.node, 0)
    # A finding has a line and no file: the completion is read as if it stood below the page.
    sections = {name: _below(section, page.length) for name, section in _sections(completion).items()}
    try:
        _complete(pod, [_below(one_shot.node, 0) for one_shot in page.one_shots], sections)
    except _MisfitError as misfit:
        words = f"does not fit the pod at {page.file}:{page.pod.line}: {misfit}"
        raise HarnessError(_at(page, completion, Finding(misfit.line, words))) from misfit
    errors = [finding for finding in rules.findings(pod) if finding.severity is Severity.ERROR]
    if errors:
        raise HarnessError("\n".join(_at(page, completion, error) for error in sorted(errors, key=lambda error: error.line)))
    manifest = pod.plain()
    return StaticPod(f"{manifest['metadata']['name']}.yaml", manifest)


def _complete(pod: Node, one_shots: Sequence[Node], sections: Mapping[str, Node]) -> None:
    """Changes a Pod; what it has in place of a list or a mapping is left for the rules to refuse."""
    spec = pod.get("spec")
    if spec is None:
        return
    _extend(spec, "initContainers", one_shots)
    _add_fields(spec, _fields(sections["spec"]))
    _add_volumes(spec, sections["volumes"].items())
    for name, other in _fields(sections["before"]).items():
        _move_before(_items(spec, "initContainers"), name, other)
    for name, words in _fields(sections["args"]).items():
        _add_args(_named(_containers(spec), name, words.line), words.items())
    _move_to_containers(spec, sections["container_level"].items())


def _at(page: Page, completion: Path, finding: Finding) -> str:
    if finding.line <= page.length:
        return finding.at(page.file)
    return replace(finding, line=finding.line - page.length).at(completion)


def _pod(file: Path, found: Sequence[Snippet]) -> Snippet:
    pods = [snippet for snippet in found if _is_pod(snippet.node)]
    if not pods:
        raise HarnessError(f"{file}: shows no Pod: none of its YAML is `kind: Pod`.")
    if len(pods) > 1:
        raise HarnessError(f"{file}:{pods[1].line}: is a second Pod beside that of {_place(pods[0])}: a node's page has one.")
    return pods[0]


def _one_shots(file: Path, found: Sequence[Snippet]) -> tuple[Snippet, ...]:
    by_name: dict[str, Snippet] = {}
    for one_shot in (snippet for snippet in found if not _is_pod(snippet.node)):
        name = _word(one_shot.node, "name")
        if name in by_name:
            place = _place(by_name[name])
            raise HarnessError(
                f"{file}:{one_shot.line}: is a second container {shown(name)} beside that of {place}: rename one."
            )
        by_name[name] = one_shot
    return tuple(by_name.values())


def _place(snippet: Snippet) -> str:
    return f"line {snippet.line}" + (f" under {shown(snippet.headings[-1])}" if snippet.headings else "")


def _fences(file: Path, text: str) -> Iterator[_Fence]:
    """What the page has fenced; raises HarnessError for a fence without an end, and for YAML in one that is not read."""
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
            raise HarnessError(f"{file}:{number}: is YAML whose fence does not begin the line: put only spaces before it.")


def _content(file: Path, lines: Iterator[tuple[int, str]], opened: int, opening: re.Match[str]) -> Iterator[str]:
    """The lines up to a fence's closing one, without its indentation."""
    indent, fence = len(opening["indent"]), opening["fence"]
    closing = re.compile(rf" {{0,3}}{fence[0]}{{{len(fence)},}}\s*")
    for number, line in lines:
        if line[:indent].strip():
            raise HarnessError(
                f"{file}:{number}: stands left of the fence of line {opened}, which is not closed: close it above."
            )
        if closing.fullmatch(line[indent:]):
            return
        yield line[indent:]
    raise HarnessError(f"{file}:{opened}: is a fence that nothing closes.")


def _snippets(file: Path, fence: _Fence) -> Iterator[Snippet]:
    if fence.language not in _YAML:
        unlabelled = document.parse(fence.text.encode()).root
        if unlabelled and (_is_pod(unlabelled) or any(map(_is_container, unlabelled.items()))):
            raise HarnessError(f"{file}:{fence.line}: fences what a node runs as {fence.language or 'nothing'}: call it yaml.")
        return
    root = _below(_parsed(file, fence.text.encode(), fence.line), fence.line)
    if _is_pod(root):
        yield Snippet(root, fence.headings)
        return
    if not root.items():
        raise HarnessError(f"{file}:{root.line}: is YAML, but no Pod and no list of containers: nobody knows where it belongs.")
    for item in root.items():
        if not _is_container(item):
            raise HarnessError(f"{file}:{item.line}: is no container: in a list each item has a name and an image.")
        yield Snippet(item, fence.headings)


def _sections(completion: Path) -> Mapping[str, Node]:
    root = _parsed(completion, _text_of(completion).encode(), 0)
    sections = _fields(root)
    for kind, names in ((dict, _MAPPINGS), (list, _LISTS)):
        if wrong := [name for name in names if name not in sections or not isinstance(sections[name].value, kind)]:
            kinds = f"{', '.join(_MAPPINGS)} are mappings and {', '.join(_LISTS)} lists"
            raise HarnessError(f"{completion}:{root.line}: is no completion for want of {wrong[0]}: {kinds}, if empty ones.")
    for name in sections:
        if name not in (*_MAPPINGS, *_LISTS):
            raise HarnessError(f"{completion}:{sections[name].line}: {shown(name)} is nothing that completes a page.")
    return sections


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as missing:
        raise HarnessError(f"{file}: cannot be read: {missing.strerror}.") from missing
    except UnicodeDecodeError as broken:
        line = broken.object.count(b"\n", 0, broken.start) + 1
        raise HarnessError(f"{file}:{line}: is no UTF-8: save it as UTF-8.") from broken


def _parsed(file: Path, data: bytes, above: int) -> Node:
    """The one document in `data`, which stands below so many lines of the file."""
    read_from = document.parse(data)
    if read_from.root is None or read_from.findings:
        raise HarnessError("\n".join(f"{file}:{above + found.line}: {found.words}" for found in read_from.findings))
    return read_from.root


def _below(node: Node, lines: int) -> Node:
    """A copy, so many lines further down; what an alias shares is copied too."""
    value = node.value
    if isinstance(value, dict):
        value = {key: _below(child, lines) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_below(child, lines) for child in value]
    return replace(node, line=node.line + lines, value=value)


def _is_pod(node: Node) -> bool:
    return _word(node, "kind") == "Pod"


def _is_container(node: Node) -> bool:
    return bool(_word(node, "name") and _word(node, "image"))


def _word(node: Node, key: str) -> str:
    """The text of a field; empty if it has none."""
    found = node.get(key)
    return found.value if found and isinstance(found.value, str) else ""


def _fields(node: Node) -> dict[str, Node]:
    """A mapping's own fields; of anything else none, and that is for the rules to refuse."""
    return node.value if isinstance(node.value, dict) else {}


def _items(node: Node, key: str) -> list[Node]:
    """The list itself that a field is; of anything else none, and that is for the rules to refuse."""
    found = node.get(key)
    return found.items() if found else []


def _extend(node: Node, key: str, items: Sequence[Node]) -> None:
    if items and node.get(key) is None:
        _fields(node)[key] = Node(node.line, [])
    _items(node, key).extend(items)


def _containers(spec: Node) -> list[Node]:
    return [*_items(spec, "initContainers"), *_items(spec, "containers")]


def _named(containers: Sequence[Node], name: str, line: int) -> Node:
    for container in containers:
        if _word(container, "name") == name:
            return container
    raise _MisfitError(line, f"{shown(name)} is none of its containers here any more.")


def _add_fields(spec: Node, fields: Mapping[str, Node]) -> None:
    for name, value in fields.items():
        if name in _fields(spec):
            raise _MisfitError(value.line, f"it has {shown(name)} itself by now.")
        _fields(spec)[name] = value


def _add_volumes(spec: Node, volumes: Sequence[Node]) -> None:
    declared = [_word(volume, "name") for volume in _items(spec, "volumes")]
    mounted = [_word(mount, "name") for container in _containers(spec) for mount in _items(container, "volumeMounts")]
    for volume in volumes:
        name = _word(volume, "name")
        if name in declared:
            raise _MisfitError(volume.line, f"it declares the volume {shown(name)} itself by now.")
        if name not in mounted:
            raise _MisfitError(volume.line, f"none of its containers mounts the volume {shown(name)} any more.")
    _extend(spec, "volumes", volumes)


def _move_before(containers: list[Node], name: str, other: Node) -> None:
    moved, behind = _named(containers, name, other.line), _named(containers, other.text, other.line)
    names = [_word(container, "name") for container in containers]
    if names.index(name) <= names.index(other.text):
        raise _MisfitError(other.line, f"it has {shown(name)} before {shown(other.text)} itself by now.")
    containers.remove(moved)
    containers.insert(containers.index(behind), moved)


def _add_args(container: Node, words: Sequence[Node]) -> None:
    own = [argument.value for argument in _items(container, "args")]
    for word in words:
        if word.value in own:
            raise _MisfitError(word.line, f"it has {shown(word.text)} among the arguments itself by now.")
    _extend(container, "args", words)


def _move_to_containers(spec: Node, fields: Sequence[Node]) -> None:
    pod_level = spec.get("securityContext")
    takers = [container for container in _containers(spec) if container.get("securityContext") is None]
    moved: dict[str, Node] = {}
    for field in fields:
        if pod_level is None or pod_level.get(field.text) is None:
            raise _MisfitError(field.line, f"its own securityContext has no {shown(field.text)} any more.")
        if not takers:
            raise _MisfitError(field.line, f"each of its containers has a securityContext: none takes {shown(field.text)}.")
        moved[field.text] = _fields(pod_level).pop(field.text)
    for container in takers if moved else ():
        _fields(container)["securityContext"] = Node(container.line, moved)
    if moved and pod_level is not None and not _fields(pod_level):
        del _fields(spec)["securityContext"]
