"""Manifests as files: read whole and once, or refused in words, whatever they hold."""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, InputError
from harness.manifests import fields, yaml_reader
from harness.manifests.manifest import check, read, read_all
from harness.manifests.pods import load, refuse_clashes
from tests.manifests.small_pod import NODE, POD, changed, in_container


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def _only_error(file: Path) -> str:
    (finding,) = read(file).findings
    assert finding.line == 1
    with pytest.raises(HarnessError, match=re.escape(finding.words)):
        read(file).manifest()
    return finding.words


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pod.yaml"


def test_a_missing_file_is_named(file: Path) -> None:
    assert _only_error(file) == "cannot be read: No such file or directory."
    file.symlink_to(file)
    assert _only_error(file) == "cannot be read: Too many levels of symbolic links."
    assert "null" in _only_error(Path("a\0b"))


def test_a_file_that_cannot_be_read_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(POD)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert _only_error(file) == "cannot be read: Permission denied."


def test_what_is_no_file_is_refused_unopened(file: Path) -> None:
    assert _only_error(file.parent) == "is a directory: name the files in it."
    os.mkfifo(file)
    assert _only_error(file).startswith("is no regular file")
    assert _only_error(Path("/dev/zero")).startswith("is no regular file")
    file.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(file))
        assert _only_error(file).startswith("is no regular file")


def test_a_large_file_is_refused_unread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open("wb") as stream:
        stream.truncate(50_000_000)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    assert _only_error(file) == "50000000 bytes are no manifest: the largest one read has 1048576."


def test_a_file_may_have_1_mib_and_not_one_byte_more(file: Path) -> None:
    file.write_text(POD.ljust(1 << 20))
    assert read(file).findings == ()
    file.write_text(POD.ljust((1 << 20) + 1))
    assert _only_error(file).startswith("1048577 bytes are no manifest")


def test_a_file_larger_than_it_says_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(POD.ljust(1 << 21))
    empty = _write(tmp_path, "empty", "").stat()
    monkeypatch.setattr(Path, "stat", lambda _: empty)
    assert _only_error(file).startswith("1048577 bytes are no manifest")


def test_two_files_cannot_hold_the_same_pod(tmp_path: Path) -> None:
    first = _write(tmp_path, "a.yaml", POD)
    second = _write(tmp_path, "b.yaml", changed("  name: small\n", "  namespace: default\n  name: small\n"))
    third = _write(tmp_path, "c.yaml", changed("  name: small\n", "  namespace: other\n  name: small\n"))
    readings = read_all([first, second, third])
    assert [len(reading.errors) for reading in readings] == [0, 1, 0]
    assert readings[1].errors[0].line == 5
    assert readings[1].errors[0].words.startswith(f"is the pod default/small, as is {first}:4; the kubelet runs one")


def test_two_files_of_one_name_have_no_place_on_a_node(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", "pod.yaml", POD)
    second = _write(tmp_path / "b", "pod.yaml", changed("name: small", "name: other"))
    readings = read_all([first, second])
    assert [len(reading.errors) for reading in readings] == [0, 1]
    assert readings[1].errors[0].words.startswith(f"is named as {first} is; on a node one would replace the other")


def test_a_file_given_twice_is_one(tmp_path: Path) -> None:
    file = _write(tmp_path, "a.yaml", POD)
    for other in (file, Path(os.path.relpath(file)), tmp_path / "b" / ".." / file.name):
        (reading,) = read_all([file, other])
        assert reading.findings == ()


def _serving(name: str, port: str) -> str:
    return in_container(f"ports: [{{{port}}}]").replace("name: small", f"name: {name}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("containerPort: 80", "containerPort: 80"),
        ("containerPort: 80", "containerPort: 80, hostPort: 80, protocol: TCP"),
        ("containerPort: 80, hostIP: 10.0.2.15", "containerPort: 80"),
    ],
)
def test_two_pods_cannot_take_one_port_of_the_node(tmp_path: Path, first: str, second: str) -> None:
    files = [_write(tmp_path, f"{name}.yaml", _serving(name, port)) for name, port in (("a", first), ("b", second))]
    readings = read_all(files)
    assert [len(reading.errors) for reading in readings] == [0, 1]
    assert readings[1].errors[0].line == 12
    words = f"takes port 80/TCP of the node, as does {files[0]}:12; the kubelet admits one: change one."
    assert readings[1].errors[0].words == words
    with pytest.raises(InputError, match=r"a\.yaml and b\.yaml both take port 80/TCP of the node: .*Change one"):
        refuse_clashes([load(file) for file in files])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("containerPort: 80", "containerPort: 81"),
        ("containerPort: 80", "containerPort: 80, protocol: UDP"),
        ("containerPort: 80, hostIP: 10.0.2.15", "containerPort: 80, hostIP: 127.0.0.1"),
    ],
)
def test_ports_that_differ_clash_with_none(tmp_path: Path, first: str, second: str) -> None:
    files = [_write(tmp_path, f"{name}.yaml", _serving(name, port)) for name, port in (("a", first), ("b", second))]
    assert not any(reading.errors for reading in read_all(files))
    refuse_clashes([load(file) for file in files])


def test_a_port_without_the_hosts_network_is_the_pods_own(tmp_path: Path) -> None:
    files = [_write(tmp_path, f"{name}.yaml", _serving(name, "containerPort: 80")) for name in "ab"]
    for file in files:
        file.write_text(file.read_text().replace("hostNetwork: true", "hostNetwork: false"))
    assert not any(reading.errors for reading in read_all(files))


def test_two_pods_cannot_have_one_uid(tmp_path: Path) -> None:
    pods = {name: changed("  name: small\n", f"  name: {name}\n  uid: one\n") for name in "ab"}
    files = [_write(tmp_path, f"{name}.yaml", pod) for name, pod in pods.items()]
    (error,) = read_all(files)[1].errors
    assert (error.line, error.words) == (5, f"has the uid one, as has {files[0]}; the kubelet runs one of them: take it out.")
    with pytest.raises(InputError, match="both have the uid one"):
        refuse_clashes([load(file) for file in files])


def test_a_name_of_two_lines_is_shown_in_one(tmp_path: Path) -> None:
    file = _write(tmp_path, "a\nb.yaml: ok", "")
    assert "\n" not in read(file).errors[0].at(file)


def test_a_stdin_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert _only_error(Path("-")) == "is stdin, which is closed."


def test_what_holds_no_pod_clashes_with_nothing(tmp_path: Path) -> None:
    files = [_write(tmp_path, f"{name}.yaml", "metadata: {namespace: [a]}\n") for name in "ab"]
    assert not any("is the pod" in finding.words for reading in read_all(files) for finding in reading.findings)


# Pieces that meet each other where a manifest has its joints.
_PIECES = st.one_of(
    st.sampled_from(
        [*POD.splitlines(keepends=True), *"{}[],:-?&*!|>'\"%@`#\n\t ", "<<: ", "- ", "&a ", "*a", "---\n", "~", "8250", "yes"]
    ),
    st.text(max_size=4),
)
_TEXTS = st.one_of(
    st.lists(_PIECES, max_size=30).map("".join),
    st.builds(
        lambda at, length, piece: POD[:at] + piece + POD[at + length :],
        st.integers(0, len(POD)),
        st.integers(0, 40),
        _PIECES,
    ),
)


@settings(deadline=None)
@given(data=st.one_of(st.binary(max_size=200), _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_whatever_a_file_holds_there_is_a_pod_or_a_reason(data: bytes) -> None:
    reading = check(Path("pod.yaml"), data)
    last = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
    assert all(1 <= finding.line <= last and "\n" not in finding.words for finding in reading.findings)
    if reading.errors:
        with pytest.raises(HarnessError):
            reading.manifest()
    else:
        assert reading.manifest()["kind"] == "Pod"


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["a", "v1", "Pod"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([name for of in fields.types().values() for name in of]), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(metadata=_VALUES, spec=_VALUES)
def test_whatever_stands_in_the_fields_there_is_a_pod_or_a_reason(metadata: object, spec: object) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    reading = check(Path("pod.yaml"), json.dumps(pod).encode())
    assert reading.errors or reading.manifest()["spec"]["containers"]


def test_the_node_pod_is_read_in_20_ms() -> None:
    data = NODE.read_bytes()
    check(NODE, data)
    best = min(_seconds_to_check(data) for _ in range(5))
    assert best < 0.02


def _seconds_to_check(data: bytes) -> float:
    began = time.process_time()
    check(NODE, data).manifest()
    return time.process_time() - began


def test_the_document_is_that_of_the_file() -> None:
    assert read(NODE).root == yaml_reader.parse(NODE.read_bytes()).root
