"""TLS of the HTTP listener: each handshake is done with the newest certificate.

A renewed certificate needs no restart: connections that run keep theirs, and a pair that is broken
or half written leaves the last good one in use. A new context is made whole before it is used; to
load files into the one in use would leave it without a key where they do not belong together.
"""

import ssl
from pathlib import Path

from edge.settings import ServerSettings
from headrace.runtime.tls_files import ReloadedFiles, server_context


def listening_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context to listen with; None for plain HTTP. Raises StartError for unusable files."""
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        return None
    return _renewing_context(certificate, key)


def _renewing_context(certificate: Path, key: Path) -> ssl.SSLContext:
    files = ReloadedFiles((certificate, key), lambda: server_context(certificate, key))
    context = server_context(certificate, key)

    def take_newest(
        connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = files.current()

    # Called at every handshake, whether the client names a host or not.
    context.sni_callback = take_newest
    return context
