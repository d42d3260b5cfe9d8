"""Templates that loop or grow: each is refused within its time, its characters and its memory."""

import resource
import sys
from collections.abc import Sequence
from time import monotonic

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.template_budget import BoundsExceededError, RenderBounds, RenderBudget

MESSAGES = [{"role": "user", "content": "Hi <b>"}, {"role": "assistant", "content": None}]
# A namespace whose x is a text of 2 million characters.
BIG = (
    "{% set ns = namespace(x='ab') %}"
    "{% for i in range(20) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
)
# A list that is small in memory and endless when it is written.
NESTED = (
    "{% set ns = namespace(l=[1]) %}"
    "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
)
SMALL = RenderBounds(max_seconds=0.3, max_characters=4_000_000, max_bytes=64_000_000)


def refusal(source: str, bounds: RenderBounds = SMALL) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        ChatTemplate(source, {}, bounds).render(MESSAGES)
    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert caught.value.param == "messages"
    return caught.value


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in 'x' * 99999 %}{% for j in 'x' * 99999 %}{% endfor %}{% endfor %}",
        "{% for i in 'x' * 99999 %}{% for j in 'x' * 99999 if false %}{% endfor %}{% endfor %}",
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}"
        ),
        (BIG + "{% set y = (ns.x[:999999] | list) %}" + "{% if y == y + [] %}{% endif %}" * 3000),
        (
            "{% set ns = namespace(g=(range(99999) | list) * 9) %}{% for i in range(60) %}"
            "{% set ns.g = ns.g | select('defined') %}{% endfor %}"
            "{{ ns.g | select('none') | list }}"
        ),
        BIG + "{% for i in range(100000) %}{% set y = ns.x.find('c') %}{% endfor %}",
    ],
)
def test_time_is_bounded(source: str) -> None:
    """A render that does not end is ended soon after its time, whatever it spends it on."""
    begin = monotonic()

    error = refusal(source, RenderBounds(max_seconds=0.2))

    assert "took too long" in error.message
    assert monotonic() - begin < 10  # far from the hours that these would take


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * [1] }}",
        "{{ ('x' | safe) * 1000000000 }}",
        "{{ 9 ** 999999999 }}",
        (
            "{% set ns = namespace(n=9) %}"
            "{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}"
        ),
        BIG + "{% for i in range(9) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        BIG + "{% for i in range(9) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x = [1] %}" + "{% set x = x + x %}" * 40,
        "{% set x %}a{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
        "{{ 'x' | center(1000000000) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'.zfill(1000000000) }}",
        "{{ 'x' | indent(1000000000, true) }}",
        BIG + "{{ 'x\n\n\n' | indent(ns.x) }}",
        BIG + "{{ ns.x.replace('', ns.x) }}",
        BIG + "{{ ns.x | replace('a', ns.x) }}",
        BIG + "{{ ns.x.join(ns.x) }}",
        BIG + "{{ ns.x | join(ns.x) }}",
        BIG + "{{ [ns.x, ns.x, ns.x] | join }}",
        BIG + "{{ '%s%s%s' % (ns.x, ns.x, ns.x) }}",
        BIG + "{{ '%s%s%s' | format(ns.x, ns.x, ns.x) }}",
        BIG + "{{ '{0}{0}{0}'.format(ns.x) }}",
        BIG + "{% set m %}{% for i in range(99) %}{{ ns.x }}{% endfor %}{% endset %}",
        BIG + "{% macro f() %}{{ ns.x }}{{ ns.x }}{{ ns.x }}{% endmacro %}{% set m = f() %}",
        BIG + "{% filter upper %}{{ ns.x }}{{ ns.x }}{{ ns.x }}{% endfilter %}",
        BIG + "{{ ns.x | list | length }}",
        BIG + "{{ ns.x | sort | length }}",
        BIG + "{{ ns.x | join('-') }}",
        BIG + "{{ ns.x | max }}",
        BIG + "{{ ns.x | select('none') | list }}",
        BIG + "{{ ns.x.split('a') | length }}",
        BIG + "{{ ns.x.rsplit('a') | length }}",
        BIG + "{{ ns.x.replace('b', '\n').splitlines() | length }}",
        BIG + "{{ ns.x.replace('b', '\n') | indent(1) | length }}",
        "{% set ns = namespace(l=range(100000) | list) %}{{ (ns.l * 11) | length }}",
        "{% set x = range(99999) | list %}" + "{% set x = x + x %}" * 4 + "{{ x | length }}",
        "{{ range(10) | batch(1000000000, 'x') | list }}",
        "{{ range(10) | slice(1000000000) | list }}",
        NESTED + "{{ ns.l }}",
        NESTED + "{{ ns.l | tojson }}",
        NESTED + "{{ ns.l | string }}",
        NESTED + "{{ ns.l == [ns.l] }}",
        (
            "{% set ns = namespace(d=1) %}"
            "{% for i in range(60) %}{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}"
        ),
    ],
)
def test_values_are_bounded(source: str) -> None:
    """No operator, filter, method or block makes a value that fills the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert "a value that is too large" in refusal(source).message

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, "kilobytes"


@pytest.mark.parametrize(
    "source",
    [
        # Links of namespaces, which may hold what no container may.
        BIG
        + "{% set ns.h = 1 %}{% for i in range(99999) %}"
        + "{% set m = namespace(next=ns.h, v=ns.x ~ i) %}{% set ns.h = m %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set y = ns.x[i:] %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set y = ns.x.upper() %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set y = ns.x | lower %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set y = ns.x.split('q') %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set y %}{{ ns.x }}{% endset %}{% endfor %}",
    ],
)
def test_memory_is_bounded(source: str) -> None:
    """All that a render computes is counted, wherever it is kept."""
    assert "used more than 64000000 bytes" in refusal(source).message


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{{ '%1000000000d' % 1 }}", "format wider"),
        ("{{ '%*d' % (1000000000, 1) }}", "format wider"),
        ("{{ '%(a)1000000000d' % {'a': 1} }}", "format wider"),
        ("{{ '%.1000000000f' | format(1.0) }}", "format wider"),
        ("{{ '{:1000000000}'.format(1) }}", "format wider"),
        ("{{ '{:{}}'.format(1, 1000000000) }}", "format wider"),
        ("{{ '{a:1000000000}'.format_map({'a': 1}) }}", "format wider"),
        ("{{ 1 | round(-1000000000) }}", "rounded"),
        ("{{ messages | tojson(indent=1000000000) }}", "indented JSON"),
        ("{{ messages | tojson(separators=('x' * 1000, 'y')) }}", "JSON separators"),
        ("{{ [[1], [2]] | sum(start=[]) }}", "summed something else"),
        ("{{ range(9) | map('string') | join('x' * 1000) }}", "sequence of unknown length"),
        ("{{ strftime_now('%Y' * 1000) }}", "time format"),
        (BIG + "{{ ns.x.split() | length }}", "word by word"),
        (BIG + "{{ ns.x | wordcount }}", "word by word"),
        (BIG + "{{ ns.x | title }}", "word by word"),
        (BIG + "{{ ns.x | urlencode }}", "word by word"),
        (BIG + "{{ ns.x.strip(ns.x) }}", "searched backwards"),
        (BIG + "{{ ns.x | trim(ns.x) }}", "searched backwards"),
        (BIG + "{{ ns.x.rfind('b' ~ ns.x) }}", "searched backwards"),
        ("{{ '\t'.expandtabs(1000000000) }}", "method expandtabs"),
        ("{{ 'x'.translate({120: 'y'}) }}", "method translate"),
        ("{{ 'x'.encode('idna') }}", "method encode"),
        ("{{ (1).to_bytes(1000000000) }}", "method to_bytes"),
        ("{{ dict.fromkeys(range(9)) }}", "method fromkeys"),
        ("{% set ns = namespace() %}{{ ns }}", "namespace as a value"),
        ("{% set ns = namespace() %}{% set x = [ns] %}", "namespace as a value"),
    ],
)
def test_what_cannot_be_bounded_is_refused_by_name(source: str, part: str) -> None:
    """Wide formats, quadratic searches and the like are refused before they run."""
    assert part in refusal(source).message


def test_output_is_bounded() -> None:
    """A render that writes too much is ended at the bound."""
    error = refusal("{% for i in range(60) %}ab{% endfor %}", RenderBounds(max_characters=100))

    assert "wrote more than 100 characters" in error.message


def test_constants_are_not_computed_at_the_start() -> None:
    """What Jinja would compute while compiling is refused when it is rendered, and only then."""
    chat = ChatTemplate(
        "{% if messages | length > 9 %}{{ 'x' | center(999999999) }}{% endif %}.", {}, SMALL
    )

    assert chat.render(MESSAGES) == "."
    assert "too large" in refusal("{{ 'x' | center(999999999) }}").message


def test_bounds_are_of_one_render() -> None:
    """A template that uses nearly all of its memory may do so again in the next render."""
    chat = ChatTemplate(BIG + "{{ ns.x | length }}", {}, RenderBounds(max_bytes=8_000_000))

    assert [chat.render(MESSAGES) for _ in range(5)] == ["2097152"] * 5


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("abc", "abc"),
        ([1, "ab", [None]], "[1, 'ab', [None]]"),
        ({"a": ("b", 2)}, "{'a': ('b', 2)}"),
        ({"a": 1}.items(), "dict_items([('a', 1)])"),
        (10**50, str(10**50)),
    ],
)
def test_a_size_is_near_what_is_written(value: object, written: str) -> None:
    """Sizes neither hide what a value writes nor exaggerate it much."""
    size = RenderBudget(RenderBounds()).size(value)

    assert len(written) / 3 <= size <= 5 * len(written) + 64


def test_shared_elements_count_each_time() -> None:
    """A text that a list holds twice counts twice."""
    budget = RenderBudget(RenderBounds(max_characters=1000))
    row: Sequence[str] = ["x" * 100] * 4

    assert budget.size(row) > 400
    with pytest.raises(BoundsExceededError):
        budget.size([row, row, row])


def test_collecting_counts_what_it_makes() -> None:
    """A generator is collected only as far as the bounds reach."""
    budget = RenderBudget(RenderBounds(max_characters=1000))
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield sys.maxsize

    with pytest.raises(BoundsExceededError):
        budget.collected(endless())  # type: ignore[arg-type]
    assert taken < 1_001_000
