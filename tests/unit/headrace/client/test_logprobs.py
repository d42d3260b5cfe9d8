"""What worker and tokenizer say of tokens, joined, also where the tokenizer changes in between."""

from headrace.client.logprobs import LogprobJoin, TokenJoin
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.detokenize_pb2 import TokenBytes
from headrace.worker.v1.generation_pb2 import OutputLogprobs


def said(*logprobs: float) -> OutputLogprobs:
    """A worker's entry of tokens that have one alternative each: 50, 51 and so on."""
    return OutputLogprobs(
        logprobs=logprobs,
        top_counts=[1] * len(logprobs),
        top_token_ids=range(50, 50 + len(logprobs)),
        top_logprobs=[-9.0] * len(logprobs),
    )


def spelled(*tokens: bytes) -> TokenBytes:
    """A tokenizer's entry; every alternative says "x"."""
    return TokenBytes(
        lengths=map(len, tokens),
        spelled=b"".join(tokens),
        alternative_lengths=[1] * len(tokens),
        alternatives=b"x" * len(tokens),
    )


def refuse(error: ServiceError) -> None:
    """Nothing here contradicts."""
    raise error


def test_tokens_that_are_spelled_early_wait_for_their_release() -> None:
    """They are not handed out with those before them, and another tokenizer spells them again."""
    join = TokenJoin(refuse)
    join.add_logprobs(said(-1, -2, -3, -4))
    join.add_bytes(spelled(b"a", b""))
    join.add_bytes(spelled(b"b", b"c"))
    taken = join.take(2)
    again = join.rewind(2)
    join.add_bytes(spelled(b"b", b"c"))

    assert taken is not None
    assert [(each.token, each.logprob) for each in taken] == [(b"a", -1)]
    assert list(again.token_ids) == [52, 53]
    assert [(each.token, each.logprob) for each in join.take(4) or ()] == [(b"b", -3), (b"c", -4)]


def test_a_rewound_join_keeps_what_is_released_and_not_yet_taken() -> None:
    """Markup has no event of its own: its tokens wait for the next one's."""
    join = TokenJoin(refuse)
    join.add_logprobs(said(-1, -2, -3))
    join.add_bytes(spelled(b"<x>", b"", b"y"))
    again = join.rewind(2)
    join.add_logprobs(said(-4))
    join.add_bytes(spelled(b"y", b"z"))

    assert list(again.token_ids) == [52]
    assert [(each.token, each.logprob) for each in join.take(4) or ()] == [
        (b"<x>", -1),
        (b"y", -3),
        (b"z", -4),
    ]


def test_a_text_whose_tokens_were_spelled_is_written_once() -> None:
    """Tokens whose text had not come are spelled again, those of the written text are not."""
    heard: list[tuple[str, list[bytes]]] = []
    join = LogprobJoin(lambda text, each: heard.append((text, [e.token for e in each])), refuse)
    join.add_logprobs(said(-1, -2, -3))
    join.add_bytes(spelled(b"a", b"b", b"c"))
    join.write("ab")
    join.rewind(2)
    join.add_bytes(spelled(b"c"))
    join.write("c")

    assert heard == [("ab", [b"a", b"b"]), ("c", [b"c"])]
