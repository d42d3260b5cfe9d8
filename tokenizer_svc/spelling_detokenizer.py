"""Token ids of one output to text and to the bytes that each token spells of it.

The text is that of `Detokenizer`, released by whole tokens whose bytes together are whole
characters: a token that also has a part of a character behind it waits for that one. So the bytes
of the tokens that a delta releases are the delta's, exactly. For outputs that asked; the others
know nothing of it.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from tokenizer_svc.detokenizer import NOTHING_HARMLESS, DecodingRules
from tokenizer_svc.fallback_detokenizer import detokenizer_class
from tokenizer_svc.token_speller import speller_class

MAX_HELD = 20_000
"""Tokens and alternatives of one output that may wait for their text: all come out at once."""

Alternatives = Sequence[Sequence[int]]
"""Ids of each token's alternatives, token after token."""


_Token = tuple[bytearray, Sequence[bytes]]


class SpelledToken(NamedTuple):
    """A released token: its bytes of the text, none if it has no text, and its alternatives'."""

    spelled: bytes
    alternatives: Sequence[bytes]


def split_alternatives(counts: Sequence[int], token_ids: Sequence[int]) -> Alternatives:
    """The ids of each token. Raises FrameViolationError for arrays that contradict each other."""
    if sum(counts) != len(token_ids):
        raise FrameViolationError(
            f"edge sent {len(token_ids)} alternatives with counts that add up to {sum(counts)}"
        )
    parts, start = [], 0
    for count in counts:
        parts.append(token_ids[start : start + count])
        start += count
    return parts


class SpellingDetokenizer:
    """The state of one output, for `OutputTable`; `fast` never holds a token.

    `spelled` are the tokens released since it was last taken.
    """

    says_more: ClassVar[bool] = True

    __slots__ = (
        "_held",
        "_num_held",
        "_offered",
        "_ready",
        "_speller",
        "_text",
        "_unspelled",
        "_waiting",
        "consumed",
        "fast",
        "released",
        "spelled",
        "stop_index",
    )

    def __init__(self, rules: DecodingRules) -> None:
        self._text = detokenizer_class(rules.vocabulary)(rules)
        self._speller = speller_class(rules.vocabulary)(rules)
        self._waiting: deque[_Token] = deque()  # tokens that the inner state has not released
        self._ready: list[_Token] = []  # those that it has, and this one has not
        self._held: list[str] = []  # likewise, text
        self._unspelled = 0  # by how many bytes that text is longer than those tokens
        self._num_held = 0  # tokens and alternatives
        self._offered: deque[Sequence[int]] = deque()
        self.consumed = 0
        self.released = 0
        self.stop_index: int | None = None
        self.spelled: list[SpelledToken] = []
        self.fast: Mapping[int, str] = NOTHING_HARMLESS

    @classmethod
    def resumed(
        cls,
        rules: DecodingRules,
        prior_token_ids: Sequence[int],
        released: int,
        alternatives: Alternatives,
    ) -> tuple[Self, str]:
        """A state behind `prior_token_ids`, and its text behind the first `released` of them.

        `alternatives` are those of the tokens behind; none, or one entry each. Raises ServiceError
        for a `released` that these ids never had, FrameViolationError for other alternatives.
        """
        state = cls(rules)
        text, sent_end = "", None if released else 0
        for place, token_id in enumerate(prior_token_ids):
            if place == released:
                state.offer(alternatives)
            text += state.feed((token_id,))
            if sent_end is None and state.released == released:
                sent_end = len(text)
                state.spelled.clear()
        if sent_end is None:
            message = (
                f"released_tokens is {released}, which is no number that these "
                f"{len(prior_token_ids)} tokens release; they release {state.released}."
            )
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="released_tokens"
            )
        state.check_offers()
        return state, text[sent_end:]

    def offer(self, alternatives: Alternatives) -> None:
        """Say which alternatives the tokens have that are fed next."""
        self._offered.extend(alternatives)

    def check_offers(self) -> None:
        """Raise FrameViolationError for alternatives of tokens that were not fed."""
        num_left = len(self._offered)
        self._offered.clear()
        if num_left and self.stop_index is None:
            raise FrameViolationError(f"edge sent alternatives of {num_left} tokens too many")

    def feed(self, token_ids: Iterable[int]) -> str:
        """Take tokens; returns the text they release.

        Raises ServiceError for an unknown id, and where too many tokens wait for their text.
        """
        parts = []
        for token_id in token_ids:
            if self.stop_index is not None:
                break
            parts.append(self._feed_one(token_id))
        return "".join(parts)

    def flush(self) -> str:
        """End the output; returns the text that was held back. Nothing may follow."""
        if self.stop_index is not None:
            return ""
        self._held.append(self._text.flush())
        self.stop_index = self._text.stop_index
        self._speller.finish()
        if self.stop_index is not None:
            return self._cut()
        self._ready.extend(self._waiting)
        return self._release()

    def _feed_one(self, token_id: int) -> str:
        speller, text = self._speller, self._text
        offered = self._offered.popleft() if self._offered else ()
        self._num_held += 1 + len(offered)
        if self._num_held > MAX_HELD:
            raise too_many_held()
        alternatives = [speller.alternative(each) for each in offered]
        self._waiting.append((speller.take(token_id), alternatives))
        delta = text.feed((token_id,))
        self.consumed = text.consumed
        self.stop_index = text.stop_index
        if delta:
            self._held.append(delta)
            self._unspelled += len(delta.encode())
        if self.stop_index is not None:
            return self._cut()
        for _ in range(text.released - self.released - len(self._ready)):
            token = self._waiting.popleft()
            self._unspelled -= len(token[0])
            self._ready.append(token)
        # Else the last of them shares a character with a token that is still held back.
        return "" if self._unspelled else self._release()

    def _release(self) -> str:
        self.spelled += (SpelledToken(bytes(share), others) for share, others in self._ready)
        self.released += len(self._ready)
        self._num_held -= sum(1 + len(others) for _, others in self._ready)
        delta = "".join(self._held)
        self._held, self._ready, self._unspelled = [], [], 0
        return delta

    def _cut(self) -> str:
        """Release what stands in front of a stop string: the tokens that have bytes there."""
        room = len("".join(self._held).encode())
        tokens, self._ready = [*self._ready, *self._waiting], []
        for share, alternatives in tokens:
            if not room:
                break
            del share[room:]
            room -= len(share)
            self._ready.append((share, alternatives))
        self._waiting.clear()
        return self._release()


def too_many_held() -> ServiceError:
    """Why an output fails of which too many tokens wait."""
    return ServiceError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        f"More than {MAX_HELD} tokens and alternatives wait for the text that they spell: a stop"
        " string, a run of single bytes or a call that is not yet sure holds it back.",
        param="logprobs",
    )
