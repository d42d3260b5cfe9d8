"""Any token ids in any format: what is said, and where an output can go on."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.rpc.errors import ServiceError
from tests.support.tokenizer_models import train_metaspace_tokenizer, train_tokenizer
from tests.unit.tokenizer_svc.formats.reading import COMBINED, FORMATS, TOOL_TYPES, joined
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.encoding import TextEncoder
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formats.events import OutputEvent
from tokenizer_svc.formatted_detokenizer import FormatRules, FormattedDetokenizer
from tokenizer_svc.spelling_detokenizer import MAX_HELD
from tokenizer_svc.vocabulary import vocabulary_from_document

SPECIAL = ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<silent>", "</think>")
PIECES = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "<|python_tag|>"),
    *('{"name": "f", "arguments": {"a": "é😀', '{"name": "f", "parameters": {}}', '"}}', "}]", "["),
    *("<function=f><parameter=n>3", "\n</parameter>", "</function>", "[ARGS]{}", "f{}", "\n", " "),
    *("<silent>", "Hello, world!", " < water; ", "stop"),
]
CATALOG = FormatCatalog()


def _document(document: dict[str, Any]) -> dict[str, Any]:
    first = max(document["model"]["vocab"].values()) + 1
    example = document["added_tokens"][0]
    document["added_tokens"] += [
        example | {"id": first + at, "content": text, "special": True}
        for at, text in enumerate(SPECIAL)
    ]
    return document


DOCUMENTS = {
    "bytelevel": _document(train_tokenizer()),
    "metaspace": _document(train_metaspace_tokenizer()),
}
VOCABULARIES = {name: vocabulary_from_document(each) for name, each in DOCUMENTS.items()}
ENCODERS = {name: TextEncoder(each) for name, each in DOCUMENTS.items()}


def rules(family: str, name: str, *stops: str, spells: bool = False) -> FormatRules:
    output_format = CATALOG.find(name)
    assert output_format is not None
    vocabulary = VOCABULARIES[family].showing(output_format.markers)
    return FormatRules(
        decoding=DecodingRules(vocabulary),
        stops=DecodingRules(vocabulary, stops),
        output_format=output_format,
        tool_types=TOOL_TYPES,
        begins_in_reasoning=False,
        spells=spells,
    )


def any_ids(draw: random.Random, family: str) -> list[int]:
    """Pieces of markup and of text, now and then any tokens."""
    ids: list[int] = []
    for _ in range(draw.randrange(14)):
        ids += ENCODERS[family].encode(draw.choice(PIECES))
        if draw.random() < 0.1:
            ids += [draw.randrange(len(VOCABULARIES[family].token_bytes)) for _ in range(3)]
    return ids


def fed(state: FormattedDetokenizer, ids: Sequence[int], size: int = 1) -> list[OutputEvent]:
    for start in range(0, len(ids), size):
        assert state.feed(ids[start : start + size]) == ""
    state.flush()
    return state.events


@pytest.mark.parametrize("family", DOCUMENTS)
@pytest.mark.parametrize("name", [*FORMATS, *COMBINED])
def test_any_ids(name: str, family: str) -> None:
    """What is said is what the parser says of the text, however fed; in the end all is released."""
    draw = random.Random(name)
    for _ in range(15):
        ids = any_ids(draw, family)
        form = rules(family, name)
        text = form.decoding.vocabulary.decode(ids)
        reader = form.output_format.parser(TOOL_TYPES, begins_in_reasoning=False)
        expected = joined([*reader.feed(text), *reader.finish()])
        for spells, size in ((False, 1), (False, 7), (True, 3)):
            state = FormattedDetokenizer(rules(family, name, spells=spells))

            assert joined(fed(state, ids, size)) == expected
            assert state.consumed == state.released == len(ids)
            assert not spells or b"".join(each.spelled for each in state.spelled).decode() == text


@pytest.mark.parametrize("spells", [False, True])
@pytest.mark.parametrize("family", DOCUMENTS)
@pytest.mark.parametrize("name", [*FORMATS, *COMBINED])
def test_going_on_anywhere(name: str, family: str, spells: bool) -> None:
    """From each place that was named another state says the rest, with a stop string or without."""
    draw = random.Random(name)
    for _ in range(3):
        ids = any_ids(draw, family)
        form = rules(family, name, *draw.choice([(), ("stop",), ("o, w", "ld")]), spells=spells)
        whole = FormattedDetokenizer(form)
        fed(whole, ids)
        for cut in range(len(ids)):
            first = FormattedDetokenizer(form)
            first.feed(ids[:cut])
            known = ids[: cut + draw.randrange(3)]
            if first.stop_index is not None:
                break
            rest = FormattedDetokenizer.resumed(form, known, first.released, ())
            fed(rest, ids[len(known) :])

            assert joined([*first.events, *rest.events]) == joined(whole.events)
            assert first.spelled + rest.spelled == whole.spelled
            assert (rest.consumed, rest.released) == (whole.consumed, whole.released)
            assert rest.stop_index == whole.stop_index


@pytest.mark.parametrize("family", DOCUMENTS)
@pytest.mark.parametrize("name", [*FORMATS, *COMBINED])
def test_a_stop_string_in_the_content(name: str, family: str) -> None:
    """The first content that holds it is cut in front of it, and nothing follows."""
    draw = random.Random(name)
    for _ in range(15):
        ids = any_ids(draw, family)
        whole = joined(fed(FormattedDetokenizer(rules(family, name)), ids))
        state = FormattedDetokenizer(rules(family, name, "o, w"))
        said = joined(fed(state, ids))
        hit = [at for at, each in enumerate(whole) if each[0] == "content" and "o, w" in each[1]]

        assert (state.stop_index is None) == (not hit)
        if not hit:
            assert said == whole
            continue
        front = whole[hit[0]][1].partition("o, w")[0]
        last = [("content", front, -1)] if front else []
        assert said == whole[: hit[0]] + last
        assert state.released <= state.consumed <= len(ids)
        assert state.feed(ids) == ""


def test_special_tokens_that_are_no_markers_stay_silent() -> None:
    """Only what the format names is text, and the same vocabulary serves where it names nothing."""
    ids = ENCODERS["bytelevel"].encode("<silent>a</think>b<|im_end|>")
    state = FormattedDetokenizer(rules("bytelevel", "deepseek_r1"))
    vocabulary = VOCABULARIES["bytelevel"]

    assert joined(fed(state, ids)) == [("reasoning", "a", -1), ("content", "b", -1)]
    assert vocabulary.showing({"<none>"}) is vocabulary
    assert vocabulary.decode(ids) == "ab"


def test_an_unknown_id_is_refused() -> None:
    """As in plain text."""
    state = FormattedDetokenizer(rules("bytelevel", "hermes"))

    with pytest.raises(ServiceError, match="outside the vocabulary"):
        state.feed([10**6])


def test_tokens_that_wait_to_be_spelled_are_bounded() -> None:
    """With alternatives a call that is not sure can hold back only so many."""
    encode = ENCODERS["bytelevel"].encode
    state = FormattedDetokenizer(rules("bytelevel", "hermes", spells=True))
    state.feed(encode('<tool_call>{"arguments": {"a": "'))
    [token_id] = encode("a")
    state.offer([[token_id] * 20] * 2000)

    with pytest.raises(ServiceError, match=f"More than {MAX_HELD}"):
        state.feed([token_id] * 2000)


def test_tokens_without_text_wait_in_one_place() -> None:
    """However many silent tokens a model writes within what is not sure, the state stays small."""
    encode = ENCODERS["bytelevel"].encode
    [silent] = encode("<silent>")
    state = FormattedDetokenizer(rules("bytelevel", "hermes"))
    state.feed([*encode('<tool_call>{"name"'), *[silent] * 1000])

    assert state.released == 0
    assert len(state._ends) < 30
