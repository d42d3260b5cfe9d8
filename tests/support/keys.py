"""Key files for tests: entries by key, written as an operator would paste them."""

from pathlib import Path

from headrace.access.keys import hash_key

KEY = "hr-test-0123456789abcdefghijklmnopqrstuvwxyz"
OTHER_KEY = "hr-test-zyxwvutsrqponmlkjihgfedcba9876543210"
TRUSTED_KEY = "hr-test-trusted-0123456789abcdefghijklmnopqr"


def entry(key: str, tenant: str = "acme", more: str = "") -> str:
    """One entry of a key file; `more` is further lines."""
    return f'[[keys]]\nsha256 = "{hash_key(key)}"\ntenant = "{tenant}"\n{more}\n'


def trusted_entry(key: str = TRUSTED_KEY) -> str:
    """The entry of a service's own key."""
    return f'[[keys]]\nsha256 = "{hash_key(key)}"\ntrusted = true\n'


def write_keys(file: Path, *entries: str) -> Path:
    """Write a key file whole; returns it."""
    file.write_text("".join(entries), encoding="utf-8")
    return file
