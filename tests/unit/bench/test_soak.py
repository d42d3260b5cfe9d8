"""bench.soak: verdicts are kept where all comes back, and broken by what does not."""

import random
from collections.abc import Mapping

import orjson
import pytest

from bench.soak.chances import chat_body, guided_ask
from bench.soak.grpc_client import is_allowed
from bench.soak.outcomes import Outcomes
from bench.soak.report import outcome_table, verdict_table
from bench.soak.sampling import ProcessState, Sample, edge_tables
from bench.soak.verdicts import Run, Verdict, has_closed, is_idle, verdicts
from edge.openai.chat_request import parse_chat_request

_IDLE = {
    "edge_requests": 0,
    "edge_queue": 0,
    "tokenizer_outputs": 0,
    "worker_requests": 0,
    "worker_queue": 0,
    "referenced_blocks": 0,
    "free_blocks": 60,
    "cached_blocks": 40,
    "total_blocks": 100,
}
_EMPTY = [name for name in _IDLE if not name.endswith("blocks")] + ["referenced_blocks"]


def _sample(
    seconds: float,
    *,
    megabytes: float = 100,
    descriptors: int = 20,
    threads: int = 10,
    **tables: int,
) -> Sample:
    state = ProcessState(int(megabytes * 1e6), descriptors, threads)
    return Sample(seconds, {"worker": state}, _IDLE | tables)


def _outcomes() -> Outcomes:
    outcomes = Outcomes()
    outcomes.expected("stream", "answered")
    outcomes.expected("stream, left", "left")
    return outcomes


def _judged(
    during: list[Sample], end: Sample | None = None, outcomes: Outcomes | None = None
) -> Mapping[str, Verdict]:
    run = Run(_sample(0), during, end or _sample(1000))
    return {each.quantity: each for each in verdicts(run, outcomes or _outcomes())}


def _broken(judged: Mapping[str, Verdict]) -> list[str]:
    return [name for name, each in judged.items() if each.is_kept is not True]


def _steady() -> list[Sample]:
    return [_sample(10 * number, worker_requests=3) for number in range(1, 61)]


def test_all_is_kept_where_all_comes_back() -> None:
    """Busy in between, idle at the end, as large as before."""
    assert _broken(_judged(_steady())) == []


@pytest.mark.parametrize("name", _EMPTY)
def test_whatever_is_left_in_a_table_breaks_its_verdict(name: str) -> None:
    """One entry left is one too many, and such a sample is not idle."""
    end = _sample(1000, **{name: 1})

    assert _broken(_judged(_steady(), end)) == [name.replace("_", " ")]
    assert is_idle(_sample(1000))
    assert not is_idle(end)


def test_a_block_that_is_lost_breaks_the_sum() -> None:
    """Free and cached blocks are all blocks."""
    assert _broken(_judged(_steady(), _sample(1000, free_blocks=59))) == ["blocks"]


@pytest.mark.parametrize(("descriptors", "is_kept"), [(24, True), (25, False)])
def test_a_few_idle_connections_are_allowed(descriptors: int, is_kept: bool) -> None:
    """Four descriptors above the start's are kept, five not, whatever was in between."""
    end = _sample(1000, descriptors=descriptors)
    judged = _judged([*_steady(), _sample(605, descriptors=500)], end)

    assert judged["descriptors of worker"].is_kept is is_kept
    assert has_closed(end, _sample(0)) is is_kept


def test_threads_that_pile_up_are_found() -> None:
    """Pools may grow in the first third, not for ever."""
    assert _broken(_judged(_steady(), _sample(1000, threads=18))) == []
    assert _broken(_judged(_steady(), _sample(1000, threads=19))) == ["threads of worker"]


def test_growth_is_found_and_its_slope_told() -> None:
    """A megabyte every ten seconds is 360 an hour, and more than a tenth in ten minutes."""
    growing = [_sample(10 * number, megabytes=100 + number) for number in range(1, 61)]
    judged = _judged(growing)

    assert _broken(judged) == ["memory of worker"]
    assert "+360.0 MB an hour" in judged["memory of worker"].detail


def test_growth_in_the_warm_up_does_not_count() -> None:
    """What the first tenth takes and keeps is no leak."""
    warming = [_sample(10 * number, megabytes=min(100 * number, 500)) for number in range(1, 61)]

    assert _broken(_judged(warming)) == []


def test_a_short_run_does_not_judge_memory() -> None:
    """Neither kept nor broken: too few samples."""
    judged = _judged([_sample(10 * number) for number in range(1, 10)])

    assert judged["memory of worker"].is_kept is None
    assert "not judged" in verdict_table([judged["memory of worker"]])


def test_an_unexpected_end_breaks_the_run() -> None:
    """One request among many is enough, and its words are shown."""
    outcomes = _outcomes()
    outcomes.fail("whole", "HTTP 500: oops")

    assert _broken(_judged(_steady(), outcomes=outcomes)) == ["requests"]
    assert "whole: HTTP 500: oops" in outcome_table(outcomes)


def test_a_run_without_answers_shows_nothing() -> None:
    """Where everything was refused nothing has been tried."""
    outcomes = Outcomes()
    outcomes.expected("stream", "refused")

    assert _broken(_judged(_steady(), outcomes=outcomes)) == ["requests"]


def test_the_edges_gauges_are_read() -> None:
    """From Prometheus' text, among other series."""
    text = (
        "# HELP headrace_edge_requests_in_flight Chat requests at work.\n"
        "headrace_edge_requests_in_flight 3.0\nheadrace_edge_requests_queued 1.0\n"
        'headrace_edge_requests_total{route="/",status="200"} 7.0\n'
    )

    assert edge_tables(text) == {"edge_requests": 3, "edge_queue": 1}


def test_every_body_is_one_that_the_edge_takes() -> None:
    """A thousand drawn bodies are valid, and a seed draws the same again."""
    chance = random.Random(7)
    for number in range(1000):
        body = chat_body(chance, "tiny", stream=number % 2 == 0)
        request = parse_chat_request(orjson.dumps(body))
        assert (request.ignored, request.n or 1) == ((), body["n"])
    drawn = [chat_body(random.Random(9), "tiny", stream=True) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_guided_answers_are_held_to_their_guides() -> None:
    """A text that the guide does not allow is told from one that it does."""
    chance = random.Random(3)
    asks = {ask.kind: ask for ask in (guided_ask(chance) for _ in range(50))}

    assert set(asks) == {"json_schema", "regex", "choice"}
    assert is_allowed(asks["choice"], asks["choice"].guide[0])
    for ask in asks.values():
        assert not is_allowed(ask, "{}")
        assert not is_allowed(ask, "anything else")
