"""Settings of TLS between services: what a server shows and demands, and what a client does.

Nothing is encrypted where no file is named. Every file is read again when it has changed.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from headrace.runtime.settings import SettingsGroup


def require_pair(certificate: Path | None, key: Path | None, prefix: str = "") -> None:
    """Raise ValueError where one of a chain and its key is named without the other.

    `prefix` is what the settings' names begin with.
    """
    if (certificate is None) != (key is None):
        raise ValueError(f"{prefix}certificate_file and {prefix}key_file must be set together")


class ServerTlsSettings(SettingsGroup):
    """TLS of a gRPC server."""

    certificate_file: Path | None = None
    """PEM file with the certificate chain; unset = no TLS."""
    key_file: Path | None = None
    """PEM file with the certificate's private key, not encrypted."""
    client_ca_file: Path | None = None
    """PEM file with the authorities whose clients are let in; unset = any client."""

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        require_pair(self.certificate_file, self.key_file)
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        return self

    @property
    def is_on(self) -> bool:
        """Whether clients must speak TLS."""
        return self.certificate_file is not None

    @property
    def checks_clients(self) -> bool:
        """Whether clients must show a certificate: mutual TLS."""
        return self.client_ca_file is not None


class ClientTlsSettings(SettingsGroup):
    """TLS of connections to gRPC servers."""

    ca_file: Path | None = None
    """PEM file with the authorities that servers' certificates must come from; unset = no TLS."""
    certificate_file: Path | None = None
    """PEM file with the certificate chain shown to servers; unset = none is shown."""
    key_file: Path | None = None
    """PEM file with that certificate's private key, not encrypted."""
    server_name: str | None = Field(default=None, min_length=1)
    """Name that servers' certificates must bear; unset = the host of each address."""

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        require_pair(self.certificate_file, self.key_file)
        for name in ("certificate_file", "server_name"):
            if getattr(self, name) is not None and self.ca_file is None:
                raise ValueError(f"{name} needs ca_file")
        return self

    @property
    def is_on(self) -> bool:
        """Whether servers must speak TLS."""
        return self.ca_file is not None
