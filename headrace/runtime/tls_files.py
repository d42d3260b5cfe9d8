"""Certificates, keys and authorities in PEM files: read, checked, and read again when they change.

What is in use is always a whole: files that are missing, half written or do not belong together are
named in the log, and what was read before stays until they are good again. Keys are never logged.
"""

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from headrace.runtime.errors import StartError
from headrace.runtime.file_watch import FileWatch

_log = structlog.get_logger(__name__)

# A repaired permission changes nothing that a watch sees: files at fault are tried again anyway.
_RETRY_SECONDS = 1.0
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")

LoadedT = TypeVar("LoadedT")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its private key, PEM."""

    certificates: bytes
    key: bytes

    def __repr__(self) -> str:
        """Without the key."""
        return "KeyPair(…)"


class ReloadedFiles(Generic[LoadedT]):
    """What `load` makes of some files, made again after they have changed; safe in any thread.

    `load` raises StartError for files that cannot be used. Raises it too, at first.
    """

    def __init__(
        self, files: Sequence[Path], load: Callable[[], LoadedT], subject: str = "tls_files"
    ) -> None:
        """`subject` begins the log's events of them."""
        self._subject = subject
        self._files = [str(file) for file in files]
        self._load = load
        self._lock = threading.Lock()
        # Before the first reading: what changes during it is seen.
        self._watch = FileWatch(files)
        self._problem = ""
        self._retry_at = 0.0
        self._loaded = load()

    def current(self) -> LoadedT:
        """The files' newest good state, the same object until there is a newer one. Never raises.

        Costs a stat a file: ask once a connection.
        """
        with self._lock:
            if self._watch.has_changed() or self._is_retry_due():
                self._reload()
            return self._loaded

    def _is_retry_due(self) -> bool:
        return bool(self._problem) and time.monotonic() >= self._retry_at

    def _reload(self) -> None:
        try:
            self._loaded = self._load()
        except StartError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if str(error) != self._problem:
                self._problem = str(error)
                event = f"{self._subject}_unusable"
                _log.error(event, problem=self._problem, kept="what was read before")
        else:
            self._problem = ""
            _log.info(f"{self._subject}_reloaded", files=self._files)


def read_key_pair(certificate_file: Path, key_file: Path) -> KeyPair:
    """Both files, which belong together. Raises StartError naming the file and what is wrong."""
    pair = KeyPair(_read(certificate_file), _read(key_file))
    server_context(certificate_file, key_file)
    if pair != KeyPair(_read(certificate_file), _read(key_file)):
        raise StartError(f"TLS files {certificate_file} and {key_file} change while they are read")
    return pair


def read_authorities(ca_file: Path) -> bytes:
    """The file's certificates. Raises StartError naming the file and what is wrong."""
    content = _read(ca_file)
    _require_certificate(ca_file, content)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode())
    except (ssl.SSLError, ValueError) as error:
        raise StartError(f"TLS file {ca_file} holds a broken certificate: {error}") from error
    return content


def server_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server's context, TLS 1.2 and later.

    Raises StartError naming the file and what is wrong: unreadable, not PEM, encrypted, not a pair.
    """
    _require_certificate(certificate_file, _read(certificate_file))
    key = _read(key_file)
    if _KEY not in key:
        raise StartError(f"TLS file {key_file} holds no private key in PEM")
    if any(mark in key for mark in _ENCRYPTED):
        raise StartError(f"TLS file {key_file} is encrypted, and there is nobody to ask")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Whether a client may ask for handshake after handshake is not left to OpenSSL's version.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A password that is wrong rather than a question on the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError as error:
        raise StartError(_pair_problem(certificate_file, key_file, error)) from error
    except OSError as error:
        raise StartError(
            f"TLS files {certificate_file} and {key_file} cannot be read: {error.strerror}"
        ) from error
    return context


def _pair_problem(certificate_file: Path, key_file: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"TLS file {key_file} is not the key of the certificate in {certificate_file}"
    reason = (error.reason or "damaged PEM").lower().replace("_", " ")
    return f"TLS files {certificate_file} and {key_file} cannot be used: {reason}"


def _require_certificate(file: Path, content: bytes) -> None:
    if _CERTIFICATE not in content:
        raise StartError(f"TLS file {file} holds no certificate in PEM")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartError(f"TLS file {file} cannot be read: {error.strerror}") from error
