"""What an engine honours it takes; all else is refused by name, before it runs."""

from collections.abc import Mapping

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import Choice, GenerationRequest, Guide, LogitBias
from headrace.worker.v1.generation_pb2 import SamplingParams as WireSampling
from tests.contract.engine.conftest import NARROW_QUEUE
from tests.contract.engine.subject import Subject, TimedSink
from worker.request_mapping import OPTIONAL_FIELDS

pytestmark = pytest.mark.asyncio(loop_scope="session")

_REASONS = errors_pb2

USES: Mapping[str, Mapping[str, object]] = {
    "sampling.temperature": {"sampling": WireSampling(temperature=0.5)},
    "sampling.top_p": {"sampling": WireSampling(top_p=0.5)},
    "sampling.top_k": {"sampling": WireSampling(top_k=5)},
    "sampling.min_p": {"sampling": WireSampling(min_p=0.5)},
    "sampling.presence_penalty": {"sampling": WireSampling(presence_penalty=0.5)},
    "sampling.frequency_penalty": {"sampling": WireSampling(frequency_penalty=-0.5)},
    "sampling.repetition_penalty": {"sampling": WireSampling(repetition_penalty=1.5)},
    "sampling.seed": {"sampling": WireSampling(seed=-5)},
    "sampling.logit_bias": {"sampling": WireSampling(logit_bias=[LogitBias(token_id=5, bias=2.0)])},
    "output_prefix_token_ids": {"output_prefix_token_ids": [7, 8]},
    "stop_token_ids": {"stop_token_ids": [9]},
    "ignore_eos": {"ignore_eos": True},
    "min_tokens": {"min_tokens": 3},
    "logprobs": {"logprobs": 0},
    "guide.json_schema": {"guide": Guide(json_schema='{"type": "boolean"}')},
    "guide.json_object": {"guide": Guide(json_object=True)},
    "guide.regex": {"guide": Guide(regex="[ab]{2}")},
    "guide.grammar": {"guide": Guide(grammar='start: "a" | "b"')},
    "guide.structural_tag": {
        "guide": Guide(
            structural_tag='{"structures": [{"begin": "<a>", "schema": {"type": "null"}, '
            '"end": "</a>"}], "triggers": ["<a"]}'
        )
    },
    "guide.choice": {"guide": Guide(choice=Choice(alternatives=["yes", "no"]))},
    "cache_salt": {"cache_salt": "a"},
    "priority": {"priority": 5},
}


def _wire(subject: Subject, **fields: object) -> GenerationRequest:
    values = {"max_tokens": 8, **fields}
    return GenerationRequest(request_id="r", prompt_token_ids=subject.short_prompt, **values)


async def test_every_optional_field_is_used_here() -> None:
    """No field that an engine may refuse is left out."""
    assert USES.keys() == OPTIONAL_FIELDS.keys()


@pytest.mark.parametrize("name", USES)
async def test_an_option_is_honoured_or_refused_by_name(subject: Subject, name: str) -> None:
    """What the engine's info lists is taken and ends well; the rest names itself."""
    wire = _wire(subject, **USES[name])
    if name in subject.engine.info.honoured_fields:
        answers = await subject.outputs(subject.mapped(wire))

        assert answers[0].ended.error is None
        return
    with pytest.raises(ServiceError) as refused:
        subject.mapped(wire)

    assert refused.value.reason == _REASONS.ERROR_REASON_UNSUPPORTED_PARAMETER
    assert refused.value.param == name
    assert name in refused.value.message


@pytest.mark.parametrize("name", ["logprobs", "n"])
async def test_bounds_are_the_engines(subject: Subject, name: str) -> None:
    """The largest value that the info allows is taken, one more is refused with both numbers."""
    info = subject.engine.info
    most = {"logprobs": info.max_logprobs, "n": info.max_outputs}[name]
    answers = await subject.outputs(subject.mapped(_wire(subject, **{name: most, "max_tokens": 2})))
    with pytest.raises(ServiceError, match=f"to {most}, not {most + 1}") as refused:
        subject.mapped(_wire(subject, **{name: most + 1}))

    assert {answer.ended.error for answer in answers} == {None}
    assert refused.value.param == name


async def test_more_than_the_context_is_refused(subject: Subject) -> None:
    """A prompt that leaves no room, and a max_tokens that is more than there is."""
    length = subject.engine.info.context_length
    whole = _wire(subject)
    whole.prompt_token_ids.extend([5] * length)
    for wire in (whole, _wire(subject, max_tokens=length)):
        with pytest.raises(ServiceError) as refused:
            subject.mapped(wire)

        assert refused.value.reason == _REASONS.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED


async def test_a_full_queue_refuses_at_once(narrow: Subject) -> None:
    """Beyond its place and its queue an engine refuses by name; what it took ends well."""
    sink = TimedSink()
    requests = [narrow.request(max_tokens=5) for _ in range(1 + NARROW_QUEUE)]
    for request in requests:
        narrow.engine.submit(request, sink)
    with pytest.raises(ServiceError, match=f"max_queued_outputs is {NARROW_QUEUE}") as refused:
        narrow.engine.submit(narrow.request(), sink)
    await sink.all_ended(*(request.first_key for request in requests))
    again = await narrow.generate(max_tokens=2)

    assert refused.value.reason == _REASONS.ERROR_REASON_OVERLOADED
    assert {ended.error for ended in sink.ended.values()} == {None}
    assert again.ended.error is None


async def test_outputs_that_do_not_fit_are_refused_together(narrow: Subject) -> None:
    """A request with more outputs than there is room for is refused as a whole."""
    with pytest.raises(ServiceError) as refused:
        narrow.engine.submit(narrow.request(n=2 + NARROW_QUEUE), TimedSink())
    fitting = await narrow.outputs(narrow.request(n=1 + NARROW_QUEUE, max_tokens=3))

    assert refused.value.reason == _REASONS.ERROR_REASON_OVERLOADED
    assert len(fitting) == 1 + NARROW_QUEUE
