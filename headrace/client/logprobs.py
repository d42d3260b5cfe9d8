"""One output's log probabilities, from the worker, joined with its tokens' bytes and its text.

The worker says how probable each token was and which others were; the tokenizer says, later, which
bytes of the text each token spells, and releases the text or, of an output in a format, its events.
What waits in between is what the tokenizer has not answered yet; it is kept whole, so that another
tokenizer can be asked once more.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

from headrace.client.answer_events import LogprobsWriter, TokenLogprob
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.detokenize_pb2 import TokenAlternatives, TokenBytes
from headrace.worker.v1.generation_pb2 import OutputLogprobs


class _Said(NamedTuple):
    """What the worker said of a token: its log probability, and its alternatives."""

    logprob: float
    top_logprobs: Sequence[float]
    top_token_ids: Sequence[int]


class TokenJoin:
    """Takes what both say of an output's tokens.

    Where the two contradict each other `fail` is told, once, and nothing more is handed out.
    """

    def __init__(self, fail: Callable[[ServiceError], None]) -> None:
        self._fail = fail
        self._unspelled: deque[_Said] = deque()
        # Since the last write, whose text may still be missing: and whether it has any.
        self._spelled: list[tuple[_Said, bool]] = []
        self._unwritten: deque[TokenLogprob] = deque()
        self._num_spelled = 0
        self._has_failed = False

    def add_logprobs(self, entry: OutputLogprobs) -> None:
        """The worker's: log probabilities of the next tokens; its arrays fit."""
        tops = _parts(entry.top_logprobs[:], entry.top_counts)
        ids = _parts(entry.top_token_ids[:], entry.top_counts)
        self._unspelled.extend(map(_Said, entry.logprobs, tops, ids))

    def add_bytes(self, entry: TokenBytes) -> None:
        """The tokenizer's: what the next tokens and their alternatives say."""
        lengths, unspelled = entry.lengths, self._unspelled
        if len(lengths) > len(unspelled):
            self._refuse(f"{len(lengths)} tokens were spelled, {len(unspelled)} have a probability")
            return
        self._num_spelled += len(lengths)
        known = [unspelled.popleft() for _ in lengths]
        num_tops = sum(len(said.top_logprobs) for said in known)
        if num_tops != len(entry.alternative_lengths) or not _fits(entry):
            self._refuse(f"the bytes do not fit {len(known)} tokens with {num_tops} alternatives")
            return
        spelled = _parts(entry.spelled, lengths)
        alternatives = iter(_parts(entry.alternatives, entry.alternative_lengths))
        for raw, said in zip(spelled, known, strict=True):
            top = tuple((next(alternatives), each) for each in said.top_logprobs)
            self._spelled.append((said, bool(raw)))
            if raw:
                self._unwritten.append(TokenLogprob(raw, said.logprob, top))

    def rewind(self, released_tokens: int) -> TokenAlternatives:
        """Another tokenizer spells all tokens behind the released ones, those known so far too.

        Released tokens that were not yet taken stay. Returns the alternatives of those that are
        known behind them, for it to spell them.
        """
        again = self._num_spelled - released_tokens
        for said, has_text in reversed(self._spelled[-again:] if again > 0 else ()):
            self._unspelled.appendleft(said)
            if has_text and self._unwritten:
                self._unwritten.pop()
        self._num_spelled = released_tokens
        self._spelled = []
        return TokenAlternatives(
            counts=[len(said.top_token_ids) for said in self._unspelled],
            token_ids=[each for said in self._unspelled for each in said.top_token_ids],
        )

    def take(self, released_tokens: int, *, is_last: bool = False) -> Sequence[TokenLogprob] | None:
        """The tokens with text that were not yet taken; None once there was a contradiction.

        `released_tokens`: how many there are by the tokenizer's count, those without text included;
        of the last ones all that are spelled are taken.
        """
        if self._num_spelled < released_tokens:
            self._refuse(f"{released_tokens} tokens are out, {self._num_spelled} were spelled")
        if self._has_failed:
            return None
        # A frame may spell tokens that the next one releases.
        num_early = 0 if is_last else self._num_spelled - released_tokens
        self._spelled = self._spelled[-num_early:] if num_early else []
        num_kept = sum(has_text for _, has_text in self._spelled)
        return [self._unwritten.popleft() for _ in range(len(self._unwritten) - num_kept)]

    def _refuse(self, what: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            message = f"The worker and the tokenizer contradict each other in logprobs: {what}."
            self._fail(ServiceError(errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER, message))


class LogprobJoin(TokenJoin):
    """The same for plain text: the entries of one write spell its text."""

    def __init__(self, write: LogprobsWriter, fail: Callable[[ServiceError], None]) -> None:
        super().__init__(fail)
        self._write = write

    def write(self, text: str) -> None:
        """The tokenizer's: a delta, behind the bytes that spell it."""
        if self._has_failed:
            return
        missing = len(text.encode())
        entries = []
        while missing > 0 and self._unwritten:
            entries.append(self._unwritten.popleft())
            missing -= len(entries[-1].token)
        if missing:
            self._refuse("the tokens' bytes do not spell the text")
            return
        if not self._unwritten:
            self._spelled = []
        self._write(text, entries)


def fits(entry: OutputLogprobs) -> bool:
    """Whether the arrays of a worker's entry are as long as they say."""
    return len(entry.top_counts) == len(entry.logprobs) and len(entry.top_token_ids) == len(
        entry.top_logprobs
    ) == sum(entry.top_counts)


def _fits(entry: TokenBytes) -> bool:
    return sum(entry.lengths) == len(entry.spelled) and (
        sum(entry.alternative_lengths) == len(entry.alternatives)
    )


_PartT = TypeVar("_PartT", bytes, list[float], list[int])


def _parts(whole: _PartT, lengths: Sequence[int]) -> list[_PartT]:
    """A flat array, cut into pieces of these lengths."""
    return [whole[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
