"""Templates: what Hugging Face's use, what they may not do, and their bounds."""

from datetime import UTC, datetime

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from tokenizer_svc.chat_template import (
    ChatTemplate,
    RenderBounds,
    render_json,
    special_token_variables,
)

NOW = datetime(2026, 3, 4, tzinfo=UTC)
MESSAGES = [{"role": "user", "content": "Hi <b>"}, {"role": "assistant", "content": None}]


def template(source: str, **bounds: float) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<s>"}, RenderBounds(**bounds), now=lambda: NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}", "<s>Hi <b>"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi <b>"}'),
        ("{% if true %}\n  {% if true %}\nx\n  {% endif %}\n{% endif %}", "x\n"),
        ("{% for m in messages %}{% break %}{% endfor %}.", "."),
        (
            "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "02",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "04 Mar 2026"),
        ("{% generation %}{% set x = 1 %}a{% endgeneration %}{{ x }}", "a"),
        ("{{ messages[1].content is none }} {{ tools is none }}", "True True"),
        ("{{ add_generation_prompt }} {{ unset_variable }}", "True "),
        (
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
                "{% endfor %}{{ ns.n }}"
            ),
            "2",
        ),
    ],
)
def test_templates_have_what_they_use(source: str, text: str) -> None:
    """Filters, tags, globals and whitespace are as Hugging Face's templates expect."""
    assert template(source).render(MESSAGES) == text


def test_json_is_not_escaped() -> None:
    """Neither HTML nor characters beyond ASCII are escaped, and indent is honoured."""
    assert render_json({"a": "<é>"}) == '{"a": "<é>"}'
    assert render_json({"b": 1, "a": 2}, indent=1, sort_keys=True) == '{\n "a": 2,\n "b": 1\n}'


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 'a' + messages[1].content }}", "concatenate"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "is unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_what_a_template_raises_is_the_callers_error(source: str, part: str) -> None:
    """The request is refused with the template's message, naming messages."""
    with pytest.raises(ServiceError, match=part) as caught:
        template(source).render(MESSAGES)

    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000000) %}{% endfor %}",
        (
            "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = i %}{% endfor %}"
            "{% endfor %}"
        ),
        "{{ range(1000000000) | list | length }}",
        "{% for i in range(100000000) %}x{% endfor %}",
    ],
)
def test_time_is_bounded(source: str) -> None:
    """A render that does not end is ended."""
    with pytest.raises(ServiceError, match="took too long"):
        template(source, max_seconds=0.05).render(MESSAGES)


def test_output_is_bounded() -> None:
    """A render that writes too much is ended at the bound."""
    with pytest.raises(ServiceError, match="wrote more than 100 characters"):
        template("{% for i in range(60) %}ab{% endfor %}", max_characters=100).render(MESSAGES)


@pytest.mark.parametrize("source", ["{{ 'ab' * 10000000 }}", "{{ [1] * 9000000 }}", "{{ 9 ** 9 }}"])
def test_huge_values_are_refused(source: str) -> None:
    """Repetition and powers cannot make a value that fills the memory."""
    with pytest.raises(ServiceError, match="value that is too large"):
        template(source).render(MESSAGES)


def test_a_template_that_cannot_be_compiled_stops_the_start() -> None:
    """The start ends with one sentence."""
    with pytest.raises(StartError, match="chat template cannot be compiled: unexpected"):
        template("{% if }")


def test_special_token_variables_are_texts() -> None:
    """Both spellings of tokenizer_config.json are read; what is no token is not."""
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None, "x": "y"}

    assert special_token_variables(config) == {"bos_token": "<s>", "eos_token": "</s>"}
