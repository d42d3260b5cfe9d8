"""API keys themselves: how one is made, and the hash by which it is known.

A plain SHA-256 without salt is enough because a key is 256 random bits: nobody finds it by trying.
It would not be for passwords that people choose, and keys are not to be chosen.
"""

import secrets
from hashlib import sha256

_PREFIX = "hr-"
_RANDOM_BYTES = 32
LEAST_CHARACTERS = 32
"""Shorter keys are likely to be chosen by somebody, and to be found by trying."""


def mint_key() -> str:
    """A fresh key: 256 random bits in URL-safe characters."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_key(key: str) -> str:
    """The key's SHA-256 in lower-case hex, as the key file has it."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
