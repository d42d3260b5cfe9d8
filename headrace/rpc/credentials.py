"""TLS and mutual TLS of gRPC servers and channels, from files that are read again when they change.

A running connection keeps what it began with. A server takes the newest files at each handshake; a
client takes them when it connects anew. TLS 1.2 and later: gRPC speaks nothing older.
"""

from copy import copy
from dataclasses import dataclass
from pathlib import Path

import grpc

from headrace.rpc.bearer import OwnKey
from headrace.rpc.limits import CHANNEL_OPTIONS
from headrace.runtime.tls_files import KeyPair, ReloadedFiles, read_authorities, read_key_pair
from headrace.runtime.tls_settings import ClientTlsSettings, ServerTlsSettings


def server_credentials(settings: ServerTlsSettings) -> grpc.ServerCredentials | None:
    """What `add_secure_port` takes; None without TLS. Raises StartError for unusable files."""
    certificate, key, authorities = (
        settings.certificate_file,
        settings.key_file,
        settings.client_ca_file,
    )
    if certificate is None or key is None:
        return None

    def load() -> grpc.ServerCertificateConfiguration:
        pair = read_key_pair(certificate, key)
        roots = None if authorities is None else read_authorities(authorities)
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificates)], roots)

    files = ReloadedFiles(_given(certificate, key, authorities), load)
    begun = files.current()
    taken = begun

    def newest() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC in a thread of its own before each handshake; None = no change."""
        nonlocal taken
        current = files.current()
        if current is taken:
            return None
        taken = current
        return current

    return grpc.dynamic_ssl_server_credentials(
        begun, newest, require_client_authentication=settings.checks_clients
    )


@dataclass(frozen=True, slots=True)
class _Material:
    """What a client checks by, and what it shows."""

    authorities: bytes
    pair: KeyPair | None


class PeerCredentials:
    """How channels to peers are opened; without settings, in clear.

    One object serves all channels of a process. Raises StartError for unusable files.
    """

    def __init__(
        self, settings: ClientTlsSettings | None = None, own_key: OwnKey | None = None
    ) -> None:
        self.own_key = own_key or OwnKey()
        """What is shown with every call."""
        self._settings = settings or ClientTlsSettings()
        self._files = _client_files(self._settings)
        self._name = self._settings.server_name

    def named(self, host: str) -> "PeerCredentials":
        """The same, for a peer whose address stands for a name: its certificate bears the name."""
        named = copy(self)
        named._name = self._settings.server_name or host  # noqa: SLF001 (of this class)
        return named

    @property
    def uses_tls(self) -> bool:
        """Whether peers must speak TLS."""
        return self._files is not None

    def newest(self) -> object:
        """Another object than before once a new channel would use other files."""
        return None if self._files is None else self._files.current()

    def open_channel(
        self, address: str, options: tuple[tuple[str, int], ...] = CHANNEL_OPTIONS
    ) -> grpc.aio.Channel:
        """A channel by the newest files; it connects when it is used."""
        if self._files is None:
            return grpc.aio.insecure_channel(address, options=options)
        material = self._files.current()
        pair = material.pair
        credentials = grpc.ssl_channel_credentials(
            material.authorities,
            None if pair is None else pair.key,
            None if pair is None else pair.certificates,
        )
        name = self._name
        named = () if name is None else (("grpc.ssl_target_name_override", name),)
        return grpc.aio.secure_channel(address, credentials, options=(*options, *named))

    def explain(self, why: str) -> str:
        """A failed connection's reason, told in TLS's terms where it is known to be TLS's."""
        problem = next((text for mark, text in self._problems() if mark in why), None)
        return why if problem is None else f"{problem} ({why})"

    def _problems(self) -> tuple[tuple[str, str], ...]:
        """What gRPC's core writes, and what it means; the first that is found holds."""
        if not self.uses_tls:
            return tuple((mark, _CLOSED_IN_CLEAR) for mark in _CLOSED)
        name = self._name or "the address"
        shown = _CLOSED_WITHOUT if self._settings.certificate_file is None else _CLOSED_WITH
        return (
            ("certificate has expired", "TLS: the peer's certificate has expired"),
            ("CERTIFICATE_VERIFY_FAILED", f"TLS: {self._settings.ca_file} does not know the peer"),
            ("Hostname Verification", f"TLS: the peer's certificate does not bear {name}"),
            ("WRONG_VERSION_NUMBER", "TLS: the peer does not speak it"),
            ("handshake failed", "TLS: the handshake failed"),
            *((mark, shown) for mark in _CLOSED),
        )


_CLOSED = ("Socket closed", "Connection reset", "Broken pipe")
_CLOSED_IN_CLEAR = "the peer hung up at once, as one does that wants TLS"
_CLOSED_WITHOUT = "TLS: the peer hung up, as one does that wants a client certificate"
_CLOSED_WITH = "TLS: the peer hung up, as one does that refuses the client certificate"


def _client_files(settings: ClientTlsSettings) -> ReloadedFiles[_Material] | None:
    authorities, certificate, key = settings.ca_file, settings.certificate_file, settings.key_file
    if authorities is None:
        return None

    def load() -> _Material:
        pair = None
        if certificate is not None and key is not None:
            pair = read_key_pair(certificate, key)
        return _Material(read_authorities(authorities), pair)

    return ReloadedFiles(_given(authorities, certificate, key), load)


def _given(*files: Path | None) -> list[Path]:
    return [file for file in files if file is not None]
