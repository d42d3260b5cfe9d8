from collections.abc import Iterator

import pytest

from headrace.telemetry.health_page import Phase, Words
from headrace.telemetry.health_view import HealthView, Verdict
from tests.support.health_pages import RULES, SECOND, ToldHealth, told_health


@pytest.fixture
def told() -> Iterator[ToldHealth]:
    with told_health() as told:
        yield told


def answers(view: HealthView) -> tuple[bool, bool, bool]:
    """Healthy, ready, started."""
    return view.health().is_good, view.ready().is_good, view.startup().is_good


def test_before_the_service_has_said_anything_it_starts(told: ToldHealth) -> None:
    """Healthy, not ready, not started."""
    assert answers(told.view) == (True, False, False)


def test_a_loop_that_stands_still_while_it_starts_is_healthy(told: ToldHealth) -> None:
    """A library that takes minutes to load must not be killed; only the start's own limit does."""
    told.tell(Phase.STARTING, "the start is not over")
    told.pass_seconds(RULES.start_seconds - 1)
    assert answers(told.view) == (True, False, False)
    assert told.view.health().status == "starting"
    told.pass_seconds(2)

    assert answers(told.view) == (False, False, False)
    assert told.view.health().detail == "starting for 601 s; the limit is 600 s"


def test_ready_is_what_the_service_says(told: ToldHealth) -> None:
    """With its reason, word for word."""
    told.tell(Phase.SERVING)
    assert answers(told.view) == (True, True, True)
    told.tell(Phase.SERVING, "no worker")

    assert answers(told.view) == (True, False, True)
    assert told.view.ready() == Verdict(is_good=False, status="not ready", detail="no worker")


def test_a_draining_service_is_healthy_and_not_ready(told: ToldHealth) -> None:
    """Probes let it finish."""
    told.tell(Phase.DRAINING, "draining")

    assert answers(told.view) == (True, False, True)
    assert told.view.ready().status == "draining"


@pytest.mark.parametrize("phase", [Phase.SERVING, Phase.DRAINING])
def test_a_stuck_loop_is_unhealthy(told: ToldHealth, phase: Phase) -> None:
    """From stuck_seconds on, and only until it runs again."""
    told.tell(phase)
    told.pass_seconds(10)
    assert told.view.health().is_good
    told.pass_seconds(2.5)
    stuck = told.view.health()
    assert answers(told.view) == (False, False, True)
    told.tell(phase)

    assert stuck.detail == "the event loop has not run for 12.5 s; the limit is 10 s"
    assert told.view.health().is_good


def test_the_end_of_a_start_in_which_the_loop_stood_still_counts_as_a_beat(
    told: ToldHealth,
) -> None:
    """Whoever reads the new phase and the old beat does not take the service for stuck."""
    told.tell(Phase.STARTING)
    told.pass_seconds(100)
    told.page.tell_words(told.now_ns, Words(Phase.SERVING, told.now_ns, ""))

    assert answers(told.view) == (True, True, True)


def test_grpc_names(told: ToldHealth) -> None:
    """Services are as ready as the whole, which has no name; two names ask something else."""

    def asked() -> list[bool | None]:
        names = ("", "a.v1.Service", "liveness", "startup", "a.v1.Other")
        return [told.view.grpc_health(name) for name in names]

    assert asked() == [False, False, True, False, None]
    told.tell(Phase.SERVING)
    assert asked() == [True, True, True, True, None]
    told.tell(Phase.DRAINING, "draining")
    assert asked() == [False, False, True, True, None]
    told.pass_seconds(11)
    assert asked() == [False, False, False, True, None]


def test_metrics_come_with_their_age(told: ToldHealth) -> None:
    """The text as it was told, then ages as they are now, in the same format."""
    told.tell(Phase.SERVING)
    told.page.tell_figures(told.now_ns, b"# HELP a A.\n# TYPE a gauge\na 1\n")
    told.pass_seconds(2)
    told.page.tell_beat(told.now_ns - SECOND // 2)
    lines = told.view.metrics().decode().splitlines()

    assert lines[:3] == ["# HELP a A.", "# TYPE a gauge", "a 1"]
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    assert values.pop("a") == "1"
    assert values == {
        "headrace_loop_heartbeat_age_seconds": "0.500000",
        "headrace_metrics_age_seconds": "2.000000",
        "headrace_metrics_cut_bytes": "0",
    }


def test_metrics_before_the_first_are_the_ages_alone(told: ToldHealth) -> None:
    """A scrape of a service that starts is no failure."""
    told.pass_seconds(3)

    [value] = [line for line in told.view.metrics().decode().splitlines() if line[0] != "#"]
    assert value == "headrace_loop_heartbeat_age_seconds 3.000000"
