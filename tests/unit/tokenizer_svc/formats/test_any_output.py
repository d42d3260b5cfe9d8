"""Every parser on anything: nothing lost, nothing invented, however the output is cut."""

import json
import random
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokenizer_svc.formats.reading import (
    CATALOG,
    COMBINED,
    FORMATS,
    content,
    events_of,
    joined,
    parser,
    transcripts,
)
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formats.json_scanner import JsonScanner
from tokenizer_svc.formats.parser import MAX_HELD

ALL = (*FORMATS, *COMBINED)
FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", "[TOOL_CALLS]"),
    *("[ARGS]", "[CALL_ID]", "<function=", "</function>", "<parameter=", "</parameter>", "f>"),
    *('{"name": "f", "arguments": ', '{"name": "f", "parameters": {', '"name"', '"a": ', "{", "}"),
    *("[", "]", '"', "\\", "\\u00", ",", ":", ";", "\n", " ", "é", "😀", "1", "-", "null", "f"),
]
# What no event says: markers, blanks, and what is around the arguments of a call.
_JSON_STRING = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_HEAD = rf'[{{\[,;\s]*(?:"(?:name|id|type)"\s*:\s*{_JSON_STRING}\s*,?\s*)*'
_KEY = r'(?:"(?:arguments|parameters)"\s*:\s*)?(?:null|"(?:[^"\\]|\\.)*")?'
_TAIL = r'(?:\s*,\s*"(?:id|type|name)"\s*:\s*"(?:[^"\\]|\\.)*")*[\s}\];,]*'
_MARKS = r"(?:</?tool_call>?|<\|python_tag\|>|\[TOOL_CALLS\]|</?think>|</tool_cal?l?|</\w*|<|\s)*"
_NAMED = r"(?:[A-Za-z0-9_.:/-]+\s*(?:\[CALL_ID\]\s*[A-Za-z0-9_.:/-]+\s*)?(?:\[ARGS\])?\s*)?"
MARKUP = re.compile(rf"(?:{_TAIL}{_MARKS}(?:{_HEAD}{_KEY}|{_NAMED})){{1,9}}", re.DOTALL)
TAGS = re.compile(r"</?tool_call>?|<function=[^<>\s]*\s*>|</function>|</?parameter(=[^<>\s]*\s*)?>")


def gaps(text: str, events: list[OutputEvent]) -> Iterator[str]:
    """What no event says of the text; null for arguments that were made of it in this place."""
    at, made = 0, []
    for event in events:
        if event.kind is EventKind.ARGUMENTS and not event.width and event.text != "{}":
            made.append(event.text)
        if event.width:
            assert at <= event.start
            assert text[event.start : event.end] == event.text
            yield _without(text[at : event.start], made)
            at, made = event.end, []
    yield _without(text[at:], made)


def _without(gap: str, made: list[str]) -> str:
    for text in made:
        assert text in gap or json.dumps(text) in gap
        gap = gap.replace(text, "null", 1).replace(json.dumps(text), "null", 1)
    return gap


def check(name: str, text: str, cuts: list[int], *, inside: bool = False) -> None:
    """Whatever the text, all cuts say the same, and what is not said is markup."""
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    reader = parser(name, begins_inside=inside)
    events = events_of(reader, pieces)

    assert joined(events) == joined(events_of(parser(name, begins_inside=inside), [text]))
    assert reader.settled == len(text)
    assert all(a.end <= b.start for a, b in pairwise(events))
    _check_nothing_lost(name, text, events)
    _check_arguments(events)


def _check_nothing_lost(name: str, text: str, events: list[OutputEvent]) -> None:
    has_call = any(event.kind is EventKind.CALL_BEGIN for event in events)
    thinks = name.startswith(("qwen3+", "deepseek")) or name == "qwen3"
    if not has_call and not thinks:
        assert content(events) == text
    elif name == "qwen3_coder":
        _check_values(text)
    elif "qwen3_coder" not in name:
        for gap in gaps(text, events):
            assert MARKUP.fullmatch(gap), gap


def _check_values(text: str) -> None:
    """Of calls with bare values, what is not said is tags, the values taken out."""
    found = CATALOG.find("qwen3_coder")
    assert found is not None
    events = events_of(found.parser({}, begins_in_reasoning=False), [text])
    rest, at = "", 0
    for event in events:
        if event.width:
            rest, at = rest + text[at : event.start], event.end
    rest, at = rest + text[at:], 0
    for kind, arguments, _ in joined(events):
        for value in _strings(arguments) if kind == "arguments" else ():
            place = rest.index(value, at)
            rest, at = rest[:place] + rest[place + len(value) :], place
    assert not TAGS.sub("", rest).strip()


def _strings(arguments: str) -> list[str]:
    for end in ("", "}", '"}'):
        try:
            return list(json.loads(arguments + end).values())
        except ValueError:
            continue
    raise AssertionError(arguments)


def _check_arguments(events: list[OutputEvent]) -> None:
    ended = {event.call for event in events if event.kind is EventKind.CALL_END}
    begun = [event.call for event in events if event.kind is EventKind.CALL_BEGIN]
    broken = {event.call for event in events if event.kind is EventKind.CALL_BROKEN}

    assert begun == list(range(len(begun)))
    assert ended.isdisjoint(broken)
    assert ended | broken == set(begun)
    for call in ended:
        parts = [e.text for e in events if e.kind is EventKind.ARGUMENTS and e.call == call]
        assert isinstance(json.loads("".join(parts)), dict)


@pytest.mark.parametrize("name", ALL)
@given(
    text=st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=30),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
    inside=st.booleans(),
)
def test_fragments_of_markup(name: str, text: list[str], cuts: list[int], inside: bool) -> None:
    """Fragments of every format in any order."""
    check(name, "".join(text), cuts, inside=inside)


WRITTEN_BY_HAND = [entry["output"] for _, entry in transcripts()]


def _random_text(draw: random.Random) -> str:
    chance = draw.random()
    if chance < 0.2:
        return draw.randbytes(draw.randrange(80)).decode("utf-8", "replace")
    if chance < 0.6:
        return _spoiled(draw, draw.choice(WRITTEN_BY_HAND))
    parts = [draw.choice(FRAGMENTS) for _ in range(draw.randrange(20))]
    parts.append(draw.randbytes(draw.randrange(6)).decode("utf-8", "replace"))
    draw.shuffle(parts)
    return "".join(parts)


def _spoiled(draw: random.Random, text: str) -> str:
    """An output that a model might write, with up to three places changed."""
    for _ in range(draw.randrange(4)):
        start = draw.randrange(len(text) + 1)
        other = draw.choice([*FRAGMENTS, *WRITTEN_BY_HAND, ""])
        text = text[:start] + other + text[start + draw.randrange(4) :]
    return text


def _check_many(name: str, count: int) -> None:
    draw = random.Random(name)
    for _ in range(count):
        cuts = [draw.randrange(300) for _ in range(draw.randrange(6))]
        check(name, _random_text(draw), cuts, inside=draw.random() < 0.5)


@pytest.mark.parametrize("name", ALL)
def test_random_bytes(name: str) -> None:
    """Bytes and markup at random: 500 outputs of each format."""
    _check_many(name, 500)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ALL)
def test_very_many_random_bytes(name: str) -> None:
    """The same, 100,000 outputs of each format."""
    _check_many(name, 100_000)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3)
    ),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(
    st.text(max_size=5) | st.sampled_from(FRAGMENTS), JSON_VALUES, max_size=3
)
WRITTEN = {
    "hermes": '<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>',
    "llama3_json": '<|python_tag|>{{"name": {name}, "parameters": {arguments}}}',
    "mistral": '[TOOL_CALLS][{{"name": {name}, "arguments": {arguments}}}]',
}


@pytest.mark.parametrize("name", WRITTEN)
@given(
    calls=st.lists(st.tuples(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), ARGUMENTS), max_size=3),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 2),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
)
def test_what_was_written_is_read(
    name: str,
    calls: list[tuple[str, dict[str, object]]],
    ascii_only: bool,
    indent: int | None,
    cuts: list[int],
) -> None:
    """Calls with any arguments come out as they are, whatever their strings hold."""
    dumped = [(n, json.dumps(a, ensure_ascii=ascii_only, indent=indent)) for n, a in calls]
    texts = [
        WRITTEN[name].format(name=json.dumps(function), arguments=arguments)
        for function, arguments in dumped
    ]
    text = "Well." + "\n".join(texts)
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(borders)]
    expected: list[tuple[str, str, int]] = [("content", "Well.", -1)]
    for call, (function, arguments) in enumerate(dumped):
        expected += [("call_begin", function, call), ("arguments", arguments, call)]
        expected.append(("call_end", "", call))

    assert joined(events_of(parser(name), pieces)) == expected


@given(text=st.text(alphabet='{}[]",:\\u0123456789abcdefE+-. trnl\n', max_size=25))
def test_the_scanner_takes_what_json_takes(text: str) -> None:
    """Objects and arrays are complete for the scanner exactly where they are for Python."""
    text = "[" + text
    scanner = JsonScanner()
    end = scanner.scan(text, 0, len(text))
    is_whole = scanner.is_done and not scanner.is_broken and not text[end:].strip(" \t\r\n")
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        assert not is_whole
    else:
        assert is_whole


@given(value=JSON_VALUES, data=st.data())
def test_the_scanner_on_json(value: object, data: st.DataObject) -> None:
    """Every JSON value is taken, in any two pieces."""
    text = json.dumps(value) + " "
    cut = data.draw(st.integers(0, len(text)))
    scanner = JsonScanner()
    end = scanner.scan(text, 0, cut)
    end = scanner.scan(text, end, len(text))

    assert scanner.is_done
    assert end == len(text) - 1


@pytest.mark.parametrize("size", [1000, 10**9])
@pytest.mark.parametrize(
    ("name", "text", "begun"),
    [
        ("hermes", '<tool_call>{"arguments": {"a": "' + "x" * MAX_HELD, ""),
        ("hermes", "<tool_call>" + " " * MAX_HELD, ""),
        ("mistral", "[TOOL_CALLS]" + "x" * MAX_HELD, ""),
        ("llama3_json", " " * MAX_HELD + "{}", ""),
        ("qwen3_coder", "<function=f><parameter=o>" + "x" * MAX_HELD, "<function=f>"),
    ],
)
def test_what_waits_is_bounded(name: str, text: str, begun: str, size: int) -> None:
    """A call that is not decided within the bound is content, however it was cut."""
    reader, events = parser(name), []
    text += "more"
    for start in range(0, len(text), size):
        events += reader.feed(text[start : start + size])
        assert start + min(size, len(text)) - reader.settled <= max(MAX_HELD, len(text) - size)
    events += reader.finish()
    rest = content(events)

    assert text.startswith(begun)
    assert rest in (text, text[len(begun + "<parameter=o>") :])


def test_arguments_of_any_length_are_streamed() -> None:
    """Nothing of an object waits once its call is sure."""
    reader = parser("hermes")
    reader.feed('<tool_call>{"name": "f", "arguments": {"a": "')
    for _ in range(40):
        reader.feed("x" * 10_000)

    assert reader.settled == len('<tool_call>{"name": "f", "arguments": {"a": "') + 400_000
