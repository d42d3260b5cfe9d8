"""The bearer form of a key, in HTTP's Authorization header and in gRPC's metadata alike."""

AUTHORIZATION = "authorization"
_SCHEME = "bearer"


def bearer_key(value: str) -> str:
    """The key in an Authorization value; empty for none, and for another scheme."""
    scheme, _, key = value.strip().partition(" ")
    return key.strip() if scheme.lower() == _SCHEME else ""


def bearer_metadata(key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a gRPC call with a key."""
    return ((AUTHORIZATION, f"Bearer {key}"),)
