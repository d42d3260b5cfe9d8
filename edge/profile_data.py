"""Profiles as data: the package's own file, and an operator's tables laid over it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.openai.profile import Profile

_SHIPPED_FILE = Path(__file__).with_name("profiles.toml")
_DEFAULT_BASE = "openai"


def host_name(host: str) -> str:
    """A Host header's value without its port, in lower case."""
    name, colon, port = host.strip().lower().rpartition(":")
    has_port = colon and (not port or (port.isascii() and port.isdigit()))
    return (name if has_port else host.strip().lower()).rstrip(".")


def shipped_profiles() -> Mapping[str, Profile]:
    """The profiles of the package's own data file."""
    tables = _shipped_tables()
    return {name: Profile.model_validate(_merged(name, tables)) for name in tables}


def _shipped_tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_SHIPPED_FILE.read_text(encoding="utf-8"))


def merge_own_profiles(own: Mapping[str, Any]) -> dict[str, Any]:
    """An operator's tables, each laid over its `base`; values are not validated yet.

    Without a base, a table named like a shipped profile changes that one, any other is OpenAI's
    with changes. Raises ValueError for a base that does not exist, or that leads back to itself.
    """
    shipped = _shipped_tables()
    tables = {**shipped, **{name: table for name, table in own.items() if isinstance(table, dict)}}
    merged: dict[str, Any] = {}
    for name, table in own.items():
        if not isinstance(table, dict):
            merged[name] = table
        elif name in shipped and table.get("base", name) == name:
            merged[name] = {**_merged(name, shipped), **table}
            merged[name].pop("base", None)
        else:
            merged[name] = _merged(name, tables)
    return merged


def _merged(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    chain = [name]
    base = tables[name].get("base", _DEFAULT_BASE)
    while base != chain[-1]:
        if base not in tables:
            raise ValueError(
                f"{chain[-1]}.base names no profile: {base!r}; known are {', '.join(tables)}"
            )
        if base in chain:
            raise ValueError(f"{name}.base leads back to itself: {' → '.join([*chain, base])}")
        chain.append(base)
        base = tables[base].get("base", _DEFAULT_BASE)
    values: dict[str, Any] = {}
    for link in reversed(chain):
        values.update(tables[link])
    values.pop("base", None)
    return values
