"""The registry, asked over HTTP as a node asks it, with archives of the image builder and ones made by hand."""

import contextlib
import hashlib
import http.client
import io
import json
import socket
import tarfile
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.containers.registry import Registry, Request
from harness.errors import HarnessError
from images import oci

_ADDRESS = "10.0.2.100:5000"

_NAME = "docker.io/emilyls/tinycat:v1"
_BASE = "/v2/docker.io/emilyls/tinycat"
_REF_NAME = "org.opencontainers.image.ref.name"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


def build(folder: Path, name: str, content: bytes = b"content") -> oci.Built:
    """An image of one file, and `image.tar`, its archive, beside it in `folder`."""
    (folder / "root").mkdir(parents=True)
    (folder / "root/file").write_bytes(content)
    built = oci.build(oci.Image(name, ["/file"]), folder / "root")
    oci.write_archive(built, folder / "image.tar")
    return built


def write_archive(path: Path, index: Sequence[Mapping[str, Any]], blobs: Sequence[bytes], under: str = "") -> Path:
    """An archive with these descriptors in its index; the names in the tar begin with `under`."""
    files = {"index.json": json.dumps({"manifests": index}).encode()}
    files.update({f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in blobs})
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(under + name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def describe(blob: bytes, **more: Any) -> dict[str, Any]:
    return {"digest": "sha256:" + hashlib.sha256(blob).hexdigest(), "size": len(blob), **more}


@pytest.fixture
def built(tmp_path: Path) -> oci.Built:
    """An image with an archive, `image.tar`."""
    return build(tmp_path, _NAME)


@pytest.fixture
def registry(built: oci.Built, tmp_path: Path) -> Iterator[Registry]:
    """A registry of that archive."""
    with Registry.serve([tmp_path / "image.tar"]) as registry:
        yield registry


Answer = tuple[int, Mapping[str, str], bytes]


def ask(registry: Registry, path: str, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def ask_raw(registry: Registry, line: str) -> bytes:
    """All that comes back until the end of the connection."""
    with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as client:
        client.sendall(f"{line}\r\n\r\n".encode())
        with client.makefile("rb") as answer:
            return answer.read()


def test_it_says_that_it_is_a_registry(registry: Registry) -> None:
    assert ask(registry, "/v2/")[0] == 200


def test_an_image_is_pulled_by_its_tag(registry: Registry, built: oci.Built) -> None:
    status, headers, manifest = ask(registry, f"{_BASE}/manifests/v1")
    assert (status, manifest) == (200, built.manifest.data)
    assert headers["Content-Type"] == _MANIFEST
    assert headers["Docker-Content-Digest"] == built.manifest.digest
    for blob in (built.config, built.layer):
        status, headers, content = ask(registry, f"{_BASE}/blobs/{blob.digest}")
        assert (status, content) == (200, blob.data)
        assert headers["Content-Length"] == str(len(blob.data))


def test_an_image_is_pulled_by_its_digest(registry: Registry, built: oci.Built) -> None:
    status, headers, manifest = ask(registry, f"{_BASE}/manifests/{built.manifest.digest}")
    assert (status, headers["Content-Type"], manifest) == (200, _MANIFEST, built.manifest.data)


@pytest.mark.parametrize("what", ["manifests/v1", "manifests/DIGEST", "blobs/LAYER"])
def test_head_tells_the_size_and_no_more(registry: Registry, built: oci.Built, what: str) -> None:
    path = f"{_BASE}/{what}".replace("DIGEST", built.manifest.digest).replace("LAYER", built.layer.digest)
    head, _, body = ask_raw(registry, f"HEAD {path} HTTP/1.1").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ")
    assert f"\r\nContent-Length: {len(ask(registry, path)[2])}\r\n".encode() in head
    assert body == b""


@pytest.mark.parametrize("path", ["/v2/", f"{_BASE}/manifests/none"])
def test_an_answer_of_its_own_is_told_by_head_too(registry: Registry, path: str) -> None:
    head, _, body = ask_raw(registry, f"HEAD {path} HTTP/1.1").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 ")
    assert body == b""


def test_a_path_may_be_quoted_and_have_a_query(registry: Registry, built: oci.Built) -> None:
    assert ask(registry, f"{_BASE}/manifests/v1?ns=docker.io")[0] == 200
    assert ask(registry, f"{_BASE}/blobs/{built.layer.digest.replace(':', '%3A')}")[2] == built.layer.data


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{_BASE}/manifests/v2", "MANIFEST_UNKNOWN"),
        (f"{_BASE}/manifests/sha256:{'0' * 64}", "MANIFEST_UNKNOWN"),
        (f"{_BASE}/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
        ("/v2/docker.io/emilyls/other/manifests/v1", "MANIFEST_UNKNOWN"),
        ("/v2/emilyls/tinycat/manifests/v1", "MANIFEST_UNKNOWN"),
        (f"{_BASE}/tags/list", "NAME_UNKNOWN"),
        ("/", "NAME_UNKNOWN"),
        (f"{_BASE}/../../../etc/passwd", "NAME_UNKNOWN"),
    ],
)
def test_what_is_not_there_is_not_found(registry: Registry, path: str, code: str) -> None:
    status, headers, content = ask(registry, path)
    assert (status, json.loads(content)["errors"][0]["code"]) == (404, code)
    assert headers["Content-Type"] == "application/json"
    assert ask(registry, path, "HEAD")[::2] == (404, b"")


def test_a_blob_belongs_to_its_repository(tmp_path: Path, built: oci.Built) -> None:
    other = build(tmp_path / "other", "docker.io/emilyls/other:v1", b"other")
    with Registry.serve([tmp_path / "image.tar", tmp_path / "other/image.tar"]) as registry:
        assert ask(registry, f"/v2/docker.io/emilyls/other/blobs/{other.layer.digest}")[0] == 200
        assert ask(registry, f"{_BASE}/blobs/{other.layer.digest}")[0] == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_nothing_can_be_pushed(registry: Registry, method: str) -> None:
    status, headers, content = ask(registry, f"{_BASE}/blobs/uploads/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(content)["errors"][0]["code"] == "UNSUPPORTED"


def test_a_manifest_without_a_media_type_gets_one_by_its_shape(tmp_path: Path) -> None:
    manifest, docker = b'{"layers": []}', b'{"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
    absent = describe(b"of another platform")
    index = json.dumps({"manifests": [describe(manifest), describe(docker), absent]}).encode()
    descriptor = describe(index, annotations={_REF_NAME: "v1", "io.containerd.image.name": _NAME})
    archive = write_archive(tmp_path / "image.tar", [descriptor], [index, manifest, docker], under="./")
    with Registry.serve([archive]) as registry:
        assert ask(registry, f"{_BASE}/manifests/v1")[1]["Content-Type"] == _INDEX
        types = [
            ask(registry, f"{_BASE}/manifests/{describe(blob)['digest']}")[1]["Content-Type"] for blob in (manifest, docker)
        ]
        assert types == [_MANIFEST, json.loads(docker)["mediaType"]]
        assert ask(registry, f"{_BASE}/manifests/{absent['digest']}")[0] == 404


def test_an_empty_blob_is_served(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = b"{}"
    archive = write_archive(tmp_path / "a.tar", [describe(manifest, annotations={_REF_NAME: _NAME})], [manifest, b""])
    with Registry.serve([archive]) as registry:
        status, headers, content = ask(registry, f"{_BASE}/blobs/{describe(b'')['digest']}")
        assert (status, headers["Content-Length"], content) == (200, "0", b"")
    assert_no_thread_left()
    assert capfd.readouterr().err == ""


def test_every_request_is_remembered_and_none_is_printed(
    registry: Registry, capfd: pytest.CaptureFixture[str], built: oci.Built
) -> None:
    ask(registry, "/v2/")
    ask(registry, f"{_BASE}/manifests/none?ns=docker.io", "HEAD")
    ask(registry, f"{_BASE}/blobs/uploads/", "POST")
    assert registry.requests == (
        Request("GET", "/v2/", 200),
        Request("HEAD", f"{_BASE}/manifests/none?ns=docker.io", 404),
        Request("POST", f"{_BASE}/blobs/uploads/", 405),
    )
    assert capfd.readouterr() == ("", "")


def test_a_client_that_tries_tls_is_told_at_once(registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as client:
        client.sendall(b"\x16\x03\x01\x00\x05hello")  # no end of line: as HTTP it would be half a request
        with contextlib.suppress(ConnectionResetError):  # that tells it too
            assert client.recv(1) == b""
    assert ask(registry, "/v2/")[0] == 200
    assert capfd.readouterr().err == ""


def assert_no_thread_left() -> None:
    """Of the registry's threads: those that answer end when they have."""
    for thread in threading.enumerate():
        if "process_request" in thread.name:
            thread.join(5)
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name or thread.name == "registry"]


def test_a_client_that_goes_away_leaves_no_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = build(tmp_path, _NAME, bytes(32 << 20))
    with Registry.serve([tmp_path / "image.tar"]) as registry:
        with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as client:
            client.sendall(f"GET {_BASE}/blobs/{built.layer.digest} HTTP/1.0\r\n\r\n".encode())
            client.recv(1)
        assert ask(registry, "/v2/")[0] == 200
    assert_no_thread_left()
    assert capfd.readouterr().err == ""


def test_a_registry_ends_with_its_block(tmp_path: Path, built: oci.Built) -> None:
    with Registry.serve([tmp_path / "image.tar"]) as registry:
        port = registry.port
        ask(registry, "/v2/")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert_no_thread_left()


def write_unnamed(path: Path, name: str) -> None:
    write_archive(path, [describe(b"{}", annotations={_REF_NAME: name})], [b"{}"])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "FileNotFoundError"),
        (lambda path: path.write_bytes(b"none" * 999), "ReadError"),
        (lambda path: path.write_bytes(path.read_bytes()[:4000]), "is no OCI archive"),
        (lambda path: write_archive(path, [describe(b"{}", annotations={_REF_NAME: _NAME})], []), "KeyError"),
        (lambda path: write_unnamed(path, "v1"), "names its image 'v1', not in full"),
        (lambda path: write_unnamed(path, "docker.io/UPPER:v1"), "is no name of a container image"),
    ],
    ids=["absent", "no tar", "half", "no manifest", "only a tag", "no name"],
)
def test_what_is_no_archive_is_named(tmp_path: Path, built: oci.Built, damage: Any, says: str) -> None:
    damage(tmp_path / "image.tar")
    with pytest.raises(HarnessError, match=says), Registry.serve([tmp_path / "image.tar"]):
        pass


def test_two_images_of_one_name_are_not_served(tmp_path: Path) -> None:
    for folder, content in (("one", b"1"), ("two", b"2")):
        build(tmp_path / folder, _NAME, content)
    archives = [tmp_path / "one/image.tar", tmp_path / "two/image.tar"]
    with (
        pytest.raises(HarnessError, match=r"two/image\.tar and .*one/image\.tar hold different images"),
        Registry.serve(archives),
    ):
        pass


def pull(registry: Registry, configuration: Mapping[str, Any], name: str) -> Answer:
    """Asks for the manifest that a node would ask for: containers-registries.conf(5), "Choosing a [[registry]] TOML table".

    The longest prefix counts that is followed by a separator; what is behind it goes behind the location.
    """
    fitting = [table for table in configuration["registry"] if name.startswith(table["prefix"])]
    fitting = [table for table in fitting if name[len(table["prefix"]) :][:1] in ("/", ":", "@")]
    table = max(fitting, key=lambda table: len(table["prefix"]))
    assert table["insecure"] is True
    moved = table["location"] + name[len(table["prefix"]) :]
    host, _, path = moved.partition("/")
    assert host == f"{_ADDRESS}"
    repository, separator, version = path.rpartition("@") if "@" in path else path.rpartition(":")
    assert separator
    assert ":" not in repository
    return ask(registry, f"/v2/{repository}/manifests/{version}")


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        (_NAME, ["docker.io/emilyls"]),
        (_NAME, ["docker.io"]),
        (_NAME, ["docker.io/emilyls/tinycat"]),
        (_NAME, ["docker.io", "docker.io/emilyls", "docker.io/emi"]),
        ("localhost/kios-e2e/console:v1", ["localhost/kios-e2e"]),
        ("registry.k8s.io/pause:3.6", ["registry.k8s.io"]),
        ("docker.io/library/busybox:1", ["docker.io"]),
        ("localhost:5000/kios-e2e/a:v1", ["localhost:5000"]),
    ],
)
def test_a_node_is_led_to_the_image_that_it_asks_for(tmp_path: Path, name: str, prefixes: Sequence[str]) -> None:
    built = build(tmp_path, name)
    with Registry.serve([tmp_path / "image.tar"]) as registry:
        configuration = tomllib.loads(registry.configuration(_ADDRESS, prefixes).decode())
        assert [table["prefix"] for table in configuration["registry"]] == prefixes
        assert pull(registry, configuration, name)[2] == built.manifest.data
        digested = f"{name.rpartition(':')[0]}@{built.manifest.digest}"
        assert pull(registry, configuration, digested)[2] == built.manifest.data


def test_a_node_looks_nowhere_else(registry: Registry) -> None:
    (table,) = tomllib.loads(registry.configuration(_ADDRESS, ["docker.io/emilyls"]).decode())["registry"]
    assert set(table) == {"prefix", "location", "insecure"}
    assert table["location"] == f"{_ADDRESS}/docker.io/emilyls"


def test_no_prefix_is_configured_twice(registry: Registry) -> None:
    assert registry.configuration(_ADDRESS, ["docker.io", "docker.io"]) == registry.configuration(_ADDRESS, ["docker.io"])


@pytest.mark.parametrize(
    "prefix", ["", "https://docker.io", "docker.io/emilyls/tinycat:v1", 'a"b', "*.io", "docker.io/", "a\nb"]
)
def test_a_prefix_that_is_none_is_refused(registry: Registry, prefix: str) -> None:
    with pytest.raises(HarnessError, match="is no prefix of names of images"):
        registry.configuration(_ADDRESS, [prefix])
