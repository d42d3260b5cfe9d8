"""Forced tools and structured output, as each client gives them."""

import json
from typing import Any

import pytest

from tests.clients.python.tasks import FUNCTIONS, Report, SetAlarm
from tests.clients.told import FORCING, ToldBy, of

# finish_reason "tool_calls" in each client's own words, where they are not the wire's
FINISHED_BY_CALL = {"pydantic_ai": "tool_call", "node_vercel": "tool-calls"}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.slow,
    # The first of them starts the stack and installs the Node packages.
    pytest.mark.timeout(420),
]


def _require_valid(calls: list[dict[str, Any]]) -> None:
    for call in calls:
        FUNCTIONS[call["name"]].model_validate(call["arguments"], strict=True)
        assert call["id"]
    assert len({call["id"] for call in calls}) == len(calls)


@pytest.mark.parametrize("client", FORCING)
def test_a_required_call_is_one_valid_call(told_by: ToldBy, client: str) -> None:
    """`required` without parallel calls gives one call, valid against its schema, and no text."""
    told = of(told_by(client), "required")

    assert len(told["calls"]) == 1
    _require_valid(told["calls"])
    assert told["finish"] == FINISHED_BY_CALL.get(client, "tool_calls")
    assert told["content"] is None


@pytest.mark.parametrize("client", FORCING)
def test_a_named_function_is_called(told_by: ToldBy, client: str) -> None:
    """A named function is called, validly, once, and the wire's finish reason is `stop`."""
    told = of(told_by(client), "chosen")

    assert [call["name"] for call in told["calls"]] == ["set_alarm"]
    _require_valid(told["calls"])
    # litellm makes `tool_calls` of every answer with a call.
    assert told["finish"] == ("tool_calls" if client == "litellm" else "stop")
    assert told["content"] is None


@pytest.mark.parametrize("client", FORCING)
def test_a_call_streams(told_by: ToldBy, client: str) -> None:
    """A call's arguments come in fragments that make the call which the client puts together."""
    told = of(told_by(client), "streamed_call")

    _require_valid(told["calls"])
    assert len([delta for delta in told["deltas"] if delta]) > 1
    assert json.loads("".join(told["deltas"])) == told["calls"][0]["arguments"]
    assert told["finish"] == FINISHED_BY_CALL.get(client, "tool_calls")


@pytest.mark.parametrize(
    ("client", "task"),
    [
        *((client, "structured") for client in [*FORCING, "llm"]),
        ("langchain", "structured_by_call"),
        ("pydantic_ai", "structured_by_call"),
    ],
)
def test_an_object_has_its_type(told_by: ToldBy, client: str, task: str) -> None:
    """What a client returns as an object of a type is one."""
    Report.model_validate(of(told_by(client), task), strict=True)


@pytest.mark.parametrize("client", [*FORCING, "llm"])
def test_a_result_is_answered(told_by: ToldBy, client: str) -> None:
    """A call and its result go back into the conversation, and the model goes on from there."""
    told = of(told_by(client), "loop")

    assert told["calls"]
    _require_valid(told["calls"])
    assert (told["text"] or "").strip() or told["again"]


def test_instructor_gives_objects(told_by: ToldBy) -> None:
    """A forced function and a schema each give an object, the latter with its counts."""
    told = told_by("instructor")

    SetAlarm.model_validate(of(told, "chosen"), strict=True)
    report = dict(of(told, "structured"))
    assert report.pop("usage")["completion_tokens"] > 0
    Report.model_validate(report, strict=True)


@pytest.mark.parametrize(
    ("client", "task"),
    [
        ("instructor", "stream"),
        ("instructor", "streamed_call"),
        ("node_vercel", "streamed_object"),
    ],
)
def test_an_object_grows(told_by: ToldBy, client: str, task: str) -> None:
    """An object that is streamed comes in parts, the last of which is whole."""
    partials = of(told_by(client), task)["partials"]

    assert len({json.dumps(partial) for partial in partials}) > 2
    Report.model_validate(partials[-1], strict=True)


def test_llms_chain_ends(told_by: ToldBy) -> None:
    """`llm`'s loop with a tool that the model may use ends, whatever it did."""
    told = of(told_by("llm"), "offered")

    assert told["texts"][-1].strip() or told["calls"]
    assert {call["name"] for call in told["calls"]} <= {"get_weather"}
