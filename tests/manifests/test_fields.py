"""The fields of a pod: an unknown one, and a value of another kind, are refused with what belongs there."""

import json
import re

import pytest

from harness.manifests import fields
from tests.manifests.small_pod import PROJECT, changed, findings_of, in_container, in_spec

_MAIN = "spec.containers[main]"


@pytest.mark.parametrize(
    ("text", "line", "where", "name", "advice"),
    [
        (in_container("volumeMount: []"), 12, _MAIN, "volumeMount", "did you mean volumeMounts?"),
        (in_spec("hostnetwork: true"), 7, "spec", "hostnetwork", "did you mean hostNetwork?"),
        (in_spec("nonsense: true"), 7, "spec", "nonsense", "take it out."),
        (in_spec("nonsense:"), 7, "spec", "nonsense", "take it out."),
        (
            in_spec("securityContext: {readOnlyRootFilesystem: true}"),
            7,
            "spec.securityContext",
            "readOnlyRootFilesystem",
            "it belongs into each container's securityContext.",
        ),
        (
            in_spec("securityContext:\n    capabilities: {drop: [ALL]}"),
            8,
            "spec.securityContext",
            "capabilities",
            "it belongs into each container's securityContext.",
        ),
        (in_spec("image: i"), 7, "spec", "image", "it belongs into a container."),
        (in_container("privileged: true"), 12, _MAIN, "privileged", "it belongs into the container's securityContext."),
        (in_container("hostNetwork: true"), 12, _MAIN, "hostNetwork", "it belongs into spec."),
        (
            in_container("securityContext: {fsGroup: 1}"),
            12,
            f"{_MAIN}.securityContext",
            "fsGroup",
            "it belongs into spec.securityContext.",
        ),
        (changed("kind: Pod\n", "kind: Pod\nlabels: {}\n"), 3, "the pod", "labels", "it belongs into metadata."),
        (changed("kind: Pod\n", "kind: Pod\nhostNetwork: on\n"), 3, "the pod", "hostNetwork", "it belongs into spec."),
        (in_container('"": 1'), 12, _MAIN, "''", "take it out."),
        (in_container('"a\\nb": 1'), 12, _MAIN, r"'a\nb'", "take it out."),
    ],
)
def test_an_unknown_field_is_refused_and_its_home_is_named(text: str, line: int, where: str, name: str, advice: str) -> None:
    assert findings_of(text) == [f"pod.yaml:{line}: {where} has no field {name}, the kubelet drops it: {advice}"]


_LIST = "a list belongs there: begin each entry with a dash."
_TEXT = "a text belongs there"
_WHOLE = "a whole number belongs there"
_QUANTITY = "a quantity such as 64Mi or 0.5 belongs there."
_POLICIES = "it is one of Always, IfNotPresent, Never."
_SECURITY_FIELDS = ", ".join(list(fields.types()["SecurityContext"])[:8])


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (in_container("args: [8250]"), 12, f'{_MAIN}.args[0] is the number 8250; {_TEXT}: write "8250".'),
        (in_container("args:\n    - -a\n    - 0o17"), 14, f'{_MAIN}.args[1] is the number 0o17; {_TEXT}: write "0o17".'),
        (in_container("args: [y]"), 12, f'{_MAIN}.args[0] is the truth value y; {_TEXT}: write "y".'),
        (in_container("args: [[a]]"), 12, f"{_MAIN}.args[0] is a list; {_TEXT}."),
        (in_container("args: -a"), 12, f"{_MAIN}.args is the text -a; {_LIST}"),
        (in_container("env: {A: b}"), 12, f"{_MAIN}.env is a mapping; {_LIST}"),
        (
            in_container("env: [{name: A, value: yes}]"),
            12,
            f'{_MAIN}.env[A].value is the truth value yes; {_TEXT}: write "yes".',
        ),
        (
            in_container("resources: {limits: {memory: 1e999999999}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text 1e999999999; a quantity such as 64Mi or 0.5 belongs there.",
        ),
        (in_container("tty: enabled"), 12, f"{_MAIN}.tty is the text enabled; true or false belongs there."),
        (
            in_container("securityContext: {runAsUser: root}"),
            12,
            f"{_MAIN}.securityContext.runAsUser is the text root; {_WHOLE}.",
        ),
        (
            in_container("args: [{echo a: b}]"),
            12,
            f"{_MAIN}.args[0] is a mapping; a text belongs there: put it in quotes if the colon is part of it.",
        ),
        (in_container("tty: 'true'"), 12, f"{_MAIN}.tty is the text true; true or false belongs there, without quotes."),
        (in_container("tty: 1"), 12, f"{_MAIN}.tty is the number 1; true or false belongs there."),
        (
            in_container("ports: [{containerPort: '80'}]"),
            12,
            f"{_MAIN}.ports[0].containerPort is the text 80; {_WHOLE}, without quotes.",
        ),
        (in_container("ports: [{containerPort: 80.5}]"), 12, f"{_MAIN}.ports[0].containerPort is the number 80.5; {_WHOLE}."),
        (
            in_container("ports: [{containerPort: 4294967376}]"),
            12,
            f"{_MAIN}.ports[0].containerPort is the number 4294967376; a whole number of less than 32 bits belongs there.",
        ),
        (
            in_spec("terminationGracePeriodSeconds: 9223372036854775808"),
            7,
            f"spec.terminationGracePeriodSeconds is the number {1 << 63}; a whole number of less than 64 bits belongs there.",
        ),
        (
            in_container("livenessProbe: {tcpSocket: {port: yes}}"),
            12,
            f"{_MAIN}.livenessProbe.tcpSocket.port is the truth value yes; a number or a name belongs there.",
        ),
        (
            in_container("resources: {limits: {memory: 64mb}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text 64mb; {_QUANTITY.rstrip('.')}: did you mean 64M?",
        ),
        (
            in_container("resources: {limits: {memory: 64K}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text 64K; {_QUANTITY.rstrip('.')}: did you mean 64k?",
        ),
        (
            in_container("resources: {limits: {memory: 1.5 gib}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text '1.5 gib'; {_QUANTITY.rstrip('.')}: did you mean 1.5Gi?",
        ),
        (
            in_container("resources: {limits: {memory: 64 sheep}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text '64 sheep'; {_QUANTITY}",
        ),
        (
            in_container("resources: {limits: {memory: on}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the truth value on; {_QUANTITY}",
        ),
        (in_container("imagePullPolicy: always"), 12, f"{_MAIN}.imagePullPolicy is the text always; did you mean Always?"),
        (in_container("imagePullPolicy: Now"), 12, f"{_MAIN}.imagePullPolicy is the text Now; {_POLICIES}"),
        (in_container("imagePullPolicy: on"), 12, f"{_MAIN}.imagePullPolicy is the truth value on; {_POLICIES}"),
        (
            in_container("lifecycle: {stopSignal: TERM}"),
            12,
            f"{_MAIN}.lifecycle.stopSignal is the text TERM; did you mean SIGTERM?",
        ),
        (
            in_container("securityContext: [a]"),
            12,
            f"{_MAIN}.securityContext is a list; a mapping belongs there: its fields are {_SECURITY_FIELDS} and more.",
        ),
        (in_spec("nodeSelector: [a]"), 7, "spec.nodeSelector is a list; a mapping of words belongs there, as name: word."),
        (in_spec("nodeSelector: {a: 5}"), 7, f'spec.nodeSelector.a is the number 5; {_TEXT}: write "5".'),
        (changed("name: small", "name: 123"), 4, f'metadata.name is the number 123; {_TEXT}: write "123".'),
        (
            changed("name: small", "name: a\n  creationTimestamp: soon"),
            5,
            "metadata.creationTimestamp is the text soon; a time such as 2026-01-31T12:00:00Z belongs there.",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused(text: str, line: int, says: str) -> None:
    assert findings_of(text) == [f"pod.yaml:{line}: {says}"]


def test_the_table_is_that_of_the_kubelet_of_the_reference_image() -> None:
    table = json.loads((PROJECT / "harness/manifests/pod-fields.json").read_text())
    required = re.search(r"^\s*k8s\.io/api (v\S+)", (PROJECT / "images/kubelet/go.mod").read_text(), re.MULTILINE)
    assert required is not None
    assert table["version"] == required[1], "make it anew: python -m setup.pod_fields"


def test_the_table_knows_every_kind_that_it_names() -> None:
    types = fields.types()
    kinds = {kind.rstrip("!").removeprefix("[]").removeprefix("{}") for of in types.values() for kind in of.values()}
    assert {kind for kind in kinds if "|" not in kind} - set(types) == {
        "string", "bool", "int32", "int64", "quantity", "int-or-string", "time", "any",
    }  # fmt: skip
    assert {name for name in types if name != "Pod"} <= kinds
