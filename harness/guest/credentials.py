"""The keys to one node, made for it and trusted by nothing else: for the kubelet's API and for SSH."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.guest import kubelet_config
from harness.storage.overlay import File, Tree

KUBELET_CONFIG = PurePosixPath("/meta/etc/kubernetes/config.yaml")
_CLIENT_CA = PurePosixPath("/meta/etc/kubernetes/kios-e2e-ca.pem")
# Where the harness's console pod finds its token (images' console.c).
_TOKEN = PurePosixPath("/meta/etc/kios-e2e/token")
# /etc/kios-e2e/ssh on the node, for a pod that runs sshd.
_SSH = PurePosixPath("/meta/etc/kios-e2e/ssh")


@dataclass(frozen=True)
class Credentials:
    """A folder with an authority's certificate, a client certificate, two SSH keys (the node's and the user's), and a token."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Credentials":
        """Makes all of them; the authority's key is not kept."""
        # Imported here, because cryptography takes longer to import than pytest takes to collect the scenarios.
        import trustme
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        made = cls(folder)
        authority = trustme.CA(organization_name="kios-e2e")
        authority.cert_pem.write_to_path(str(folder / "kubelet-ca.pem"))
        made.client.touch(mode=0o600)
        issued = authority.issue_cert("kios-e2e.invalid", common_name="kios-e2e")
        issued.private_key_and_cert_chain_pem.write_to_path(str(made.client))
        made._token_file.touch(mode=0o600)
        made._token_file.write_text(secrets.token_hex(16))
        for private in (made.ssh_host, made.ssh_user):
            key = Ed25519PrivateKey.generate()
            private.touch(mode=0o600)
            private.write_bytes(
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
            )
            public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            _public(private).write_bytes(public + b"\n")
        return made

    @property
    def authority(self) -> bytes:
        """The authority's certificate, as PEM."""
        return (self.folder / "kubelet-ca.pem").read_bytes()

    @property
    def client(self) -> Path:
        """A PEM file with the key and certificate that the kubelet's API accepts."""
        return self.folder / "kubelet-client.pem"

    @property
    def token(self) -> str:
        """The secret by which the harness and its console pod recognise each other, in hexadecimal digits."""
        return self._token_file.read_text()

    def all_files(self) -> Sequence[Path]:
        """All files of the folder, to copy them to another one."""
        pairs = [file for private in (self.ssh_host, self.ssh_user) for file in (private, _public(private))]
        return [self.folder / "kubelet-ca.pem", self.client, self._token_file, *pairs]

    @property
    def _token_file(self) -> Path:
        return self.folder / "token"

    @property
    def ssh_host(self) -> Path:
        """The private key by which the node identifies itself."""
        return self.folder / "ssh-host"

    @property
    def ssh_user(self) -> Path:
        """The private key that a node's sshd accepts for root."""
        return self.folder / "ssh-user"

    def files(
        self,
        shipped: bytes | None,
        file: Callable[[PurePosixPath], bytes | None] = lambda _: None,
        manifests: PurePosixPath | None = None,
    ) -> Tree:
        """The files for the data partition that make the kubelet and an sshd accept these keys.

        `shipped` is the kubelet's configuration that the image has, None if it has none; the rest of it is kept. For `file`,
        `manifests` and the errors see `kubelet_config.trusting`.
        """
        bundle = PurePosixPath("/etc/kubernetes") / _CLIENT_CA.name
        made = kubelet_config.trusting(shipped, bundle, self.authority, file, manifests)
        return {
            KUBELET_CONFIG: made.config,
            _CLIENT_CA: made.bundle,
            _TOKEN: File(self.token.encode(), mode=0o600),
            _SSH / "authorized": _public(self.ssh_user).read_bytes(),
            _SSH / "host": File(self.ssh_host.read_bytes(), mode=0o600),
        }


def _public(private: Path) -> Path:
    return private.with_name(f"{private.name}.pub")
