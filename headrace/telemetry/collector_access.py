"""What a collector is reached with: its address, certificates and headers; files are watched.

Headers leave the machine in clear text only where the settings accept it by name.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final

import structlog

from headrace.runtime.errors import StartError
from headrace.runtime.listening import is_loopback
from headrace.runtime.tls_files import KeyPair, ReloadedFiles, read_authorities, read_key_pair
from headrace.telemetry.collector_address import CollectorAddress
from headrace.telemetry.collector_headers import CollectorHeaders
from headrace.telemetry.settings import CollectorTlsSettings, TracingSettings

_log = structlog.get_logger(__name__)
_SOURCE: Final = "telemetry.tracing.headers (or OTEL_EXPORTER_OTLP_HEADERS)"
_MAX_FILE_BYTES: Final = 65_536
"""Far more than collectors take: gRPC's own bound for all headers of a call is 16 KiB."""
_OPEN: Final = "telemetry.tracing.headers_in_clear_text"


@dataclass(frozen=True, slots=True)
class CollectorTls:
    """What the collector is checked by, and what it is shown; PEM."""

    authorities: bytes | None
    """None for those that gRPC brings along."""
    pair: KeyPair | None


class CollectorAccess:
    """The newest good state of everything; costs a stat a file: ask once a batch."""

    def __init__(self, settings: TracingSettings) -> None:
        """Of settings with an endpoint. Raises StartError for what cannot be used or sent."""
        self.address = CollectorAddress.parse(settings.endpoint)
        self.compression = settings.compression
        self._tls = _tls_files(settings.tls) if self.address.uses_tls else None
        self._header_file = _header_file(settings.headers_file)
        self._headers = CollectorHeaders()
        if self._header_file is None and settings.headers is not None:
            text = settings.headers.get_secret_value()
            self._headers = CollectorHeaders.parse(text, _SOURCE)
        if self.headers().metadata:
            _check_clear_text(self.address, is_accepted=settings.headers_in_clear_text)

    def headers(self) -> CollectorHeaders:
        """What a call that begins now carries."""
        return self._headers if self._header_file is None else self._header_file.current()

    def tls(self) -> CollectorTls | None:
        """What a connection that begins now uses, the same object until it changes; None: clear."""
        return None if self._tls is None else self._tls.current()


def _check_clear_text(address: CollectorAddress, *, is_accepted: bool) -> None:
    if address.uses_tls or is_loopback(address.host):
        return
    if not is_accepted:
        raise StartError(
            f"telemetry.tracing has headers for the collector at {address.target}, and others "
            f"could read them along: use an https:// endpoint, or accept it with {_OPEN}"
        )
    _log.warning("headers_in_clear_text", collector=address.target, remedy="use https://")


def _header_file(file: Path | None) -> ReloadedFiles[CollectorHeaders] | None:
    if file is None:
        return None

    def load() -> CollectorHeaders:
        name = f"headers file {file}"
        try:
            _require_small_file(file, name)
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise StartError(f"{name} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise StartError(f"{name} is not UTF-8") from None
        return CollectorHeaders.parse(text, name)

    return ReloadedFiles([file], load, "collector_headers")


def _require_small_file(file: Path, name: str) -> None:
    """Raise StartError for what reading would wait for, or take the memory of the process."""
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise StartError(f"{name} is not a regular file")
    if status.st_size > _MAX_FILE_BYTES:
        raise StartError(f"{name} has {status.st_size} bytes; at most {_MAX_FILE_BYTES} are read")


def _tls_files(settings: CollectorTlsSettings) -> ReloadedFiles[CollectorTls]:
    ca, certificate, key = settings.ca_file, settings.certificate_file, settings.key_file

    def load() -> CollectorTls:
        pair = None
        if certificate is not None and key is not None:
            pair = read_key_pair(certificate, key)
        return CollectorTls(_system_roots() if ca is None else read_authorities(ca), pair)

    return ReloadedFiles([file for file in (ca, certificate, key) if file is not None], load)


def _system_roots() -> bytes | None:
    """The system's certificates, as OpenSSL finds them."""
    file = ssl.get_default_verify_paths().cafile
    return None if file is None else Path(file).read_bytes()
