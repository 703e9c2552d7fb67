"""What a page of documentation leaves to its reader: declared in a file, and added to the page's Pod so that it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError
from harness.manifests import rules
from harness.manifests.finding import Finding, Severity, shown
from harness.manifests.page import Page, parsed, text_of
from harness.manifests.pods import StaticPod
from harness.manifests.yaml_reader import YamlNode

_MAPPINGS, _LISTS = ("spec", "before", "args"), ("volumes", "container_level")


class _MisfitError(Exception):
    """A completion does not fit the page, which lacks what it changes or has what it adds; with the completion's line."""

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line


def completed(page: Page, completion: Path) -> StaticPod:
    """The page's Pod with its one-shots as init containers, and with what the page leaves to the reader.

    The latter is declared in the file `completion` (scenarios/page-completion.yaml says how); nothing else is changed. Raises
    InputError, with the lines of both files, if the completion does not fit the page, or if the Pod still would not run.
    """
    pod = page.pod.node.below(0)
    # A finding has a line but no file, so the completion is read as if it were appended to the page.
    sections = {name: section.below(page.length) for name, section in _sections(completion).items()}
    try:
        _complete(pod, [one_shot.node.below(0) for one_shot in page.one_shots], sections)
    except _MisfitError as misfit:
        words = f"does not fit the pod at {page.file}:{page.pod.line}: {misfit}"
        raise InputError(_at(page, completion, Finding(misfit.line, words))) from misfit
    errors = [finding for finding in rules.findings(pod) if finding.severity is Severity.ERROR]
    if errors:
        raise InputError("\n".join(_at(page, completion, error) for error in sorted(errors, key=lambda error: error.line)))
    manifest = pod.plain()
    return StaticPod(f"{manifest['metadata']['name']}.yaml", manifest)


def _complete(pod: YamlNode, one_shots: Sequence[YamlNode], sections: Mapping[str, YamlNode]) -> None:
    """Changes a Pod; leaves it to the rules to refuse values that are not the lists or mappings they should be."""
    spec = pod.get("spec")
    if spec is None:
        return
    _extend(spec, "initContainers", one_shots)
    _add_fields(spec, sections["spec"].fields())
    _add_volumes(spec, sections["volumes"].items())
    for name, other in sections["before"].fields().items():
        _move_before(spec.entries("initContainers"), name, other)
    for name, words in sections["args"].fields().items():
        _add_args(_named(_containers(spec), name, words.line), words.items())
    _move_to_containers(spec, sections["container_level"].items())


def _at(page: Page, completion: Path, finding: Finding) -> str:
    if finding.line <= page.length:
        return finding.at(page.file)
    return replace(finding, line=finding.line - page.length).at(completion)


def _sections(completion: Path) -> Mapping[str, YamlNode]:
    root = parsed(completion, text_of(completion).encode(), 0)
    sections = root.fields()
    for kind, names in ((dict, _MAPPINGS), (list, _LISTS)):
        if wrong := [name for name in names if name not in sections or not isinstance(sections[name].value, kind)]:
            kinds = f"{', '.join(_MAPPINGS)} are mappings and {', '.join(_LISTS)} lists"
            raise InputError(f"{completion}:{root.line}: is no completion for want of {wrong[0]}: {kinds}, if empty ones.")
    for name in sections:
        if name not in (*_MAPPINGS, *_LISTS):
            raise InputError(f"{completion}:{sections[name].line}: {shown(name)} is nothing that completes a page.")
    return sections


def _extend(node: YamlNode, key: str, items: Sequence[YamlNode]) -> None:
    if items and node.get(key) is None:
        node.fields()[key] = YamlNode(node.line, [])
    node.entries(key).extend(items)


def _containers(spec: YamlNode) -> list[YamlNode]:
    return [*spec.entries("initContainers"), *spec.entries("containers")]


def _named(containers: Sequence[YamlNode], name: str, line: int) -> YamlNode:
    for container in containers:
        if container.word("name") == name:
            return container
    raise _MisfitError(line, f"{shown(name)} is none of its containers here any more.")


def _add_fields(spec: YamlNode, fields: Mapping[str, YamlNode]) -> None:
    for name, value in fields.items():
        if name in spec.fields():
            raise _MisfitError(value.line, f"it has {shown(name)} itself by now.")
        spec.fields()[name] = value


def _add_volumes(spec: YamlNode, volumes: Sequence[YamlNode]) -> None:
    declared = [volume.word("name") for volume in spec.entries("volumes")]
    mounted = [mount.word("name") for container in _containers(spec) for mount in container.entries("volumeMounts")]
    for volume in volumes:
        name = volume.word("name")
        if name in declared:
            raise _MisfitError(volume.line, f"it declares the volume {shown(name)} itself by now.")
        if name not in mounted:
            raise _MisfitError(volume.line, f"none of its containers mounts the volume {shown(name)} any more.")
    _extend(spec, "volumes", volumes)


def _move_before(containers: list[YamlNode], name: str, other: YamlNode) -> None:
    moved, behind = _named(containers, name, other.line), _named(containers, other.text, other.line)
    names = [container.word("name") for container in containers]
    if names.index(name) <= names.index(other.text):
        raise _MisfitError(other.line, f"it has {shown(name)} before {shown(other.text)} itself by now.")
    containers.remove(moved)
    containers.insert(containers.index(behind), moved)


def _add_args(container: YamlNode, words: Sequence[YamlNode]) -> None:
    own = [argument.value for argument in container.entries("args")]
    for word in words:
        if word.value in own:
            raise _MisfitError(word.line, f"it has {shown(word.text)} among the arguments itself by now.")
    _extend(container, "args", words)


def _move_to_containers(spec: YamlNode, fields: Sequence[YamlNode]) -> None:
    pod_level = spec.get("securityContext")
    takers = [container for container in _containers(spec) if container.get("securityContext") is None]
    moved: dict[str, YamlNode] = {}
    for field in fields:
        if pod_level is None or pod_level.get(field.text) is None:
            raise _MisfitError(field.line, f"its own securityContext has no {shown(field.text)} any more.")
        if not takers:
            raise _MisfitError(field.line, f"each of its containers has a securityContext: none takes {shown(field.text)}.")
        moved[field.text] = pod_level.fields().pop(field.text)
    for container in takers if moved else ():
        container.fields()["securityContext"] = YamlNode(container.line, moved)
    if moved and pod_level is not None and not pod_level.fields():
        del spec.fields()["securityContext"]
