"""Kubernetes' quantities as numbers."""

import re

_UNITS = {
    "": 1.0,
    "m": 1e-3,
    **{letter: 1e3**power for power, letter in enumerate(("k", "M", "G", "T"), start=1)},
    **{f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGT", start=1)},
}


def quantity(text: str | float) -> float:
    """Cores or bytes. Raises ValueError for what is no quantity."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"no quantity: {text!r}")
    return float(match[1]) * _UNITS[match[2]]
