"""Guides: what is generated follows them to the end, and what cannot be followed names itself."""

import json
import random
import re

import jsonschema
import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.contract.engine.subject import Answer, Subject, TimedSink
from tests.support.json_schemas import Schema, random_schema, recursive_schema
from worker.engine.seam import EngineRequest, Guide, GuideKind, SamplingParams

pytestmark = pytest.mark.asyncio(loop_scope="session")

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
HOT = SamplingParams(temperature=2.0, seed=3)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
_TAG = {
    "structures": [{"begin": "<call=f>", "schema": PERSON, "end": "</call>"}],
    "triggers": ["<call="],
}
_CALL = re.compile(r"<call=f>(.*?)</call>", re.DOTALL)


GUIDED = ("openvino", "tensorrt_llm_llguidance", "tensorrt_llm_xgrammar")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.model) for name in GUIDED])
def subject(request: pytest.FixtureRequest) -> Subject:
    """The engines that take guides; that the others refuse them shows in test_refusals.

    The library's backends are emulated by one another's grammar: what each alone does is not shown.
    """
    return request.getfixturevalue(request.param)


# Guide, and a regular expression that every answer matches as a whole.
GUIDES: list[tuple[GuideKind, str, str]] = [
    ("regex", r"[ab]{3}-\d{2}/\d", r"[ab]{3}-\d{2}/\d"),
    ("regex", r"(ä|ö|𝄞){2,4}", r"(ä|ö|𝄞){2,4}"),
    ("choice", json.dumps(["yes", "no", 'a "b"\\\n☃']), 'yes|no|a "b"\\\\\n☃'),
    ("grammar", 'start: "(" NUMBER ("," NUMBER)? ")"\nNUMBER: /[0-9]{1,3}/', r"\(\d+(,\d+)?\)"),
]


def _needs(subject: Subject, kind: GuideKind) -> None:
    if f"guide.{kind}" not in subject.engine.info.honoured_fields:
        pytest.skip("refused by name")


def _is_whole(subject: Subject, answer: Answer) -> bool:
    """It ended by itself, at the model's own end token."""
    ended = answer.ended
    return (
        ended.finish_reason == FINISH_REASON_STOP
        and ended.stop_token_id == answer.token_ids[-1]
        and ended.stop_token_id in subject.engine.info.end_token_ids
    )


@pytest.mark.parametrize(("kind", "text", "pattern"), GUIDES)
@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), HOT])
async def test_answers_follow_and_stop(
    subject: Subject, kind: GuideKind, text: str, pattern: str, sampling: SamplingParams
) -> None:
    """Cold and hot, each of three outputs matches as a whole and ends by itself."""
    _needs(subject, kind)
    request = subject.request(guide=Guide(kind, text), sampling=sampling, n=3, max_tokens=80)
    answers = await subject.outputs(request)

    for answer in answers:
        assert re.fullmatch(pattern, subject.decode(answer.token_ids)), answer
        assert _is_whole(subject, answer)


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), HOT])
async def test_json_follows_its_schema(subject: Subject, sampling: SamplingParams) -> None:
    """What comes is a JSON document that the schema accepts."""
    _needs(subject, "json_schema")
    guide = Guide("json_schema", json.dumps(PERSON))
    answer = await subject.generate(guide=guide, sampling=sampling, max_tokens=80)

    jsonschema.validate(json.loads(subject.decode(answer.token_ids)), PERSON)
    assert _is_whole(subject, answer)


async def test_a_json_object_is_one(subject: Subject) -> None:
    """Whatever it holds, it is an object, or was cut."""
    _needs(subject, "json_object")
    prompt = subject.chat('Say {"answer": 42} and nothing else.')
    request = subject.request(
        prompt, guide=Guide("json_object"), n=3, sampling=SamplingParams(seed=1), max_tokens=150
    )
    answers = await subject.outputs(request)
    whole = [answer for answer in answers if _is_whole(subject, answer)]

    assert whole
    for answer in answers:
        text = subject.decode(answer.token_ids)
        assert text.startswith("{")
        if answer in whole:
            assert isinstance(json.loads(text), dict)
        else:
            assert answer.ended.finish_reason == FINISH_REASON_LENGTH


async def test_a_structural_tag_holds_inside_the_tag_only(subject: Subject) -> None:
    """The text around is free; where a tag opens, its document validates and it is closed."""
    _needs(subject, "structural_tag")
    prefix = tuple(subject.encode("I shall call <call=f>"))
    guide = Guide("structural_tag", json.dumps(_TAG))
    answer = await subject.generate(guide=guide, output_prefix_token_ids=prefix, max_tokens=200)
    text = subject.decode([*prefix, *answer.token_ids])

    assert _CALL.findall(text)
    for document in _CALL.findall(text):
        jsonschema.validate(json.loads(document), PERSON)


async def test_a_continuation_replays_its_prefix(subject: Subject) -> None:
    """Cut anywhere, the rest completes the same document; a prefix that strays is refused."""
    _needs(subject, "json_schema")
    fields = {"guide": Guide("json_schema", json.dumps(PERSON)), "sampling": HOT, "max_tokens": 80}
    whole = await subject.generate(**fields)
    for cut in (1, len(whole.token_ids) // 2, len(whole.token_ids) - 1):
        rest = await subject.generate(output_prefix_token_ids=whole.token_ids[:cut], **fields)

        assert rest.token_ids == whole.token_ids[cut:]
    strayed = await _failure(subject, output_prefix_token_ids=(500, 501), **fields)

    assert (strayed.reason, strayed.param) == (_INVALID, "output_prefix_token_ids")


async def test_the_guide_ends_before_min_tokens(subject: Subject) -> None:
    """Where nothing but the end may follow it comes; where more may follow it is held back."""
    _needs(subject, "regex")
    done = await subject.generate(guide=Guide("regex", "ab"), min_tokens=20)
    more = await subject.generate(guide=Guide("regex", "[ab]{1,80}"), min_tokens=8, max_tokens=90)

    assert subject.decode(done.token_ids) == "ab"
    assert _is_whole(subject, done)
    assert len(more.token_ids) > 8


async def test_the_length_cuts(subject: Subject) -> None:
    """max_tokens ends the answer in the middle, and says so."""
    _needs(subject, "regex")
    answer = await subject.generate(guide=Guide("regex", "(ab){300}"), max_tokens=10)

    assert answer.ended.finish_reason == FINISH_REASON_LENGTH
    assert ("ab" * 300).startswith(subject.decode(answer.token_ids))


async def test_a_bias_does_not_break_out(subject: Subject) -> None:
    """A token at +100 that the guide does not allow is not drawn."""
    _needs(subject, "choice")
    sampling = SamplingParams(temperature=0, logit_bias=((500, 100.0),))
    guide = Guide("choice", '["yes", "no"]')
    answer = await subject.generate(guide=guide, sampling=sampling)

    assert subject.decode(answer.token_ids) in {"yes", "no"}


@pytest.mark.parametrize(
    ("guide", "named"),
    [
        (Guide("json_schema", '{"type": "array", "uniqueItems": true}'), "uniqueItems"),
        (Guide("json_schema", '{"if": {}, "then": {}}'), "if"),
        (Guide("json_schema", '{"type": "integer", "minimum": 5, "maximum": 3}'), "minimum"),
        (Guide("json_schema", '{"$ref": "#"}'), "no text satisfies it"),
        (Guide("json_schema", '{"$ref": "http://example.com/x"}'), "http://example.com/x"),
        (Guide("json_schema", '{"x-guidance": {"lenient": true}, "if": {}}'), "x-guidance"),
        (Guide("json_schema", '{"type": "string"'), "not JSON"),
        (Guide("json_schema", '{"maximum": NaN}'), "NaN"),
        (Guide("json_schema", "[" * 60_000), "not JSON"),
        (Guide("json_schema", '{"items": ' * 5000 + "{}" + "}" * 5000), "recursion"),
        (Guide("json_schema", "[]"), "JSON object"),
        (Guide("regex", "(a"), "unclosed group"),
        (Guide("regex", "(" * 30_000), "unclosed group"),
        (Guide("regex", "(?=a)b"), "look-around"),
        (Guide("grammar", 'start: "a" b'), "unknown name"),
        (Guide("grammar", "start: " + "(" * 30_000), "too deeply nested"),
        (Guide("structural_tag", '{"triggers": ["<a"]}'), "structures"),
        (
            Guide(
                "structural_tag",
                '{"structures": [{"begin": "<b>", "schema": {}, "end": ""}], "triggers": ["<a"]}',
            ),
            "no trigger",
        ),
    ],
)
async def test_what_cannot_be_followed_names_itself(
    subject: Subject, guide: Guide, named: str
) -> None:
    """One sentence says why, with the field as parameter, and other requests go on."""
    _needs(subject, guide.kind)
    failure = await _failure(subject, guide=guide)

    assert (failure.reason, failure.param) == (_INVALID, guide.param)
    assert not subject.words_refused_guides or named in failure.message
    assert 10 < len(failure.message) < 1000


async def test_a_long_guide_is_refused_at_once(subject: Subject) -> None:
    """The refusal tells both sizes."""
    _needs(subject, "regex")
    with pytest.raises(ServiceError, match=r"has 1100000 bytes; at most \d+ are") as refused:
        subject.engine.submit(subject.request(guide=Guide("regex", "a" * 1_100_000)), TimedSink())

    assert refused.value.param == "guide.regex"


async def test_aborts_while_guides_are_compiled(subject: Subject) -> None:
    """Some outputs or all: those aborted stay silent, the others follow their guide."""
    _needs(subject, "regex")
    sink = TimedSink()
    first, second = (
        subject.request(guide=Guide("regex", f"[xy]{{{size}}}"), n=3) for size in (3, 4)
    )
    for request in (first, second):
        subject.engine.submit(request, sink)
    subject.engine.abort(sink, first.keys)
    subject.engine.abort(sink, second.keys[:1])
    await sink.all_ended(*second.keys[1:])

    assert sink.token_ids.keys() == set(second.keys[1:])
    for key in second.keys[1:]:
        assert re.fullmatch("[xy]{4}", subject.decode(sink.token_ids[key]))
    assert subject.engine.load.queued_outputs == 0


async def test_random_schemas(subject: Subject) -> None:
    """Of a dozen every answer validates, was cut, or its schema was refused by name."""
    await _validate_schemas(subject, range(12), least_whole=0.6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_many_random_schemas(subject: Subject) -> None:
    """The same of 500."""
    await _validate_schemas(subject, range(1000, 1500), least_whole=0.7)


async def _validate_schemas(subject: Subject, seeds: range, *, least_whole: float) -> None:
    _needs(subject, "json_schema")
    whole = refused = 0
    for begin in range(0, len(seeds), 12):
        schemas = [_seeded_schema(seed) for seed in seeds[begin : begin + 12]]
        sink = TimedSink()
        requests = [_schema_request(subject, schema) for schema in schemas]
        for request in requests:
            subject.engine.submit(request, sink)
        await sink.all_ended(*(request.first_key for request in requests))
        for request, schema in zip(requests, schemas, strict=True):
            ended = sink.ended[request.first_key]
            if ended.error is not None:
                assert (ended.error.reason, ended.error.param) == (_INVALID, "guide.json_schema")
                refused += 1
            elif ended.finish_reason == FINISH_REASON_STOP:
                text = subject.decode(sink.token_ids[request.first_key])
                jsonschema.validate(json.loads(text), schema)
                whole += 1
    assert whole >= least_whole * len(seeds)
    assert refused <= 0.15 * len(seeds)


def _seeded_schema(seed: int) -> Schema:
    chance = random.Random(seed)
    return recursive_schema(chance) if seed % 10 == 0 else random_schema(chance)


def _schema_request(subject: Subject, schema: Schema) -> EngineRequest:
    guide = Guide("json_schema", json.dumps(schema))
    fields = {"guide": guide, "sampling": SamplingParams(seed=1), "max_tokens": 200}
    return subject.request(subject.chat("Answer in JSON."), **fields)


async def _failure(subject: Subject, **fields: object) -> ServiceError:
    sink = TimedSink()
    request = subject.request(**fields)
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)
    error = sink.ended[request.first_key].error
    assert error is not None
    assert sink.token_ids == {}
    assert (await subject.generate(max_tokens=2)).ended.error is None
    return error
