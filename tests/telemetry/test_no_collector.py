"""A collector that dies, hangs or refuses: no request notices, and every lost span is counted."""

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.chat_client import Answer, chat_body, eventually, http_get
from tests.support.otlp_recorder import OtlpRecorder
from tests.support.stack import Service
from tests.telemetry.collector import Collector
from tests.telemetry.span_table import Asked
from tests.telemetry.traced_stack import CallersTrace, TracedStack, ask_traced
from tests.telemetry.wrong_collectors import WRONG_COLLECTORS
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_CLIENTS = 8
_TOKENS = 10
_TOKENS_PER_SECOND = 100.0
_EXPORT_SECONDS = 0.5
_MAX_WAITING = 64
# Of one request: HTTP, chat, Render and Generate; Render; Generate, queue, prefill and decode.
_SPANS_A_REQUEST = {"edge": 4, "tokenizer": 1, "worker": 4}
_EXPORTED = re.compile(r"^headrace_spans_exported_total (\S+)$", re.MULTILINE)
_DROPPED = re.compile(r'^headrace_spans_dropped_total\{reason="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass
class _Shaken:
    """A stack, and the collector of its own that comes and goes."""

    stack: TracedStack
    collector: Collector
    num_asked: int = 0

    async def flows(self) -> None:
        """A request's whole trace reaches the recorder."""
        trace = CallersTrace()
        self.num_asked += 1
        answer = await ask_traced(self.stack.edge, chat_body(max_tokens=_TOKENS), trace)
        assert answer.is_complete
        await self.stack.check("answered", Asked(), trace)

    async def flows_again(self) -> None:
        """The same, as soon as the services have found the collector again."""

        async def holds() -> bool:
            trace = CallersTrace()
            self.num_asked += 1
            answer = await ask_traced(self.stack.edge, chat_body(max_tokens=1), trace)
            assert answer.is_complete
            tree_size = sum(_SPANS_A_REQUEST.values())
            spans = await asyncio.to_thread(
                self.stack.recorder.await_trace,
                trace.trace_id,
                lambda spans: len(spans) == tree_size,
                2 * _EXPORT_SECONDS,
            )
            return len(spans) == tree_size

        await eventually(holds, "spans flow again", 30)

    async def settled(self) -> dict[str, "_Counts"]:
        """Each service's counts as soon as every span that was made is told of."""
        found: dict[str, _Counts] = {}

        async def all_told() -> bool:
            for service in self.stack.services:
                found[service.kind] = await _counts(service)
            return all(
                counts.total == self.num_asked * _SPANS_A_REQUEST[kind]
                for kind, counts in found.items()
            )

        try:
            await eventually(all_told, "every span is exported or dropped", 15)
        except AssertionError as error:
            raise AssertionError(f"{error}: of {self.num_asked} requests {found}") from None
        return found


@dataclass(frozen=True)
class _Counts:
    exported: int
    dropped: Mapping[str, int]

    @property
    def total(self) -> int:
        return self.exported + sum(self.dropped.values())


async def _counts(service: Service) -> _Counts:
    """What the service says on its health port."""
    port = service.events("health_listening")[-1]["port"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(http_get("/metrics", "Connection: close"))
        text = (await reader.read()).decode()
    finally:
        writer.close()
    exported = _EXPORTED.search(text)
    assert exported, f"{service.name} tells no exported spans"
    dropped = {reason: int(float(count)) for reason, count in _DROPPED.findall(text)}
    return _Counts(int(float(exported[1])), {k: v for k, v in dropped.items() if v})


@dataclass
class _Load:
    """Clients that ask again and again, each request at once after the one before."""

    edge: Service
    answers: list[Answer] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    is_over: bool = False

    async def client(self) -> None:
        """One of them."""
        while not self.is_over:
            began = time.monotonic()
            body = chat_body(max_tokens=_TOKENS, stream=len(self.answers) % 2 == 0)
            self.answers.append(await ask_traced(self.edge, body, CallersTrace()))
            self.seconds.append(time.monotonic() - began)

    async def more(self, count: int) -> slice:
        """Until so many more answers have come; says which those are."""
        first = len(self.seconds)

        async def have_come() -> bool:
            return len(self.seconds) >= first + count

        await eventually(have_come, f"{count} more answers", 60)
        return slice(first, len(self.seconds))


@asynccontextmanager
async def _load(shaken: _Shaken) -> AsyncIterator[_Load]:
    load = _Load(shaken.stack.edge)
    tasks = [asyncio.create_task(load.client()) for _ in range(_CLIENTS)]
    try:
        yield load
    finally:
        load.is_over = True
        await asyncio.gather(*tasks)
        shaken.num_asked += len(load.answers)


@pytest.fixture(scope="module")
def shaken(recorder: OtlpRecorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shaken]:
    """Services that let few spans wait, and not for long."""
    collector = Collector(tmp_path_factory.mktemp("own-collector"), recorder.endpoint)
    stack = TracedStack(
        tmp_path_factory.mktemp("traced-shaken"),
        collector.endpoint,
        recorder,
        max_waiting_spans=_MAX_WAITING,
        export_timeout_seconds=_EXPORT_SECONDS,
    )
    try:
        engine = PacedSettings(tokens_per_second=_TOKENS_PER_SECOND)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield _Shaken(stack, collector)
    finally:
        stack.close()
        collector.kill()


def _require_unnoticed(
    answers: Sequence[Answer], before: Sequence[float], during: Sequence[float]
) -> None:
    """All answers whole, and as fast as before, in seconds each."""
    assert [answer.body[-300:] for answer in answers if not answer.is_complete] == []
    usual, median, worst = statistics.median(before), statistics.median(during), max(during)
    assert median < 1.5 * usual + 0.02, f"median {median:.3f} s, before {usual:.3f} s"
    # Whoever waited for the collector waited for a batch's whole time.
    assert worst < usual + _EXPORT_SECONDS, f"worst {worst:.3f} s, before {usual:.3f} s"


async def test_killed_under_load(shaken: _Shaken) -> None:
    """Killed and started again amid requests: answers as before, losses counted, spans again."""
    shaken.collector.start()
    await shaken.flows()
    lost_before = await shaken.settled()
    async with _load(shaken) as load:
        before = await load.more(60)
        shaken.collector.kill()
        during = await load.more(150)
        shaken.collector.start()
        await load.more(60)
    await shaken.flows_again()

    _require_unnoticed(load.answers, load.seconds[before], load.seconds[during])
    for kind, counts in (await shaken.settled()).items():
        assert sum(counts.dropped.values()) > sum(lost_before[kind].dropped.values()), kind
        assert counts.exported > lost_before[kind].exported


@pytest.mark.parametrize("kind", WRONG_COLLECTORS)
async def test_wrong_collector(shaken: _Shaken, kind: str) -> None:
    """Whatever stands where the collector should: answers as with it, and losses counted."""
    shaken.collector.start()
    await shaken.flows_again()
    async with _load(shaken) as usual:
        before = await usual.more(30)
    known = await shaken.settled()
    shaken.collector.kill()
    with WRONG_COLLECTORS[kind](shaken.collector.port):
        async with _load(shaken) as load:
            await load.more(90)
        counts = await shaken.settled()
    shaken.collector.start()
    await shaken.flows_again()

    _require_unnoticed(load.answers, usual.seconds[before], load.seconds)
    asked = len(load.answers)
    for name, found in counts.items():
        lost = sum(found.dropped.values()) - sum(known[name].dropped.values())
        assert lost == asked * _SPANS_A_REQUEST[name], name
        assert found.exported == known[name].exported, name


async def test_end_without_collector(
    recorder: OtlpRecorder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Services that nobody listens to end as fast as others, and say what they lost."""
    collector = Collector(tmp_path_factory.mktemp("absent"), recorder.endpoint)
    folder = tmp_path_factory.mktemp("traced-alone")
    stack = TracedStack(folder, collector.endpoint, recorder, export_timeout_seconds=1)
    try:
        stack.start_backend([WorkerSettings(engine="paced")])
        edge = stack.add_edge()
        answer = await ask_traced(edge, chat_body(max_tokens=2), CallersTrace())
        began = time.monotonic()
        edge.end()
        seconds = time.monotonic() - began
        told = edge.events("span_losses_ended")
    finally:
        stack.close()

    assert answer.is_complete
    assert seconds < 5
    assert sum(line["dropped"] for line in told) == _SPANS_A_REQUEST["edge"]
