"""Makes harness/manifests/pod-fields.json: every field that a v1 Pod may have, read from Kubernetes' own Go types.

Run `python -m setup.pod_fields` in the checkout after images/kubelet/go.mod names another version of Kubernetes. Needs Go and
its module proxy; harness/manifests/fields.py says how the table is read.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from images import command, go
from images.errors import BuildError

_ROOT = Path(__file__).parents[1]
_GO_MOD = _ROOT / "images/kubelet/go.mod"
_TABLE = _ROOT / "harness/manifests/pod-fields.json"
_SOURCES = {
    "k8s.io/api": ("core/v1/types.go",),
    "k8s.io/apimachinery": ("pkg/apis/meta/v1/types.go",),
}

# The kinds that Go's types become; every other type must be in the sources.
_SCALARS = {
    "string": "string",
    "bool": "bool",
    "int32": "int32",
    "int64": "int64",
    "types.UID": "string",
    "metav1.Time": "time",
    "Time": "time",
    "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string",
    # The kubelet makes a pod's status itself, and nothing reads a file's managed fields.
    "PodStatus": "any",
    "FieldsV1": "any",
}
# Marked as an enumeration in the sources, but one of its words is a prefix.
_OPEN = {"StorageMedium"}
# Optional in the types, for the sake of templates, but required by the kubelet in a pod.
_DEMANDED = {("Container", "image")}

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^type (\w+) (map\[\w+\][\w.]+|[\w.]+)$", re.MULTILINE)
_FIELD = re.compile(r'^\t(?:\w+ +)?([\w.*\[\]]+) +`(?:protobuf:"[^"]*" )?json:"([^",]*)([^"]*)"', re.MULTILINE)
_ENUM = re.compile(r"^// \+enum\n(?://.*\n)*type (\w+) string$", re.MULTILINE)
_CONSTANT = re.compile(r'^\t\w+ +(\w+) += +"([^"]*)"', re.MULTILINE)
_MAP = re.compile(r"map\[\w+\]([\w.]+)")


class _Types:
    """The types of the sources, by name."""

    def __init__(self, text: str) -> None:
        self.structs: dict[str, str] = dict(_STRUCT.findall(text))
        self.named: dict[str, str] = dict(_NAMED.findall(text))
        words: dict[str, list[str]] = {name: [] for name in _ENUM.findall(text) if name not in _OPEN}
        for name, word in _CONSTANT.findall(text):
            if word and name in words:
                words[name].append(word)
        self.words = {name: "|".join(sorted(values)) for name, values in words.items()}

    def fields(self, struct: str) -> Iterator[tuple[str, str]]:
        """Yields name and kind of a struct's fields, including those of embedded structs."""
        for spelled, name, options in _FIELD.findall(self.structs[struct]):
            if ",inline" in options:
                yield from self.fields(spelled.removeprefix("metav1."))
            else:
                kind = self.kind(spelled)
                always_written = "omitempty" not in options and not spelled.startswith("*")
                # Only texts: a number that is left out is 0, and a header's value may be empty.
                demanded = always_written and name != "value" and (kind in ("string", "int-or-string") or "|" in kind)
                yield name, kind + "!" * (demanded or (struct, name) in _DEMANDED)

    def kind(self, spelled: str) -> str:
        """The kind of a Go type, as harness/manifests/fields.py knows it."""
        spelled = spelled.removeprefix("*")
        if spelled in _SCALARS:
            return _SCALARS[spelled]
        if spelled.startswith("[]"):
            return "[]" + self.kind(spelled[2:])
        if match := _MAP.fullmatch(spelled):
            return "{}" + self.kind(match[1])
        name = spelled.removeprefix("metav1.")
        if name in self.words:
            return self.words[name]
        if name in self.structs:
            return name
        return self.kind(self.named[name])


def table(version: str, text: str) -> dict[str, object]:
    """Returns the table of all types that a Pod contains; raises KeyError for a type that the sources do not have."""
    types = _Types(text)
    made: dict[str, dict[str, str]] = {}
    waiting = ["Pod"]
    while waiting:
        struct = waiting.pop()
        if struct not in made:
            made[struct] = dict(sorted(types.fields(struct)))
            waiting += [base for kind in made[struct].values() if (base := kind.strip("[]{}!")) in types.structs]
    return {"version": version, "types": dict(sorted(made.items()))}


def made() -> str:
    """Returns the table as the text of its file; raises BuildError if Go or a source is missing."""
    compiler = go.find()
    version = go.required(_GO_MOD, "k8s.io/api")
    text = "".join(_source(compiler, module, path) for module, paths in _SOURCES.items() for path in paths)
    return json.dumps(table(version, text), indent=0, separators=(",", ":")) + "\n"


def main() -> int:
    """Writes the table; returns the exit status."""
    try:
        text = made()
    except BuildError as failed:
        print(f"pod_fields: {failed}", file=sys.stderr)
        return 1
    _TABLE.write_text(text, "utf-8")
    print(f"{_TABLE.relative_to(_ROOT)}: Kubernetes {json.loads(text)['version']}, {_TABLE.stat().st_size} bytes")
    return 0


def _source(compiler: Path, module: str, path: str) -> str:
    wanted = f"{module}@{go.required(_GO_MOD, module)}"
    answer = command.capture([compiler, "mod", "download", "-json", wanted], env=go.environment())
    return (Path(json.loads(answer)["Dir"]) / path).read_text("utf-8")


if __name__ == "__main__":
    sys.exit(main())
