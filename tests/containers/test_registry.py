"""The registry, asked over HTTP as a node asks it, with archives of the image builder and ones made by hand."""

import contextlib
import hashlib
import http.client
import io
import json
import socket
import tarfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.containers.archive import ArchivedImage
from harness.containers.registry import Registry, Request
from harness.errors import InputError
from images import archive, oci

_ADDRESS = "198.51.100.1:5000"

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


def serve(*archives: Path) -> contextlib.AbstractContextManager[Registry]:
    """A registry of all images of the archives."""
    return Registry.serve(image for file in archives for image in ArchivedImage.of(file, archive.describe(file)))


@pytest.fixture
def built(tmp_path: Path) -> oci.Built:
    """An image with an archive, `image.tar`."""
    return build(tmp_path, _NAME)


@pytest.fixture
def registry(built: oci.Built, tmp_path: Path) -> Iterator[Registry]:
    """A registry of that archive."""
    with serve(tmp_path / "image.tar") as registry:
        yield registry


Answer = tuple[int, Mapping[str, str], bytes]


def ask(registry: Registry, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=5)
    try:
        connection.request(method, path, headers=dict(headers or {}))
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


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_it_says_that_it_is_a_registry(registry: Registry, path: str) -> None:
    assert ask(registry, path)[0] == 200


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
    with serve(tmp_path / "image.tar", tmp_path / "other/image.tar") as registry:
        assert ask(registry, f"/v2/docker.io/emilyls/other/blobs/{other.layer.digest}")[0] == 200
        assert ask(registry, f"{_BASE}/blobs/{other.layer.digest}")[0] == 404


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_nothing_can_be_pushed(registry: Registry, method: str) -> None:
    status, headers, content = ask(registry, f"{_BASE}/blobs/uploads/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(content)["errors"][0]["code"] == "UNSUPPORTED"


def describe(blob: bytes, **more: Any) -> dict[str, Any]:
    return {"digest": "sha256:" + hashlib.sha256(blob).hexdigest(), "size": len(blob), **more}


def test_an_index_leads_to_the_nodes_image_and_no_other(tmp_path: Path, built: oci.Built) -> None:
    manifest = json.dumps({key: value for key, value in json.loads(built.manifest.data).items() if key != "mediaType"}).encode()
    other = b'{"layers": []}'
    children = [describe(other, platform={"os": "windows", "architecture": "amd64"}), describe(manifest)]
    index = json.dumps({"manifests": children}).encode()
    top = json.dumps({"manifests": [describe(index, annotations={_REF_NAME: _NAME})]}).encode()
    files = {"./index.json": top}
    for blob in (index, manifest, other, built.config.data, built.layer.data):
        files["./blobs/" + describe(blob)["digest"].replace(":", "/")] = blob
    with tarfile.open(tmp_path / "index.tar", "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with serve(tmp_path / "index.tar") as registry:
        # What names no media type gets one by its shape.
        assert ask(registry, f"{_BASE}/manifests/v1")[1]["Content-Type"] == _INDEX
        assert ask(registry, f"{_BASE}/manifests/{describe(manifest)['digest']}")[1]["Content-Type"] == _MANIFEST
        assert ask(registry, f"{_BASE}/blobs/{built.layer.digest}")[2] == built.layer.data
        for kind in ("manifests", "blobs"):
            assert ask(registry, f"{_BASE}/{kind}/{describe(other)['digest']}")[0] == 404


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-3", 0, 3), ("5-", 5, None), ("-4", -4, None), ("0-99999999", 0, None), ("-99999999", 0, None), ("2-2", 2, 2)],
)
def test_a_part_of_a_blob_is_given(registry: Registry, built: oci.Built, asked: str, first: int, last: int | None) -> None:
    data = built.layer.data
    wanted = data[first:] if last is None else data[first : last + 1]
    status, headers, content = ask(registry, f"{_BASE}/blobs/{built.layer.digest}", headers={"Range": f"bytes={asked}"})
    begin = len(data) - len(wanted) if last is None else first
    assert (status, content, headers["Content-Length"]) == (206, wanted, str(len(wanted)))
    assert headers["Content-Range"] == f"bytes {begin}-{begin + len(wanted) - 1}/{len(data)}"


@pytest.mark.parametrize("asked", ["99999999-", "-0", "99999999-999999999"])
def test_a_part_that_is_not_there_is_refused(registry: Registry, built: oci.Built, asked: str) -> None:
    status, headers, _ = ask(registry, f"{_BASE}/blobs/{built.layer.digest}", headers={"Range": f"bytes={asked}"})
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(built.layer.data)}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,3-4"},
        {"Range": "bytes=4-1"},
        {"Range": "bytes=-"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=" + "9" * 30 + "-"},
        {"Range": "bytes=0-1", "If-Range": '"x"'},
    ],
    ids=lambda headers: str(headers["Range"])[:20],
)
def test_a_range_that_is_not_understood_is_the_whole(registry: Registry, built: oci.Built, headers: dict[str, str]) -> None:
    assert ask(registry, f"{_BASE}/blobs/{built.layer.digest}", headers=headers)[::2] == (200, built.layer.data)


def test_head_knows_no_ranges(registry: Registry, built: oci.Built) -> None:
    status, headers, _ = ask(registry, f"{_BASE}/blobs/{built.layer.digest}", "HEAD", {"Range": "bytes=0-1"})
    assert (status, headers["Content-Length"]) == (200, str(len(built.layer.data)))
    assert headers["Accept-Ranges"] == "bytes"


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
    """Of the registry's threads."""
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name or thread.name == "registry"]


def test_a_client_that_goes_away_leaves_no_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = build(tmp_path, _NAME, bytes(32 << 20))
    with serve(tmp_path / "image.tar") as registry:
        with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as client:
            client.sendall(f"GET {_BASE}/blobs/{built.layer.digest} HTTP/1.0\r\n\r\n".encode())
            client.recv(1)
        assert ask(registry, "/v2/")[0] == 200
    assert_no_thread_left()
    assert capfd.readouterr().err == ""


def test_a_registry_ends_with_its_block(tmp_path: Path, built: oci.Built) -> None:
    with serve(tmp_path / "image.tar") as registry:
        port = registry.port
        ask(registry, "/v2/")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert_no_thread_left()


def test_clients_that_wait_do_not_outlive_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = build(tmp_path, _NAME, bytes(32 << 20))
    with contextlib.ExitStack() as clients, serve(tmp_path / "image.tar") as registry:
        whole = f"GET {_BASE}/blobs/{built.layer.digest} HTTP/1.0\r\n\r\n".encode()
        for said in (b"", b"GET /v2/", whole):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", registry.port), timeout=5))
            client.sendall(said)
            if said == whole:
                client.recv(1)
    assert_no_thread_left()
    assert capfd.readouterr().err == ""


def test_clients_that_are_too_many_are_cut_off(registry: Registry) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(64):
            clients.enter_context(socket.create_connection(("127.0.0.1", registry.port), timeout=5))
        with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as client:
            assert client.recv(1) == b""
    wait = time.monotonic() + 5
    while time.monotonic() < wait:
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert ask(registry, "/v2/")[0] == 200
            return
    raise AssertionError("it does not answer again")


def test_two_images_of_one_name_are_not_served(tmp_path: Path) -> None:
    for folder, content in (("one", b"1"), ("two", b"2")):
        build(tmp_path / folder, _NAME, content)
    archives = [tmp_path / "one/image.tar", tmp_path / "two/image.tar"]
    with (
        pytest.raises(InputError, match=r"two/image\.tar and .*one/image\.tar hold different images"),
        serve(*archives),
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
    with serve(tmp_path / "image.tar") as registry:
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
    with pytest.raises(InputError, match="is no prefix of names of images"):
        registry.configuration(_ADDRESS, [prefix])
