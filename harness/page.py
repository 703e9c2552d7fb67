"""A page of documentation as the pod that it describes: its YAML, completed by what it leaves to the reader.

The Markdown is read here: to CommonMark's parsers a fence in an admonition of MkDocs is text, and MkDocs' own knows no lines.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import document, rules
from harness.document import Node, Value
from harness.errors import HarnessError
from harness.finding import shown
from harness.manifest import Reading
from harness.pods import StaticPod

# CommonMark 0.31, 4.5; a fence stands as deep as the admonition or the list that it is in.
_OPENING = re.compile(r"(?P<indent> *)(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)")
# The first word, also where it is written as a class: {.yaml title="..."}.
_LANGUAGE = re.compile(r"[\s{.]*([\w+-]*)")
_YAML = {"yaml", "yml"}
# A fence behind the sign of a quotation or of a list, or behind a tab.
_OUT_OF_REACH = re.compile(r"\s*(?:(?:[>*+-]|\d+[.)])\s*|\t\s*)+(?:`{3,}|~{3,})[\s{.]*ya?ml\b", re.IGNORECASE)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_SECTIONS = {"spec": dict, "volumes": list, "before": dict, "args": dict, "container_level": list}


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
    """What a page has its reader put on a node: one Pod, and containers that run once, in the order of the page."""

    file: Path
    pod: Snippet
    one_shots: tuple[Snippet, ...]


@dataclass(frozen=True)
class _Fence:
    """Fenced YAML: the line of the fence itself, and the text behind it without the fence's indentation."""

    line: int
    headings: tuple[str, ...]
    text: str


class _MisfitError(Exception):
    """What a completion asks of a page that does not have it, or has it already, and where it asks."""

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line


def read(file: Path) -> Page:
    """Reads a page of Markdown; raises HarnessError, with the line, for YAML in it that is no Pod and no list of containers.

    A block is what its content says, wherever it stands: `kind: Pod`, or a list in which everything has a name and an image.
    """
    return _page(file, [snippet for fence in _fences(file, _text_of(file)) for snippet in _snippets(file, fence)])


def completed(page: Page, completion: Path) -> StaticPod:
    """The page's Pod with its one-shots as init containers, and with what the page leaves to the reader.

    That is declared in the file `completion` (scenarios/manifests/page-completion.yaml says how); nothing else is changed.
    Raises HarnessError where it does not fit the page, and for a Pod that would not run even so, with the page's lines.
    """
    pod = _below(page.pod.node, 0)
    spec = pod.get("spec") or pod
    _list_in(spec, "initContainers").extend(_below(one_shot.node, 0) for one_shot in page.one_shots)
    sections = _read_completion(completion)
    try:
        _add_fields(spec, _fields(sections["spec"]))
        _add_volumes(spec, sections["volumes"].items())
        for name, other in _fields(sections["before"]).items():
            _move_before(_list_in(spec, "initContainers"), name, other)
        for name, words in _fields(sections["args"]).items():
            _add_args(_named(_containers(spec), name, words.line), words.items())
        _move_to_containers(spec, sections["container_level"].items())
    except _MisfitError as misfit:
        at = f"{page.file}:{page.pod.line}"
        raise HarnessError(f"{completion}:{misfit.line}: does not fit the pod at {at}: {misfit}") from misfit
    found = sorted(rules.findings(pod), key=lambda finding: finding.line)
    manifest = Reading(page.file, tuple(found), pod).manifest()
    return StaticPod(f"{manifest['metadata']['name']}.yaml", manifest)


def _page(file: Path, found: Sequence[Snippet]) -> Page:
    pods = [snippet for snippet in found if _is_pod(snippet.node)]
    if not pods:
        raise HarnessError(f"{file}: shows no Pod: none of its YAML is `kind: Pod`.")
    if len(pods) > 1:
        raise HarnessError(f"{file}:{pods[1].line}: is a second Pod beside that of {_place(pods[0])}: the page's node has one.")
    by_name: dict[Value, Snippet] = {}
    for one_shot in [snippet for snippet in found if not _is_pod(snippet.node)]:
        name = _word(one_shot.node, "name")
        if name in by_name:
            raise HarnessError(f"{file}:{one_shot.line}: is a second container {name} beside that of {_place(by_name[name])}.")
        by_name[name] = one_shot
    return Page(file, pods[0], tuple(by_name.values()))


def _place(snippet: Snippet) -> str:
    return f"line {snippet.line}" + (f" under {shown(snippet.headings[-1])}" if snippet.headings else "")


def _fences(file: Path, text: str) -> Iterator[_Fence]:
    """The page's fenced YAML; raises HarnessError for a fence without an end, and for YAML in one that is not read."""
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
            content = list(_content(file, lines, number, opening))
            if _language(opening) in _YAML:
                yield _Fence(number, tuple(title for _, title in headings), "".join(f"{inner}\n" for inner in content))
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


def _language(opening: re.Match[str]) -> str:
    first = _LANGUAGE.match(opening["info"])
    return first[1].lower() if first else ""


def _snippets(file: Path, fence: _Fence) -> Iterator[Snippet]:
    root = _below(_parsed(file, fence.text.encode(), fence.line), fence.line)
    if _is_pod(root):
        yield Snippet(root, fence.headings)
        return
    if not root.items():
        raise HarnessError(f"{file}:{root.line}: is YAML, but no Pod and no list of containers: nobody knows where it belongs.")
    for item in root.items():
        if not (_word(item, "name") and _word(item, "image")):
            raise HarnessError(f"{file}:{item.line}: is no container: in a list each item has a name and an image.")
        yield Snippet(item, fence.headings)


def _read_completion(file: Path) -> Mapping[str, Node]:
    root = _parsed(file, _text_of(file).encode(), 0)
    sections = _fields(root)
    for name, kind in _SECTIONS.items():
        if name not in sections or not isinstance(sections[name].value, kind):
            raise HarnessError(f"{file}:{root.line}: is no completion: {name} has to be a {kind.__name__}, which may be empty.")
    for name in sections.keys() - _SECTIONS.keys():
        raise HarnessError(f"{file}:{sections[name].line}: {shown(name)} is nothing that completes a page.")
    return sections


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as missing:
        raise HarnessError(f"{file}: cannot be read: {missing.strerror}.") from missing
    except UnicodeDecodeError as broken:
        raise HarnessError(f"{file}: is no UTF-8: save it as UTF-8.") from broken


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
    return Node(node.line + lines, value, node.text, node.size, node.height)


def _is_pod(node: Node) -> bool:
    return _word(node, "kind") == "Pod"


def _word(node: Node, key: str) -> str:
    """The text of a field; empty if it has none."""
    found = node.get(key)
    return found.value if found and isinstance(found.value, str) else ""


def _fields(node: Node) -> dict[str, Node]:
    """A mapping's own fields; of anything else none, and that is for the rules to refuse."""
    return node.value if isinstance(node.value, dict) else {}


def _list_in(node: Node, key: str) -> list[Node]:
    """The list itself that a field is, made if there is none; of anything else none, and that is for the rules to refuse."""
    if node.get(key) is None:
        _fields(node)[key] = Node(node.line, [])
    return _fields(node)[key].items()


def _containers(spec: Node) -> list[Node]:
    return [*_list_in(spec, "initContainers"), *_list_in(spec, "containers")]


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
    declared = [_word(volume, "name") for volume in _list_in(spec, "volumes")]
    mounted = [_word(mount, "name") for container in _containers(spec) for mount in _mounts(container)]
    for volume in volumes:
        name = _word(volume, "name")
        if name in declared:
            raise _MisfitError(volume.line, f"it declares the volume {shown(name)} itself by now.")
        if name not in mounted:
            raise _MisfitError(volume.line, f"none of its containers mounts the volume {shown(name)} any more.")
    _list_in(spec, "volumes").extend(volumes)


def _mounts(container: Node) -> list[Node]:
    mounts = container.get("volumeMounts")
    return mounts.items() if mounts else []


def _move_before(containers: list[Node], name: str, other: Node) -> None:
    moved, behind = _named(containers, name, other.line), _named(containers, other.text, other.line)
    names = [_word(container, "name") for container in containers]
    if names.index(name) < names.index(other.text):
        raise _MisfitError(other.line, f"it has {shown(name)} before {shown(other.text)} itself by now.")
    containers.remove(moved)
    containers.insert(containers.index(behind), moved)


def _add_args(container: Node, words: Sequence[Node]) -> None:
    own = _list_in(container, "args")
    for word in words:
        if word.value in [argument.value for argument in own]:
            raise _MisfitError(word.line, f"it has {shown(word.text)} among the arguments itself by now.")
        own.append(word)


def _move_to_containers(spec: Node, fields: Sequence[Node]) -> None:
    pod_level = spec.get("securityContext")
    takers = [container for container in _containers(spec) if container.get("securityContext") is None]
    for field in fields:
        if pod_level is None or pod_level.get(field.text) is None:
            raise _MisfitError(field.line, f"its own securityContext has no {shown(field.text)} any more.")
        if not takers:
            raise _MisfitError(field.line, f"none of its containers is without a securityContext: none takes {field.text}.")
        value = _fields(pod_level).pop(field.text)
        for container in takers:
            context = _fields(container).setdefault("securityContext", Node(container.line, {}))
            _fields(context)[field.text] = value
    if pod_level is not None and not _fields(pod_level):
        del _fields(spec)["securityContext"]
