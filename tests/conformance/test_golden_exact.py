"""Answers of a backend that a test plays, byte for byte but for ids and times, order included."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge.profile_data import shipped_profiles
from headrace.client.answer_events import TokenLogprob
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.conformance.golden_files import FOLDER, GoldenFiles
from tests.conformance.transcripts import masked
from tests.support.edge_server import HELLO, RawClient, raw_client, running_edge
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration

_USAGE = {"stream_options": {"include_usage": True}}
_LOGPROBS = {"logprobs": True, "top_logprobs": 1}
_LOGPROBS_MODEL = dataclasses.replace(
    MODEL, honoured_fields=MODEL.honoured_fields | {"logprobs"}, max_logprobs=20
)
PROFILES = tuple(shipped_profiles())
Scene = tuple[Mapping[str, Any], Callable[[FakeGeneration], None]]


def _interleaved(generation: FakeGeneration) -> None:
    generation.text("Two", 1)
    generation.text("One", 0)
    generation.text(" and", 0)
    generation.finish(0, "length")
    generation.text(" more", 1)
    generation.finish(1, "stop")
    generation.done()


def _empty(generation: FakeGeneration) -> None:
    generation.finish()
    generation.done()


def _odd_text(generation: FakeGeneration) -> None:
    generation.text('"quoted" \\ \n\r\n\t\x00\x7f')
    generation.text("\x85\u2028\u2029")
    generation.text("日本 🎉 e\u0301")
    generation.finish()
    generation.done()


def _split_character(generation: FakeGeneration) -> None:
    first, rest = "é".encode()[:1], "é".encode()[1:]
    generation.tokens(
        TokenLogprob(b" (", -0.25, ((b" (", -0.25),)),
        TokenLogprob(first, -1.5, ((first, -1.5),)),
        TokenLogprob(rest, float("-inf"), ((b"s", -0.5),)),
    )
    generation.tokens(TokenLogprob(b"!", 0.0, ()))
    generation.finish()
    generation.done()


def _lost(generation: FakeGeneration) -> None:
    generation.text("partly")
    generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "The worker was lost."))


def _overloaded(generation: FakeGeneration) -> None:
    generation.text("partly")
    generation.fail(
        ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "No room for more.", retry_after_seconds=2)
    )


SCENES: dict[str, Scene] = {
    "interleaved": ({"n": 2}, _interleaved),
    "interleaved-usage": ({"n": 2, **_USAGE}, _interleaved),
    "empty": ({}, _empty),
    "odd-text": ({}, _odd_text),
    "split-character": (_LOGPROBS, _split_character),
    "lost-worker": (_USAGE, _lost),
    "overloaded-worker": ({}, _overloaded),
}


@pytest.mark.wire("E1", "E2", "E3", "E4", "E5", "E6", "E8", "E9", "E7.server", "E7.overloaded")
@pytest.mark.parametrize("name", SCENES)
async def test_transcript(golden: GoldenFiles, name: str) -> None:
    """Each stream is the one on record, every event where it was."""
    fields, play = SCENES[name]
    backend = FakeBackend(texts=None, models=(_LOGPROBS_MODEL,))
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, **fields, "stream": True})
        generation = await backend.next_generation()
        generation.start(cached=4)
        assert (await client.head()).status == 200
        # What is said before the roles are out would be joined.
        roles = await _chunk(client)
        play(generation)
        rest = [chunk async for chunk in client.chunks()]

    golden.compare(f"exact-{name}.sse", masked(b"".join((roles, *rest))))


async def _chunk(client: RawClient) -> bytes:
    size = int(await client.reader.readuntil(b"\r\n"), 16)
    return (await client.reader.readexactly(size + 2))[:-2]


@pytest.mark.wire("E5", "E6", "E12", "A3.response", "A3.usage", "A5.message_extras")
@pytest.mark.wire("A5.cached_tokens", "A5.superset")
@pytest.mark.parametrize("profile", PROFILES)
async def test_whole_answer(golden: GoldenFiles, profile: str) -> None:
    """An answer of two outputs is the one on record, in each profile's shape."""
    backend = FakeBackend(texts=None, models=(_LOGPROBS_MODEL,))
    hosts = {f"{name}.example": name for name in PROFILES}
    async with running_edge(backend, hosts=hosts) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, "n": 2}, headers={"Host": f"{profile}.example"})
        generation = await backend.next_generation()
        generation.start(cached=4)
        _interleaved(generation)
        response = await client.response()

    assert response.status == 200
    golden.compare(f"exact-whole-{profile}.json", masked(response.body) + b"\n")


def test_no_transcript_is_left_over(golden: GoldenFiles) -> None:
    """Every file on record belongs to a test."""
    if golden.is_update:
        pytest.skip("the records are being written")
    expected = {f"exact-{name}" for name in SCENES}
    expected |= {f"exact-whole-{profile}" for profile in PROFILES}

    recorded = {file.stem for file in FOLDER.glob("exact-*")}
    assert {name for name in recorded if not name.startswith("exact-calls-")} == expected
