"""Whether an address to listen on is this machine's alone: others must be checked."""

from ipaddress import ip_address

import structlog

from headrace.runtime.errors import StartError

_log = structlog.get_logger(__name__)


def require_loopback(
    service: str, host: str, *, insecure: bool, checks_callers: bool = False
) -> None:
    """Raise StartError for a host that others can reach, where nothing says who they are.

    `checks_callers`: keys or client certificates are demanded; `insecure` accepts anybody.
    """
    if not (insecure or checks_callers or is_loopback(host)):
        raise StartError(
            f"{service}.host is {host}, which others can reach, and callers are not checked: "
            f"choose 127.0.0.1, or accept it with {service}.insecure"
        )


def warn_of_clear_text(service: str, host: str, *, uses_tls: bool) -> None:
    """Log that others can read along, keys too: they reach `host`, and nothing is encrypted."""
    if not (uses_tls or is_loopback(host)):
        _log.warning("clear_text", service=service, host=host, remedy="configure TLS")


def host_and_port(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; names other than localhost may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
