"""Templates: what Hugging Face's use, what they may not do, and their bounds."""

from datetime import UTC, datetime

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from tokenizer_svc.chat_template import ChatTemplate, render_json, special_token_variables
from tokenizer_svc.template_budget import RenderBounds

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
        ("{{ strftime_now('%d %b %Y') }}{{ strftime_now('%Z') }}", "04 Mar 2026"),
        (
            "{{ range(5)[1:3] | list }} {{ range(4) | length }} {{ messages[-1:] | length }}",
            "[1, 2] 4 1",
        ),
        (
            "{{ 'a' ~ 1 ~ none ~ unset }} {{ ('%s-%02d' % ('x', 7)) }} {{ '{:>3}'.format(1) }}",
            "a1None x-07   1",
        ),
        (
            "{{ 2 ** 10 }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ 'b' in ['a', 'b'] }}",
            "1024 abab [1, 2] True",
        ),
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
        ("{{ ''['__class__'].mro() }}", "unsafe"),
        ("{{ '{0.__class__.__base__.x}'.format(1) }}", "unsafe"),
        ("{{ ('' | attr('__class__')).x }}", "unsafe"),
        ("{{ ([''] | map(attribute='__class__') | first).x }}", "unsafe"),
        ("{{ raise_exception.__globals__.x }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ messages[0].update({'role': 'system'}) }}", "is unsafe"),
        ("{{ range(100001) }}", "Range too big"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% block a %}{{ self.a() }}{% endblock %}", "recursion"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
    ],
)
def test_what_a_template_raises_is_the_callers_error(source: str, part: str) -> None:
    """The request is refused with the template's message, naming messages."""
    with pytest.raises(ServiceError, match=part) as caught:
        template(source).render(MESSAGES)

    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert caught.value.param == "messages"


def test_a_refusal_is_of_readable_length() -> None:
    """What a template raises is cut to what a person can read."""
    with pytest.raises(ServiceError) as caught:
        template("{{ raise_exception(messages[0].content * 100000) }}").render(MESSAGES)

    assert len(caught.value.message) < 1100


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{% if }", "cannot be compiled: unexpected"),
        ("{% include 'other' %}", "tag include is not offered"),
        ("{% import 'other' as other %}", "tag import is not offered"),
        ("{% from 'other' import a %}", "tag from is not offered"),
        ("{% extends 'other' %}", "tag extends is not offered"),
        ("{% if true %}{% autoescape true %}{% endautoescape %}{% endif %}", "tag autoescape"),
        ("{{ 'a' | urlize }}", "No filter named 'urlize'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
        ("{% for a in b %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
        ("{{ " + "9" * 10_000 + " }}", "integer string conversion"),
        ("x" * 1_100_000, "1100000 characters; at most 1048576"),
    ],
)
def test_a_template_that_cannot_be_compiled_stops_the_start(source: str, part: str) -> None:
    """The start ends with one sentence."""
    with pytest.raises(StartError, match=part):
        template(source)


def test_special_token_variables_are_texts() -> None:
    """Both spellings of tokenizer_config.json are read; what is no token is not."""
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None, "x": "y"}

    assert special_token_variables(config) == {"bos_token": "<s>", "eos_token": "</s>"}
