"""What the process on the health port is told when it is started."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from headrace.telemetry.health_view import HealthRules


@dataclass(frozen=True, slots=True)
class HealthOrder:
    """By whom, and with which descriptors and rules."""

    parent_pid: int
    page_descriptor: int
    listener_descriptor: int
    rules: HealthRules

    def to_json(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The argument read again."""
        fields = json.loads(text)
        rules = fields.pop("rules")
        names = tuple(rules.pop("names"))
        return cls(**fields, rules=HealthRules(**rules, names=names))
