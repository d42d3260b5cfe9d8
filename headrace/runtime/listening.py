"""Whether an address to listen on is this machine's alone: callers are not checked yet."""

from ipaddress import ip_address

from headrace.runtime.errors import StartError


def require_loopback(service: str, host: str, *, insecure: bool) -> None:
    """Raise StartError for a host that others can reach, unless `insecure` accepts that."""
    if not (insecure or is_loopback(host)):
        raise StartError(
            f"{service}.host is {host}, which others can reach, and callers are not checked yet: "
            f"choose 127.0.0.1, or accept it with {service}.insecure"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; names other than localhost may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
