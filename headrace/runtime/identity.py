"""Which build this is and which start of it."""

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from uuid import uuid4


def _build() -> str:
    try:
        return f"headrace {version('headrace')}"
    except PackageNotFoundError:
        return "headrace (not installed)"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: its build, and an id minted at every start."""

    build: str = field(default_factory=_build)
    instance_id: str = field(default_factory=lambda: uuid4().hex)
