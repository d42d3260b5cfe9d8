"""GenerationRequest to EngineRequest: every field, every bound, every neutral value."""

import dataclasses
import math
from collections.abc import Callable

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import GenerationRequest, Guide, LogitBias, SamplingParams
from tests.support.models import fake_model
from tests.support.raw_attach import generation
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import EngineRequest, ModelInfo
from worker.request_mapping import OPTIONAL_FIELDS, engine_request

ALL = PacedEngine(fake_model(), PacedSettings()).info
NONE = dataclasses.replace(ALL, honoured_fields=frozenset())
CONTEXT = ALL.context_length
VOCABULARY = ALL.vocabulary_size

INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
CONTEXT_LENGTH = errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
UNSUPPORTED = errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER


def mapped(info: ModelInfo = ALL, **fields: object) -> EngineRequest:
    """The engine's request for a small one with these fields."""
    return engine_request(generation(**fields), 1, info)


def sampled(**params: object) -> EngineRequest:
    """The engine's request for these sampling parameters."""
    return mapped(sampling=SamplingParams(**params))


def refusal(action: Callable[[], object]) -> ServiceError:
    """What is refused."""
    with pytest.raises(ServiceError) as caught:
        action()
    return caught.value


FIELDS: dict[str, tuple[object, object]] = {
    "request_id": ("another", "another"),
    "prompt_token_ids": ([1, 2], (1, 2)),
    "output_prefix_token_ids": ([8, 9], (8, 9)),
    "output_index": (127, 127),
    "stop_token_ids": ([3, 4, 3], frozenset({3, 4})),
    "ignore_eos": (True, True),
    "min_tokens": (4, 4),
    "max_tokens": (7, 7),
    "n": (3, 3),
    "logprobs": (0, 0),
    "cache_salt": ("tenant", "tenant"),
    "priority": (-5, -5),
}
SAMPLING: dict[str, tuple[object, object]] = {
    "temperature": (0.5, 0.5),
    "top_p": (0.25, 0.25),
    "top_k": (40, 40),
    "min_p": (0.125, 0.125),
    "presence_penalty": (-1.5, -1.5),
    "frequency_penalty": (1.5, 1.5),
    "repetition_penalty": (1.25, 1.25),
    "seed": (-(2**63), -(2**63)),
    "logit_bias": ([LogitBias(token_id=3, bias=-100)], ((3, -100.0),)),
}
# Read elsewhere, or checked only: shown by the tests below and in tests/contract.
OTHER = {"model", "sampling", "guide", "remaining_ms", "traceparent", "tracestate"}


def test_the_tables_of_this_test_are_complete() -> None:
    """A new field of the request or of its sampling parameters fails here until it is tested."""
    assert {f.name for f in GenerationRequest.DESCRIPTOR.fields} == set(FIELDS) | OTHER
    assert {f.name for f in SamplingParams.DESCRIPTOR.fields} == set(SAMPLING)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_changes_the_engine_request(name: str) -> None:
    """A field that is set arrives, and nothing but that field changes."""
    value, expected = FIELDS[name]
    base, changed = mapped(), mapped(**{name: value})

    assert expected == getattr(changed, name) != getattr(base, name)
    assert dataclasses.replace(base, **{name: expected}) == changed


@pytest.mark.parametrize("name", SAMPLING)
def test_each_sampling_parameter_arrives(name: str) -> None:
    """As above, of the sampling parameters."""
    value, expected = SAMPLING[name]
    base, changed = mapped(), sampled(**{name: value})

    assert expected == getattr(changed.sampling, name) != getattr(base.sampling, name)
    sampling = dataclasses.replace(base.sampling, **{name: expected})
    assert dataclasses.replace(base, sampling=sampling) == changed


def test_unset_fields_have_the_documented_defaults() -> None:
    """One output, drawn at temperature 1, to the end of the context."""
    request = engine_request(GenerationRequest(request_id="r", prompt_token_ids=[1, 2]), 7, NONE)

    assert CONTEXT - 2 == request.max_tokens
    assert (1, 0, None, 0, False) == (
        request.n,
        request.min_tokens,
        request.logprobs,
        request.priority,
        request.ignore_eos,
    )
    assert (1.0, 1.0, 0, 0.0, 1.0, None) == (
        request.sampling.temperature,
        request.sampling.top_p,
        request.sampling.top_k,
        request.sampling.min_p,
        request.sampling.repetition_penalty,
        request.sampling.seed,
    )
    assert [7] == list(request.keys)


NEUTRAL: dict[str, dict[str, object]] = {
    "sampling.temperature": {"sampling": SamplingParams(temperature=1)},
    "sampling.top_p": {"sampling": SamplingParams(top_p=1)},
    "sampling.top_k": {"sampling": SamplingParams(top_k=0)},
    "sampling.min_p": {"sampling": SamplingParams(min_p=0)},
    "sampling.presence_penalty": {"sampling": SamplingParams(presence_penalty=0)},
    "sampling.frequency_penalty": {"sampling": SamplingParams(frequency_penalty=0)},
    "sampling.repetition_penalty": {"sampling": SamplingParams(repetition_penalty=1)},
    "sampling.logit_bias": {"sampling": SamplingParams(logit_bias=[])},
    "output_prefix_token_ids": {"output_prefix_token_ids": []},
    "stop_token_ids": {"stop_token_ids": []},
    "ignore_eos": {"ignore_eos": False},
    "min_tokens": {"min_tokens": 0},
    "cache_salt": {"cache_salt": ""},
    "priority": {"priority": 0},
}
USES: dict[str, dict[str, object]] = {
    "sampling.temperature": {"sampling": SamplingParams(temperature=0)},
    "sampling.top_p": {"sampling": SamplingParams(top_p=0)},
    "sampling.top_k": {"sampling": SamplingParams(top_k=1)},
    "sampling.min_p": {"sampling": SamplingParams(min_p=0.1)},
    "sampling.presence_penalty": {"sampling": SamplingParams(presence_penalty=1)},
    "sampling.frequency_penalty": {"sampling": SamplingParams(frequency_penalty=-1)},
    "sampling.repetition_penalty": {"sampling": SamplingParams(repetition_penalty=1.5)},
    "sampling.seed": {"sampling": SamplingParams(seed=0)},
    "sampling.logit_bias": {"sampling": SamplingParams(logit_bias=[LogitBias()])},
    "output_prefix_token_ids": {"output_prefix_token_ids": [1]},
    "stop_token_ids": {"stop_token_ids": [1]},
    "ignore_eos": {"ignore_eos": True},
    "min_tokens": {"min_tokens": 1},
    "logprobs": {"logprobs": 0},
    "guide.json_schema": {"guide": Guide(json_schema="{}")},
    "guide.json_object": {"guide": Guide(json_object=True)},
    "guide.regex": {"guide": Guide(regex="a")},
    "guide.grammar": {"guide": Guide(grammar="start: A")},
    "guide.structural_tag": {"guide": Guide(structural_tag="{}")},
    "guide.choice": {"guide": Guide(choice={"alternatives": ["a"]})},
    "cache_salt": {"cache_salt": "s"},
    "priority": {"priority": 1},
}


def test_every_optional_field_is_in_the_table_of_uses() -> None:
    """A field that engines may refuse fails here until its use is tested; guides are all in it."""
    guides = {f"guide.{field.name}" for field in Guide.DESCRIPTOR.fields}

    assert set(OPTIONAL_FIELDS) == set(USES)
    assert guides <= set(OPTIONAL_FIELDS)


@pytest.mark.parametrize("name", USES)
def test_a_use_of_what_is_not_honoured_is_refused_by_name(name: str) -> None:
    """An engine that honours everything else refuses this, naming it and itself."""
    info = dataclasses.replace(ALL, honoured_fields=frozenset(OPTIONAL_FIELDS) - {name})
    error = refusal(lambda: mapped(info, **USES[name]))

    assert (UNSUPPORTED, name) == (error.reason, error.param)
    assert name in error.message
    assert "paced" in error.message


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_value_is_not_a_use(name: str) -> None:
    """What changes nothing is accepted by an engine that honours nothing."""
    assert mapped(NONE) == mapped(NONE, **NEUTRAL[name])


GUIDES = dataclasses.replace(ALL, honoured_fields=frozenset(OPTIONAL_FIELDS))


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (Guide(json_schema="{}"), "{}"),
        (Guide(json_object=True), ""),
        (Guide(regex="a"), "a"),
        (Guide(grammar="start: A"), "start: A"),
        (Guide(structural_tag="{}"), "{}"),
        (Guide(choice={"alternatives": ["a", 'ü"']}), '["a", "ü\\""]'),
    ],
)
def test_a_guide_keeps_kind_and_text(wire: Guide, text: str) -> None:
    """Each kind reaches an engine that honours it, with its text as it came."""
    guide = mapped(GUIDES, guide=wire).guide

    assert guide is not None
    assert (wire.WhichOneof("kind"), text) == (guide.kind, guide.text)
    assert guide.param == f"guide.{guide.kind}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guide": Guide()}, "guide"),
        ({"guide": Guide(json_object=False)}, "guide.json_object"),
        ({"guide": Guide(regex="")}, "guide.regex"),
        ({"guide": Guide(json_schema="")}, "guide.json_schema"),
        ({"guide": Guide(choice={"alternatives": []})}, "guide.choice"),
        ({"guide": Guide(choice={"alternatives": ["a", ""]})}, "guide.choice"),
        ({"guide": Guide(regex="a"), "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_a_guide_that_says_nothing_is_refused(fields: dict[str, object], param: str) -> None:
    """No kind, an empty text, no alternative, or an end that is not to be: refused by name."""
    error = refusal(lambda: mapped(GUIDES, **fields))

    assert (INVALID, param) == (error.reason, error.param)


RANGES = [
    ("temperature", 0.0, 2.0),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("repetition_penalty", 2.0**-20, 2.0),
]


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
def test_sampling_ranges_include_their_ends(name: str, least: float, most: float) -> None:
    """The documented ends are accepted."""
    assert least == getattr(sampled(**{name: least}).sampling, name)
    assert most == getattr(sampled(**{name: most}).sampling, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, least, most in RANGES
        for value in (
            -0.001 if least > 0 else least - 0.001,
            most + 0.001,
            math.nan,
            math.inf,
            -math.inf,
            3e38,
        )
    ]
    + [("repetition_penalty", 0.0)],
)
def test_what_is_outside_a_range_or_no_number_is_refused(name: str, value: float) -> None:
    """Values beyond the ends, NaN and infinities are refused by name."""
    error = refusal(lambda: sampled(**{name: value}))

    assert (INVALID, f"sampling.{name}") == (error.reason, error.param)
    assert name in error.message


@pytest.mark.parametrize("bias", [-100.5, 100.5, math.nan, math.inf, -math.inf])
def test_logit_bias_is_bounded(bias: float) -> None:
    """A bias beyond 100, an unknown token and more than 300 entries are refused; the ends hold."""
    entries = [LogitBias(token_id=i, bias=100 if i % 2 else -100) for i in range(300)]
    error = refusal(lambda: sampled(logit_bias=[LogitBias(token_id=1, bias=bias)]))
    unknown = refusal(lambda: sampled(logit_bias=[LogitBias(token_id=VOCABULARY, bias=1)]))
    many = refusal(lambda: sampled(logit_bias=[*entries, LogitBias()]))

    assert 300 == len(sampled(logit_bias=entries).sampling.logit_bias)
    for found in (error, unknown, many):
        assert (INVALID, "sampling.logit_bias") == (found.reason, found.param)
    assert str(VOCABULARY) in unknown.message
    assert "301" in many.message


BEYOND = [
    ("model", {"model": "other"}, errors_pb2.ERROR_REASON_MODEL_NOT_FOUND),
    ("request_id", {"request_id": ""}, INVALID),
    ("request_id", {"request_id": "x" * 129}, INVALID),
    ("prompt_token_ids", {"prompt_token_ids": []}, INVALID),
    ("prompt_token_ids", {"prompt_token_ids": [1, VOCABULARY]}, INVALID),
    ("prompt_token_ids", {"prompt_token_ids": [2**32 - 1]}, INVALID),
    ("output_prefix_token_ids", {"output_prefix_token_ids": [VOCABULARY]}, INVALID),
    ("output_index", {"output_index": 128}, INVALID),
    ("output_prefix_token_ids", {"output_prefix_token_ids": [1] * 9}, INVALID),
    ("n", {"output_prefix_token_ids": [1], "n": 2}, INVALID),
    ("stop_token_ids", {"stop_token_ids": [VOCABULARY]}, INVALID),
    ("stop_token_ids", {"stop_token_ids": range(65)}, INVALID),
    ("min_tokens", {"min_tokens": 10}, INVALID),
    ("max_tokens", {"max_tokens": 0}, INVALID),
    ("max_tokens", {"max_tokens": CONTEXT - 2}, CONTEXT_LENGTH),
    ("max_tokens", {"max_tokens": 2**32 - 1}, CONTEXT_LENGTH),
    ("max_tokens", {"prompt_token_ids": [1] * CONTEXT}, CONTEXT_LENGTH),
    ("n", {"n": 0}, INVALID),
    ("n", {"n": 129}, INVALID),
    ("n", {"n": 2**32 - 1}, INVALID),
    ("logprobs", {"logprobs": 21}, INVALID),
    ("cache_salt", {"cache_salt": "x" * 257}, INVALID),
    ("cache_salt", {"cache_salt": "ü" * 129}, INVALID),
    ("priority", {"priority": 1001}, INVALID),
    ("priority", {"priority": -1001}, INVALID),
    ("tracestate", {"tracestate": "x" * 513}, INVALID),
]


@pytest.mark.parametrize(("param", "fields", "reason"), BEYOND)
def test_bounds_are_refused_by_name(param: str, fields: dict[str, object], reason: int) -> None:
    """One step beyond a bound is refused with the parameter's name in message and param."""
    error = refusal(lambda: mapped(**fields))

    assert (reason, param) == (error.reason, error.param)
    assert error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "tiny"},
        {"request_id": "ü" * 128},
        {"prompt_token_ids": [0, VOCABULARY - 1]},
        {"output_prefix_token_ids": [1] * 8},
        {"stop_token_ids": range(64)},
        {"min_tokens": 9},
        {"max_tokens": 1},
        {"max_tokens": CONTEXT - 3},
        {"prompt_token_ids": [1] * (CONTEXT - 9)},
        {"n": 1},
        {"n": 128},
        {"logprobs": 20},
        {"cache_salt": "ü" * 128},
        {"priority": 1000},
        {"priority": -1000},
        {"tracestate": "x" * 512},
        {"traceparent": "not one"},
        {"remaining_ms": 2**64 - 1},
    ],
)
def test_bounds_themselves_are_accepted(fields: dict[str, object]) -> None:
    """The last value inside each bound is served."""
    assert mapped(**fields).first_key == 1


def test_a_prompt_that_fills_the_context_is_refused_though_no_length_was_asked_for() -> None:
    """Without max_tokens the prompt is at fault."""
    wire = GenerationRequest(request_id="r", prompt_token_ids=[1] * CONTEXT)
    error = refusal(lambda: engine_request(wire, 1, ALL))

    assert (CONTEXT_LENGTH, "prompt_token_ids") == (error.reason, error.param)
    assert str(CONTEXT) in error.message
