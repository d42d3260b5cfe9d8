"""Objects' fields: what is not known is refused by name, that nothing rendered be passed over."""

from collections.abc import Collection, Mapping
from typing import Any

NOTHING: frozenset[str] = frozenset()


class RefusedError(Exception):
    """Something in a rendering that the mini-kubelet does not do."""


def require_known(
    where: str,
    fields: Mapping[str, Any],
    used: Collection[str],
    without_effect: Collection[str] = NOTHING,
) -> None:
    """Refuse every field but those that are used, and those that may be there without effect."""
    for name in fields:
        if name not in used and name not in without_effect:
            raise RefusedError(f"{where}: the mini-kubelet does not know {name}")


def require_value(where: str, fields: Mapping[str, Any], name: str, value: object) -> None:
    """Refuse every value but this one; a field that is missing counts as None."""
    found = fields.get(name)
    if found != value:
        raise RefusedError(f"{where}: the mini-kubelet knows {name} {value!r} only, not {found!r}")
