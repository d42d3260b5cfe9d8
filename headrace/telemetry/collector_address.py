"""Where the collector listens, from the address that an operator wrote."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORT: Final = 4317
"""OTLP over gRPC, as the IANA registered it."""


@dataclass(frozen=True, slots=True)
class CollectorAddress:
    """A host and port, and whether TLS is spoken there."""

    target: str
    """host:port; an IPv6 address in brackets."""
    uses_tls: bool

    @property
    def host(self) -> str:
        """The host alone, an IPv6 address without its brackets."""
        return self.target.rpartition(":")[0].strip("[]")

    @classmethod
    def parse(cls, endpoint: str) -> "CollectorAddress":
        """Of http[s]://host[:port]. Raises ValueError, a clause that says why."""
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"is no address of a collector: {error}") from error
        if parts.scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or, for TLS, https://")
        if not parts.hostname or parts.username is not None or any(map(str.isspace, endpoint)):
            raise ValueError("must be like http://host:4317")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must end with the port: OTLP over gRPC has no path")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{_DEFAULT_PORT if port is None else port}", parts.scheme == "https")
