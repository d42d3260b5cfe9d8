"""Requests that wait for their guide: compiled, failed, aborted, each left exactly once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.openvino.fakes import make_request, make_sequence
from worker.engine.openvino.compilations import Compilations
from worker.engine.openvino.sequence import Sequence as OutputSequence
from worker.engine.seam import Guide

GUIDE = Guide("regex", "[ab]")


class _Matcher:
    def copy(self) -> "_Matcher":
        return _Matcher()


class _Compiler:
    """Compiles when the test lets it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.failure: ServiceError | None = None
        self.prefixes: list[Sequence[int]] = []

    def check_size(self, guide: Guide) -> None:
        if len(guide.text) > 100:
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, "too long", guide.param)

    def compile(self, _guide: Guide, prefix: Sequence[int]) -> _Matcher:
        assert self.gate.wait(30)
        self.prefixes.append(prefix)
        if self.failure is not None:
            raise self.failure
        return _Matcher()


class _Bench:
    def __init__(self, most_seconds: float = 30) -> None:
        self.compiler = _Compiler()
        self.ready: list[tuple[OutputSequence, list[int]]] = []
        self._changed = asyncio.Event()
        self.compilations = Compilations(self.compiler, most_seconds, self._on_ready)

    def add(self, key: int = 0, **fields: object) -> OutputSequence:
        leader = make_sequence(make_request(key, guide=GUIDE, **fields))
        self.compilations.add(leader, GUIDE)
        return leader

    def _on_ready(self, leader: OutputSequence, aborted: Sequence[int]) -> None:
        self.ready.append((leader, list(aborted)))
        self._changed.set()

    async def is_ready(self) -> None:
        await self._changed.wait()


@pytest.fixture
async def bench() -> AsyncIterator[_Bench]:
    made = _Bench()
    yield made
    made.compiler.gate.set()
    made.compilations.close(ServiceError(errors_pb2.ERROR_REASON_DRAINING, "stopping"))


def _sink(leader: OutputSequence) -> CollectingSink:
    assert isinstance(leader.sink, CollectingSink)
    return leader.sink


async def test_every_output_has_a_matcher_of_its_own(bench: _Bench) -> None:
    """The leader comes out once, behind its prefix, and each follower follows by itself."""
    bench.compiler.gate.set()
    leader = bench.add(n=3)
    await bench.is_ready()

    matchers = [s.matcher for s in (leader, *leader.followers)]
    assert bench.ready == [(leader, [])]
    assert None not in matchers
    assert len({id(matcher) for matcher in matchers}) == 3
    assert bench.compilations.num_ended == 0


async def test_a_fault_ends_every_output(bench: _Bench) -> None:
    """What the compiler refuses is each output's end; nothing comes out."""
    bench.compiler.failure = ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, "no", "guide")
    bench.compiler.gate.set()
    leader = bench.add(n=2)
    await _sink(leader).all_ended(0, 1)

    assert {ended.error for ended in _sink(leader).ended.values()} == {bench.compiler.failure}
    assert (bench.ready, bench.compilations.num_ended) == ([], 2)


async def test_what_takes_too_long_is_refused_by_name() -> None:
    """The budget is named; what only waited behind such guides is not refused for their sake."""
    bench = _Bench(most_seconds=0.3)
    slow, behind = [bench.add(0), bench.add(1)], bench.add(2)
    for key, leader in enumerate((*slow, behind)):
        await _sink(leader).all_ended(key)
    errors = [_sink(leader).ended[key].error for key, leader in enumerate((*slow, behind))]
    bench.compiler.gate.set()
    bench.compilations.close(ServiceError(errors_pb2.ERROR_REASON_DRAINING, "stopping"))

    for error in errors[:2]:
        assert error is not None
        assert (error.param, bench.compilations.num_ended) == ("guide.regex", 3)
        assert "longer than 0.3 s" in error.message
    assert errors[2] is not None
    assert (errors[2].reason, errors[2].param) == (errors_pb2.ERROR_REASON_OVERLOADED, None)
    assert errors[2].retry_after_seconds == 1


async def test_aborts_are_passed_on(bench: _Bench) -> None:
    """Some aborted: they are named when the rest comes out. All aborted: nothing comes out."""
    some, every = bench.add(0, n=3), bench.add(10, n=2)
    bench.compilations.abort(_sink(some), [1, 7])
    bench.compilations.abort(_sink(every), [10])
    bench.compilations.abort(_sink(every), [11])
    ended = bench.compilations.num_ended
    bench.compiler.gate.set()
    await bench.is_ready()

    assert bench.ready == [(some, [1])]
    assert ended == bench.compilations.num_ended == 2
    assert _sink(every).ended == {}


async def test_closing_fails_what_waits() -> None:
    """Each output that was not aborted ends with the error, at once."""
    bench = _Bench()
    leader = bench.add(n=2)
    bench.compilations.abort(_sink(leader), [0])
    error = ServiceError(errors_pb2.ERROR_REASON_DRAINING, "stopping")
    bench.compilations.close(error)
    bench.compiler.gate.set()

    assert {key: ended.error for key, ended in _sink(leader).ended.items()} == {1: error}
    assert bench.ready == []


async def test_a_guide_too_long_never_waits(bench: _Bench) -> None:
    """It is refused at once, and counts nowhere."""
    leader = make_sequence(make_request(guide=GUIDE))
    with pytest.raises(ServiceError, match="too long"):
        bench.compilations.add(leader, Guide("regex", "a" * 101))

    assert bench.compilations.num_ended == 0
