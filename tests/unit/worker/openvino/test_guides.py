"""Guides over a small vocabulary: grammar texts, matchers, bounds, and the compiler's memory."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headrace.rpc.errors import ServiceError
from tests.unit.worker.openvino.fakes import GREEDY
from worker.engine.openvino.guide_compiler import GuideCompiler
from worker.engine.openvino.guide_grammar import grammar_of, in_words
from worker.engine.openvino.sampler import Draw, Sampler
from worker.engine.seam import Guide, GuideKind

CHARACTERS = 'abcdefghij0123456789{}[]:, "/<>=-.trusnop'
END, OTHER_END, MARK = (len(CHARACTERS) + place for place in range(3))


@pytest.fixture(scope="module")
def compiler() -> GuideCompiler:
    """A token a character, and three special tokens behind them, two of which are ends."""
    # Byte-level vocabularies spell a space so.
    known = {c.replace(" ", "Ġ"): number for number, c in enumerate(CHARACTERS)}
    known |= {"<end>": END, "<stop>": OTHER_END, "<one>": MARK}
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>", "<stop>", "<one>"])
    return GuideCompiler(tokenizer.to_str(), {END, OTHER_END}, OTHER_END + 3, max_bytes=50)


def _ids(text: str) -> list[int]:
    return [CHARACTERS.index(character) for character in text]


def _allowed(compiler: GuideCompiler, guide: Guide, text: str = "") -> set[int]:
    matcher = compiler.compile(guide, _ids(text))
    return set(np.flatnonzero(matcher.allowed()).tolist())


def test_only_what_may_follow_is_allowed(compiler: GuideCompiler) -> None:
    """At the beginning, in the middle, and at the end, where both end tokens are."""
    guide = Guide("regex", "a[bc]|ad1")

    assert _allowed(compiler, guide) == set(_ids("a"))
    assert _allowed(compiler, guide, "a") == set(_ids("bcd"))
    assert _allowed(compiler, guide, "ab") == {END, OTHER_END}


def test_an_end_stands_beside_what_may_go_on(compiler: GuideCompiler) -> None:
    """Where the text may end or go on, both are allowed."""
    assert _allowed(compiler, Guide("regex", "ab?"), "a") == {*_ids("b"), END, OTHER_END}


def test_json_has_one_layout(compiler: GuideCompiler) -> None:
    """One space behind colons and commas, none elsewhere."""
    schema = {"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2}
    guide = Guide("json_schema", json.dumps(schema))

    assert _allowed(compiler, guide, "[") == set(_ids("1"))
    assert _allowed(compiler, guide, "[1") == set(_ids(","))
    assert _allowed(compiler, guide, "[1,") == set(_ids(" "))
    assert _allowed(compiler, guide, "[1, 1]") == {END, OTHER_END}


def test_chains_of_references_do_not_end_the_process(compiler: GuideCompiler) -> None:
    """Rules and definitions that name one another in a row, as many as a guide has room for."""
    chain = {str(at): {"$ref": f"#/$defs/{at + 1}"} for at in range(3000)}
    schema = {"$ref": "#/$defs/0", "$defs": {**chain, "3000": {"enum": [1]}}}
    rules = "".join(f"a{at}: a{at + 1}\n" for at in range(6000))

    assert _allowed(compiler, Guide("json_schema", json.dumps(schema))) == set(_ids("1"))
    assert _allowed(compiler, Guide("grammar", f'start: a0\n{rules}a6000: "b"\n')) == set(_ids("b"))


def test_copies_go_their_own_ways(compiler: GuideCompiler) -> None:
    """What one output takes changes nothing for another, nor for the next request."""
    guide = Guide("regex", "a[bc]c?")
    first = compiler.compile(guide, [])
    second = first.copy()
    assert first.consume(_ids("ac"))

    assert set(np.flatnonzero(second.allowed()).tolist()) == set(_ids("a"))
    assert _allowed(compiler, guide) == set(_ids("a"))


def test_what_strays_leaves_nothing(compiler: GuideCompiler) -> None:
    """After a token that does not fit there is a problem, and no token is allowed."""
    matcher = compiler.compile(Guide("regex", "ab"), [])

    assert not matcher.consume(_ids("b"))
    assert matcher.problem
    assert not matcher.allowed().any()


def test_a_prefix_that_strays_is_refused(compiler: GuideCompiler) -> None:
    """The refusal names the prefix, not the guide."""
    with pytest.raises(ServiceError, match=r"does not follow guide\.regex") as refused:
        compiler.compile(Guide("regex", "ab"), _ids("ad"))

    assert refused.value.param == "output_prefix_token_ids"


def test_size_is_counted_in_bytes(compiler: GuideCompiler) -> None:
    """50 bytes pass, 51 do not; a character may be several."""
    compiler.check_size(Guide("regex", "a" * 50))
    with pytest.raises(ServiceError, match="has 52 bytes; at most 50"):
        compiler.check_size(Guide("regex", "ä" * 26))


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        ("structural_tag", '{"structures": {}}', "structures must be a list"),
        ("structural_tag", '{"structures": [{"begin": "<a"}], "triggers": [""]}', "triggers"),
        ("structural_tag", '{"structures": [{"begin": "<a"}], "triggers": ["<"]}', "end"),
        ("json_schema", "7", "JSON object"),
        ("json_schema", "{", "not JSON"),
    ],
)
def test_forms_are_checked(kind: GuideKind, text: str, named: str) -> None:
    """What is not of the guide's form is refused before it is compiled."""
    with pytest.raises(ServiceError, match=named) as refused:
        grammar_of(Guide(kind, text))

    assert refused.value.param == f"guide.{kind}"


@pytest.mark.parametrize(
    ("trigger", "begin", "end"),
    [("<stop>", "<stop>a", "b"), ("<a", "<a<stop>", "b"), ("<a", "<a>", "b<stop>")],
)
def test_tags_of_special_tokens_are_refused(
    compiler: GuideCompiler, trigger: str, begin: str, end: str
) -> None:
    """Such a tag would wait for a text that no answer has: the refusal names the token."""
    structure = {"begin": begin, "schema": {}, "end": end}
    guide = Guide("structural_tag", json.dumps({"structures": [structure], "triggers": [trigger]}))

    with pytest.raises(ServiceError, match="holds the special token <stop>"):
        compiler.compile(guide, [])


@pytest.mark.parametrize(
    ("guide", "told"),
    [
        (Guide("json_schema", '{"enum": ["<end>"]}'), '"<end>"'),
        (Guide("json_schema", '{"enum": ["a<stop>"]}'), '"a<stop>"'),
        (Guide("choice", '["<stop>a"]'), "<stop>a"),
        (Guide("regex", "<end>{2}"), "<end>>"),
        (Guide("grammar", 'start: "<end>"'), "<end>"),
    ],
)
def test_text_that_looks_like_a_special_token_is_text(
    compiler: GuideCompiler, guide: Guide, told: str
) -> None:
    """Ordinary tokens spell it, and the answer goes on: it is no end and no turn's beginning."""
    for at, following in enumerate(told):
        assert _allowed(compiler, guide, told[:at]) == set(_ids(following))
    assert _allowed(compiler, guide, told) == {END, OTHER_END}


def test_special_tokens_are_reached_by_their_ids(compiler: GuideCompiler) -> None:
    """A grammar that wants the token itself names its id."""
    guide = Guide("grammar", f'start: "a" <[{MARK}]> "b"')
    matcher = compiler.compile(guide, _ids("a"))

    assert _allowed(compiler, guide, "a") == {MARK}
    assert matcher.consume([MARK])
    assert np.flatnonzero(matcher.allowed()).tolist() == _ids("b")


def test_tags_of_plain_text_are_taken(compiler: GuideCompiler) -> None:
    """Angle brackets alone make no special token."""
    structure = {"begin": "<a>", "schema": {"enum": [1]}, "end": "</a>"}
    guide = Guide("structural_tag", json.dumps({"structures": [structure], "triggers": ["<a"]}))

    assert _allowed(compiler, guide, "b<a>") == set(_ids("1"))
    assert _allowed(compiler, guide, "b<a>1</a") == set(_ids(">"))


def test_faults_are_told_on_one_line() -> None:
    """First line and reason; inner state and excerpts are left out, long lines are shortened."""
    told = in_words("regex parse error:\n    (a\n    ^\nerror: unclosed group")

    assert told == "regex parse error: error: unclosed group"
    assert in_words("panic: assertion failed\n 0: frame") == "it is too complex"
    assert len(in_words("x" * 9999)) < 400


def test_a_mask_is_kept_by_every_way_to_draw() -> None:
    """Only allowed tokens are drawn; where they are all banned, the ban gives way."""
    logits = np.zeros((1, 10), np.float32)
    logits[0, 3] = 9
    allowed = np.zeros(10, np.bool_)
    allowed[[4, 7]] = True
    sampler = Sampler(10)

    def draw(banned: set[int]) -> int | None:
        how = Draw(GREEDY, 0, 0, 0, banned_token_ids=frozenset(banned), allowed=allowed)
        return sampler.sample(logits, [how])[0]

    assert (draw(set()), draw({4}), draw({4, 7})) == (4, 7, 4)


def test_hints_at_options_of_the_library_are_left_out() -> None:
    """Whoever sent the guide has no such options."""
    problem = "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate"

    assert in_words(problem) == "oneOf constraints are not supported"


@pytest.mark.slow
def test_long_guides_are_not_kept_in_any_number(compiler: GuideCompiler) -> None:
    """What is kept is bounded by its texts' length too; the last one always stays."""
    long = [Guide("regex", "a" * 900_000 + str(number)) for number in range(3)]
    for guide in long:
        compiler.compile(guide, ())

    assert [compiler.is_kept(guide) for guide in long] == [False, True, True]
