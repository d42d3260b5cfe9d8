"""Tokens of thoughts, counted from what a parser decides."""

import pytest

from tests.support.tokenizer_models import train_tokenizer
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.encoding import TextEncoder
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formatted_detokenizer import FormatRules, FormattedDetokenizer
from tokenizer_svc.vocabulary import Vocabulary, vocabulary_from_document

END = "<|im_end|>"
BOTH = "k>Hello"
DOCUMENT = train_tokenizer()
DOCUMENT["added_tokens"].append(
    DOCUMENT["added_tokens"][0]
    | {"id": len(DOCUMENT["model"]["vocab"]), "content": BOTH, "special": False}
)
ENCODER = TextEncoder(DOCUMENT)
VOCABULARY: Vocabulary = vocabulary_from_document(DOCUMENT)
CATALOG = FormatCatalog()
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def rules(name: str, *, inside: bool = False, spells: bool = False, stop: str = "") -> FormatRules:
    output_format = CATALOG.find(name)
    assert output_format is not None
    return FormatRules(
        decoding=DecodingRules(VOCABULARY),
        stops=DecodingRules(VOCABULARY, (stop,) if stop else ()),
        output_format=output_format,
        tool_types={},
        begins_in_reasoning=inside,
        spells=spells,
    )


def ids_of(*texts: str) -> list[int]:
    """The tokens of texts that are encoded each by itself."""
    return [token_id for text in texts for token_id in ENCODER.encode(text)]


def count(form: FormatRules, ids: list[int], *, flushed: bool = True) -> int:
    state = FormattedDetokenizer(form)
    state.feed(ids)
    if flushed:
        state.flush()
    return state.reasoning_tokens


@pytest.mark.parametrize("spells", [False, True])
@pytest.mark.parametrize(
    ("thoughts", "answer", "inside"),
    [
        ("<think>\nHow 😀 are\n</think>\n\n", "Hello, world!", False),
        (" \n<think>How</think>", f"Hm {CALL}", False),
        ("How are 日本\n</think>\n\n", "Hello", True),
        ("<think>How</think>", "", False),
        ("<think>\n\n</think>\n\n", CALL, False),
        ("", "Hello, <think>world</think>", False),
        ("", CALL, False),
    ],
)
def test_tokens_of_thoughts_and_their_markup(
    thoughts: str, answer: str, inside: bool, spells: bool
) -> None:
    """Where tokens end with the markup they are all thoughts in front of it, and none behind."""
    form = rules("qwen3+hermes", inside=inside, spells=spells)
    ids = ids_of(thoughts, answer, END)

    assert count(form, ids) == len(ids_of(thoughts))


def test_thoughts_that_never_end() -> None:
    """All of them are counted as they come; the end token, which has no text, is not."""
    thoughts = ids_of("<think>\nHow are you, 日本")
    form = rules("qwen3")

    assert count(form, [*thoughts, *ids_of(END)]) == len(thoughts)
    assert count(form, thoughts, flushed=False) == len(thoughts)


def test_a_token_that_is_partly_content() -> None:
    """It begins within the thoughts' markup, so it is one of theirs."""
    ids = ids_of(f"<think>How</thin{BOTH}", "world")

    assert len(ids_of(BOTH)) == 1
    assert count(rules("qwen3"), ids) == len(ids) - len(ids_of("world"))


def test_blanks_are_counted_when_thoughts_follow_them() -> None:
    """Until that is decided nothing is counted, and where there are none nothing ever is."""
    blanks, tag = ids_of("\n \n"), ids_of("<think>H")
    form = rules("qwen3")

    assert count(form, blanks, flushed=False) == 0
    assert count(form, [*blanks, *tag], flushed=False) == len(blanks) + len(tag)
    assert count(form, [*blanks, *ids_of("Hello")]) == 0


@pytest.mark.parametrize("spells", [False, True])
def test_a_stop_string_changes_nothing(spells: bool) -> None:
    """Stop strings are not looked for in thoughts, which are all counted when content stops."""
    thoughts = ids_of("<think>stop</think>\n")
    ids = [*thoughts, *ids_of("Please stop it")]

    assert count(rules("qwen3", stop="stop", spells=spells), ids) == len(thoughts)
    assert count(rules("qwen3", stop="Please", spells=spells), ids) == len(thoughts)


@pytest.mark.parametrize("spells", [False, True])
def test_a_reopened_output_counts_from_its_beginning(spells: bool) -> None:
    """Wherever it goes on, the count is that of one that was never left."""
    form = rules("qwen3+hermes", spells=spells)
    ids = ids_of("<think>\nHow are you 😀\n</think>\n\nHello ", CALL, END)
    whole = FormattedDetokenizer(form)
    for place, token_id in enumerate(ids):
        whole.feed((token_id,))
        again = FormattedDetokenizer.resumed(form, ids[: place + 1], whole.released, ())

        assert again.reasoning_tokens == whole.reasoning_tokens
    assert whole.reasoning_tokens == len(ids_of("<think>\nHow are you 😀\n</think>\n\n"))
