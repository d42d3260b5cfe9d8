"""A health page in this process, with a clock that a test moves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from headrace.telemetry.health_page import HealthPage, Phase, Words
from headrace.telemetry.health_view import HealthRules, HealthView

SECOND = 1_000_000_000
RULES = HealthRules(stuck_seconds=10, start_seconds=600, names=("a.v1.Service",))


@dataclass
class ToldHealth:
    """What a service tells, and what is answered of it."""

    page: HealthPage
    now_ns: int = 1_000 * SECOND
    view: HealthView = field(init=False)

    def __post_init__(self) -> None:
        self.view = HealthView(self.page, RULES, lambda: self.now_ns)

    def tell(self, phase: Phase, problem: str = "") -> None:
        """The loop runs and says so."""
        self.page.tell_beat(self.now_ns)
        self.page.tell_words(self.now_ns, Words(phase, self.now_ns, problem))

    def pass_seconds(self, seconds: float) -> None:
        """Time goes by, and nothing is told."""
        self.now_ns += round(seconds * SECOND)


@contextmanager
def told_health() -> Iterator[ToldHealth]:
    """A page on which nothing has been told."""
    page = HealthPage.create()
    try:
        yield ToldHealth(page)
    finally:
        page.close()
