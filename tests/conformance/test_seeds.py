"""The documented examples of four vendors, verbatim, by curl, against what their pages show.

`headrace serve` with examples/seeds.toml and the default model; hosts, ports, schemes and keys are
the documents' own. Where a variant is asked, it is the document's text with one place changed.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge_server import parse_events
from tests.support.served_seeds import CurlAnswer, ServedSeeds

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

SEEDS = {
    file.stem: file.read_text(encoding="utf-8")
    for file in (Path(__file__).parent / "seeds").glob("*.sh")
}
_REASONS = frozenset(("stop", "length"))
_MESSAGE = {"role": "assistant", "content": str}
_COUNTS = {"prompt_tokens": int, "completion_tokens": int, "total_tokens": int}
_COMMON = {"id": str, "object": "chat.completion", "created": int}
# What each page shows of an answer, but for what belongs to calls of tools, which nobody made. A
# type stands for any value of it, a set for one of its values.
SHOWN: dict[str, dict[str, Any]] = {
    "pinstripes": {
        **_COMMON,
        "model": "ps/qwen3.6-35b-a3b",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": _REASONS}],
        "usage": {**_COUNTS, "cached_tokens": int},
    },
    "polargrid": {
        **_COMMON,
        "model": "llama-3.1-8b",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": _REASONS}],
        "usage": _COUNTS,
    },
    "openpipe": {
        **_COMMON,
        "model": "<string>",
        "choices": [
            {
                "index": int,
                "message": {**_MESSAGE, "reasoning_content": None, "refusal": None},
                "logprobs": {"content": list},
                "finish_reason": _REASONS,
                "content_filter_results": {},
                "criteria_results": {},
            }
        ],
        "usage": {
            **_COUNTS,
            "prompt_cache_hit_tokens": int,
            "prompt_cache_miss_tokens": int,
            "completion_tokens_details": {
                "reasoning_tokens": int,
                "audio_tokens": int,
                "text_tokens": int,
                "accepted_prediction_tokens": int,
                "rejected_prediction_tokens": int,
            },
            "prompt_tokens_details": {"cached_tokens": int, "audio_tokens": int},
            "criteria": {},
        },
    },
    "premai": {
        **_COMMON,
        "model": "SmolLM2-135M-Instruct",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": _REASONS}],
        "system_fingerprint": str,
        "usage": _COUNTS,
    },
}
# What each page shows of a chunk; the two that show none stream as OpenAI does.
_CHUNK = {"id": str, "object": "chat.completion.chunk"}
_WHOLE_CHUNK = {**_CHUNK, "created": int, "model": str}


def require_shape(shape: Any, value: Any, place: str = "answer") -> None:
    """Everything in `shape` is in `value`, with its type or value; other keys may be there too."""
    if isinstance(shape, type):
        assert type(value) is shape, place
    elif isinstance(shape, frozenset):
        assert value in shape, place
    elif isinstance(shape, dict):
        assert shape.keys() <= value.keys(), place
        for key, inner in shape.items():
            require_shape(inner, value[key], f"{place}.{key}")
    elif isinstance(shape, list):
        assert value, place
        for number, entry in enumerate(value):
            require_shape(shape[0], entry, f"{place}[{number}]")
    else:
        assert value == shape, place


def streaming(name: str, *, most: int = 8) -> str:
    """The seed's line asking for a stream of few tokens."""
    line = SEEDS[name].replace('"stream": false', '"stream": true')
    if line == SEEDS[name]:
        head, brace, rest = line.partition("{\n")
        limit = "max_completion_tokens" if name == "premai" else "max_tokens"
        added = "" if f'"{limit}"' in rest else f'"{limit}": {most},\n'
        line = f'{head}{brace}"stream": true,\n{added}{rest}'
    line = line.replace('"n": 123', '"n": 2')
    for number in (100, 123):
        line = line.replace(f'tokens": {number}', f'tokens": {most}')
    return line


@pytest.fixture(scope="module")
def answers(served: ServedSeeds) -> dict[str, CurlAnswer]:
    """Each seed's own line, all at the same time."""
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        return dict(zip(SEEDS, pool.map(served.curl, SEEDS.values()), strict=True))


@pytest.mark.wire("A1.path", "A1.auth", "A1.response", "A1.curl")
@pytest.mark.wire("A2.path", "A2.auth", "A2.response", "A2.curl", "A5.scheme", "A5.base_path")
@pytest.mark.wire("A3.path", "A3.auth", "A3.response", "A3.curl", "A3.usage", "A5.message_extras")
@pytest.mark.wire("A4.path", "A4.auth", "A4.response", "A4.curl", "A5.model_in_response")
@pytest.mark.parametrize("name", SHOWN)
def test_verbatim(answers: dict[str, CurlAnswer], name: str) -> None:
    """The document's line is answered at once with 200, and all that the document shows."""
    answer = answers[name]
    assert answer.statuses == (200,), answer.body[:1000]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]

    document = json.loads(answer.body)
    require_shape(SHOWN[name], document)
    usage = document["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    indexes = [choice["index"] for choice in document["choices"]]
    assert indexes == list(range(len(indexes)))
    assert all(choice["message"]["content"] for choice in document["choices"])


@pytest.mark.wire("A2.max_tokens", "E10")
def test_polargrids_limit_holds(answers: dict[str, CurlAnswer]) -> None:
    """PolarGrid's `max_tokens` of 100 is what ends its answer, if the model does not."""
    document = json.loads(answers["polargrid"].body)

    reason = document["choices"][0]["finish_reason"]
    assert document["usage"]["completion_tokens"] <= 100
    assert (reason == "length") == (document["usage"]["completion_tokens"] == 100)
    assert "x-headrace-clamped" not in answers["polargrid"].headers
    assert "cached_tokens" not in document["usage"]


@pytest.mark.wire("A3.n", "A3.temperature", "A3.top_logprobs", "A5.out_of_range", "A3.audio")
@pytest.mark.wire("A3.store", "A3.stream_options", "A3.logprobs")
def test_openpipes_hostile_example_is_clamped_and_told(answers: dict[str, CurlAnswer]) -> None:
    """Everything that was 123 became what is possible, and the answer says so in its headers."""
    answer = answers["openpipe"]
    document = json.loads(answer.body)

    clamped = dict(pair.split("=") for pair in answer.headers["x-headrace-clamped"].split(", "))
    assert clamped.pop("n") == str(len(document["choices"]))
    assert clamped == {
        "frequency_penalty": "2",
        "presence_penalty": "2",
        "temperature": "2",
        "top_logprobs": "20",
        "top_p": "1",
    }
    assert answer.headers["x-headrace-ignored"] == "audio, store, stream_options"
    usage = document["usage"]
    hit, miss = usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]
    assert hit + miss == usage["prompt_tokens"]
    for choice in document["choices"]:
        entries = choice["logprobs"]["content"]
        assert {20} == {len(entry["top_logprobs"]) for entry in entries}
        spelt = bytes(byte for entry in entries for byte in entry["bytes"])
        assert spelt.decode() == choice["message"]["content"]


@pytest.mark.wire("A4.messages")
def test_premais_system_message_keeps_what_it_carries(answers: dict[str, CurlAnswer]) -> None:
    """Calls and an id on a system message are named as ignored, the alias as what it stands for."""
    answer = answers["premai"]

    assert answer.headers["x-headrace-ignored"] == (
        "messages[].tool_call_id, messages[].tool_calls"
    )
    assert json.loads(answer.body)["system_fingerprint"]


@pytest.mark.wire("A1.reuse", "A5.cached_tokens")
def test_pinstripes_bills_what_was_reused(served: ServedSeeds) -> None:
    """A long prefix costs nothing the second time: `usage.cached_tokens`, streamed as well."""
    prefix = "Answer as a patient librarian would. " * 20
    line = SEEDS["pinstripes"].replace("You are a helpful assistant.", prefix)
    line = line.replace('"temperature"', '"max_tokens": 4, "temperature"')
    asked = '"stream": true, "stream_options": {"include_usage": true}, "temperature"'

    first = json.loads(served.curl(line).body)["usage"]
    again = json.loads(served.curl(line.replace("prefix caching", "a shelf")).body)["usage"]
    streamed = parse_events(served.curl(line.replace('"temperature"', asked)).body)[-2]["usage"]

    assert first["cached_tokens"] == 0
    assert first["prompt_tokens"] - 64 <= again["cached_tokens"] < again["prompt_tokens"]
    assert again["total_tokens"] == again["prompt_tokens"] + again["completion_tokens"]
    assert again["prompt_tokens_details"]["cached_tokens"] == again["cached_tokens"]
    assert streamed["cached_tokens"] >= again["cached_tokens"]


@pytest.mark.wire("A1.sse", "A2.sse", "A1.stream", "A2.stream", "A3.stream", "A4.stream")
@pytest.mark.wire("A5.first_chunk", "A5.superset", "E9")
@pytest.mark.parametrize("name", SHOWN)
def test_streamed(served: ServedSeeds, name: str) -> None:
    """The same line asking for a stream: the role once an output, text, a finish, and [DONE]."""
    answer = served.curl(streaming(name))

    assert answer.status == 200, answer.body[:1000]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = parse_events(answer.body)
    assert done == "[DONE]"
    if name == "openpipe":
        # The only one of the four lines that asks for it.
        assert chunks.pop()["usage"]["prompt_tokens"] > 0
    for chunk in chunks:
        require_shape(_WHOLE_CHUNK, chunk)
        (choice,) = chunk["choices"]
        assert {"index", "delta", "finish_reason"} <= choice.keys()
    outputs = range(2 if name == "openpipe" else 1)
    for index in outputs:
        choices = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        first, *middle, last = choices
        assert first["delta"].keys() == {"role", "content", "refusal"}
        assert first["delta"]["role"] == "assistant"
        assert all(choice["delta"].keys() == {"content"} for choice in middle)
        assert "".join(choice["delta"]["content"] for choice in middle)
        assert last["delta"] == {}
        assert last["finish_reason"] in _REASONS
        assert {None} == {choice["finish_reason"] for choice in choices[:-1]}


@pytest.mark.wire("A5.expect_100_continue")
@pytest.mark.parametrize("name", SHOWN)
def test_100_continue(served: ServedSeeds, name: str) -> None:
    """Older curls ask for every body above a kilobyte: each line is told to go on, and answered."""
    line = streaming(name, most=1).rstrip("\n")

    assert served.curl(f"{line} --header 'Expect: 100-continue'").statuses == (100, 200)


@pytest.mark.wire("A5.expect_100_continue")
def test_a_large_body_waits_for_100_continue(served: ServedSeeds, tmp_path: Path) -> None:
    """A client that asks before it sends a megabyte is told to go on, and answered."""
    body = SEEDS["polargrid"].partition("-d '")[2].rpartition("'")[0]
    document = {**json.loads(body), "max_tokens": 2, "padding": "x" * 1_200_000}
    file = tmp_path / "body.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    line = SEEDS["polargrid"].partition("-d '")[0] + f"--http1.1 --data-binary @{file}"

    answer = served.curl(line)

    assert answer.statuses == (100, 200)
    assert answer.headers["x-headrace-ignored"] == "padding"
    assert json.loads(answer.body)["usage"]["completion_tokens"] <= 2


@pytest.mark.wire("A5.strict_and_lenient_paths", "A5.base_path")
def test_a_key_that_many_print_leaves_the_choice_to_the_host(served: ServedSeeds) -> None:
    """`<token>` is OpenPipe's and PremAI's: on a strict host its example is refused by name."""
    line = SEEDS["openpipe"].replace("https://api.openpipe.ai", "http://studio.premai.io")

    answer = served.curl(line)

    assert answer.status == 400
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"


@pytest.mark.wire("E7.bad_key")
@pytest.mark.parametrize("name", SHOWN)
def test_another_key_is_refused(served: ServedSeeds, name: str) -> None:
    """A key that no document prints is nobody's, on every host."""
    line = SEEDS[name].replace("Authorization: Bearer ", "Authorization: Bearer not-")

    answer = served.curl(line)

    assert answer.status == 401
    assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
