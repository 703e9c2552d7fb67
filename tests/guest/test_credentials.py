"""The keys to a node: made for it, in nobody else's hands, and added to what was shipped."""

import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import paramiko
import pytest
import yaml

from harness.errors import InputError
from harness.guest.credentials import KUBELET_CONFIG, Credentials
from harness.storage.overlay import Entry, File

_CA = PurePosixPath("/meta/etc/kubernetes/kios-e2e-ca.pem")


def content_of(entry: Entry) -> bytes:
    assert isinstance(entry, bytes | File)
    return entry.content if isinstance(entry, File) else entry


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.mark.parametrize("key", ["client", "ssh_host", "ssh_user"])
def test_private_keys_are_their_owners_alone(credentials: Credentials, key: str) -> None:
    file: Path = getattr(credentials, key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in file.read_bytes()


def test_of_the_private_keys_the_node_gets_its_own_only_for_root(credentials: Credentials) -> None:
    private = [entry for entry in credentials.files(None).values() if b"PRIVATE KEY" in content_of(entry)]
    assert private == [File(credentials.ssh_host.read_bytes(), mode=0o600)]


def test_who_may_come_in_by_ssh_is_the_runs_user(credentials: Credentials) -> None:
    (authorized,) = [content_of(entry) for path, entry in credentials.files(None).items() if path.name == "authorized"]
    user = paramiko.Ed25519Key.from_private_key_file(str(credentials.ssh_user))
    assert authorized.decode().split() == [user.get_name(), user.get_base64()]


def test_every_run_has_an_authority_of_its_own(credentials: Credentials, tmp_path: Path) -> None:
    assert Credentials.make(tmp_path).authority != credentials.authority


def test_the_authority_is_added_to_the_shipped_configuration_and_nothing_is_lost(credentials: Credentials) -> None:
    shipped: dict[str, Any] = {
        "kind": "KubeletConfiguration",
        "maxPods": 7,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
        "evictionHard": {"memory.available": "1Mi"},
    }
    files = credentials.files(yaml.safe_dump(shipped).encode())
    assert files[_CA] == credentials.authority
    config = yaml.safe_load(content_of(files[KUBELET_CONFIG]))
    # /meta/etc is /etc on the node
    assert config["authentication"].pop("x509") == {"clientCAFile": "/etc/kubernetes/kios-e2e-ca.pem"}
    assert config == shipped


@pytest.mark.parametrize("shipped", [None, b""])
def test_without_a_shipped_configuration_there_are_kioss_defaults(credentials: Credentials, shipped: bytes | None) -> None:
    first, again = (yaml.safe_load(content_of(credentials.files(shipped)[KUBELET_CONFIG])) for _ in range(2))
    assert first == again
    assert first["kind"] == "KubeletConfiguration"
    assert first["staticPodPath"] == "/etc/kubernetes/manifests"
    assert first["authentication"] == {
        "webhook": {"enabled": False},
        "x509": {"clientCAFile": "/etc/kubernetes/kios-e2e-ca.pem"},
    }


def test_a_shipped_configuration_without_authentication_gets_one(credentials: Credentials) -> None:
    config = yaml.safe_load(content_of(credentials.files(b"kind: KubeletConfiguration\nauthentication:\n")[KUBELET_CONFIG]))
    assert set(config) == {"kind", "authentication"}
    assert set(config["authentication"]) == {"x509"}


def test_a_configuration_that_is_none_is_named(credentials: Credentials) -> None:
    with pytest.raises(InputError, match="no kubelet configuration"):
        credentials.files(b"hello")


@pytest.mark.parametrize(
    ("shipped", "why"),
    [
        (b"kind: [\n", r"line \d"),
        ("# a\N{LINE SEPARATOR}\nkind: [\n".encode(), r"line \d: is no YAML"),
        (b"a: \xff\n", r"line \d"),
        (b"authentication: yes\n", "its field authentication is no mapping"),
        (b"authentication: {x509: text}\n", "its field x509 is no mapping"),
        (b"authentication: {x509: {clientCAFile: /etc/ca.pem}}\n", "clientCAFile /etc/ca.pem is not on the data partition"),
    ],
)
def test_a_broken_configuration_is_one_clear_error(credentials: Credentials, shipped: bytes, why: str) -> None:
    with pytest.raises(InputError, match=rf"config\.yaml on the image's data partition .*{why}"):
        credentials.files(shipped)


def test_whom_the_image_trusts_it_trusts_still(credentials: Credentials) -> None:
    shipped = b"authentication: {x509: {clientCAFile: /etc/kubernetes/ca.crt}}\n"
    theirs = {PurePosixPath("/etc/kubernetes/ca.crt"): b"--theirs--"}
    files = credentials.files(shipped, theirs.get)
    assert content_of(files[_CA]) == b"--theirs--\n" + credentials.authority
    assert yaml.safe_load(content_of(files[KUBELET_CONFIG]))["authentication"]["x509"] == {
        "clientCAFile": f"/etc/kubernetes/{_CA.name}"
    }


def test_a_configuration_says_the_same_to_the_kubelet_as_before(credentials: Credentials) -> None:
    """A text that looks like a boolean to one reader of YAML and not to another stays a text."""
    files = credentials.files(b"nodeStatusMaxImages: 0o17\nfeatureGates: {a: y}\nclusterDomain: 'y'\nother: 1:30\n")
    config = json.loads(content_of(files[KUBELET_CONFIG]))
    assert config["nodeStatusMaxImages"] == 15
    assert config["featureGates"] == {"a": True}
    assert (config["clusterDomain"], config["other"]) == ("y", "1:30")


def test_the_runs_token_is_on_the_disk_for_root_alone(credentials: Credentials) -> None:
    (token,) = [entry for path, entry in credentials.files(None).items() if path.name == "token"]
    assert token == File(credentials.token.encode(), mode=0o600)
