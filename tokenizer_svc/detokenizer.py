"""Token ids of one output to text, token by token: whole characters, stop strings, whole tokens.

A state machine without I/O. What has been released after k tokens depends on those k ids alone,
never on how they were split over feeds:
- the text is the UTF-8 decoding, with U+FFFD for what is no character, of the tokens' bytes;
  special tokens and the output's stop token ids have none. At most three bytes wait for their
  character;
- the longest end of the text that could begin a stop string is held back;
- whole tokens are released: one whose text is partly held back is held back whole, and one that
  ends inside a character has been released when that character has. So `released` names an exact
  place in the text, from which another process can go on;
- the first token after which the text holds a stop string ends the output; of several the one that
  begins first counts, of those the one given first. The text in front of it is released, and the
  token that it ends in counts as released if any of its text was;
- `flush` releases what is held back, and may itself complete a stop string.

The fast path is one dictionary: `harmless` remembers, for all outputs with the same rules, which
tokens the full path has been through from a clean state (nothing held back) to a clean state.
"""

from bisect import bisect_right
from codecs import utf_8_decode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Self

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.vocabulary import Vocabulary

# What is harmless in a state that is not clean.
NOTHING_HARMLESS: Mapping[int, str] = MappingProxyType({})


def begins_surrogate(pending: bytes) -> bool:
    """Whether these bytes, for whose rest the codec waits, are no beginning of a character."""
    return len(pending) == 2 and pending[0] == 0xED and pending[1] >= 0xA0


class DecodingRules:
    """What outputs of one model with the same stop strings and stop token ids share."""

    __slots__ = (
        "_longest_beginning",
        "_stops_by_first_character",
        "harmless",
        "stop_strings",
        "stop_token_ids",
        "vocabulary",
    )

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop_strings: Sequence[str] = (),
        stop_token_ids: Iterable[int] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.stop_strings = tuple(stop_strings)
        self.stop_token_ids = frozenset(stop_token_ids)
        self._stops_by_first_character: dict[str, list[str]] = {}
        for stop in self.stop_strings:
            self._stops_by_first_character.setdefault(stop[0], []).append(stop)
        self._longest_beginning = max(map(len, self.stop_strings), default=1) - 1
        self.harmless: dict[int, str] = {}

    def bytes_of(self, token_id: int) -> bytes:
        """The token's bytes. Raises ServiceError for an id outside the vocabulary."""
        if token_id in self.stop_token_ids:
            return b""
        try:
            return self.vocabulary.token_bytes[token_id]
        except IndexError:
            size = len(self.vocabulary.token_bytes)
            message = f"Token id {token_id} is outside the vocabulary of {size} ids."
            raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message) from None

    def find_stop(self, text: str, start: int) -> tuple[int, int] | None:
        """Place and index of the stop string that begins first in `text` at or after `start`."""
        find, found, number = text.find, None, 0
        for stop in self.stop_strings:
            place = find(stop, start)
            if place >= 0 and (found is None or place < found[0]):
                found = place, number
            number += 1  # noqa: SIM113 (for every held-back token: cheaper than enumerate)
        return found

    def first_possible_start(self, text: str, start: int) -> int:
        """First place at or after `start` from where the rest of `text` begins a stop string."""
        length = len(text)
        find_stops = self._stops_by_first_character.get
        for place in range(max(start, length - self._longest_beginning), length):
            stops = find_stops(text[place])
            if stops is not None:
                rest = text[place:]
                for stop in stops:
                    if stop.startswith(rest):
                        return place
        return length


class Detokenizer:
    """The state of one output.

    `fast` is read by the frame loop: a token found there has that text, leaves the state as it is,
    and only has to be added to `consumed`. `stop_index` is the completed stop string's, once there
    is one; feeds behind it are ignored.
    """

    __slots__ = (
        "_at_start",
        "_base",
        "_ends",
        "_held",
        "_pending",
        "_rules",
        "_scanned",
        "consumed",
        "fast",
        "stop_index",
    )

    says_more: ClassVar[bool] = False  # than the text: how it is spelled, or what is in it

    def __init__(self, rules: DecodingRules) -> None:
        self._rules = rules
        self._at_start = rules.vocabulary.strips_leading_space
        self._pending = b""  # begins a character, at most 3 bytes
        self._held = ""  # decoded and not yet released
        self._base = 0  # place of the held text's beginning; counted from anywhere
        self._scanned = 0  # no stop string begins in front of this place of the held text
        self._ends: list[int] = []  # where the text of each token not yet released ends
        self.consumed = 0
        self.stop_index: int | None = None
        self.fast: Mapping[int, str] = NOTHING_HARMLESS if self._at_start else rules.harmless

    @classmethod
    def resumed(
        cls, rules: DecodingRules, prior_token_ids: Sequence[int], released: int
    ) -> tuple[Self, str]:
        """A state behind `prior_token_ids`, and its text behind the first `released` of them.

        Raises ServiceError for a `released` that these ids do not allow.
        """
        state = cls(rules)
        sent = state.feed(prior_token_ids[:released])
        sent_end = len(sent) + len(state._held) + bool(state._pending)
        text = sent + state.feed(prior_token_ids[released:])
        if released > state.released:
            message = (
                f"released_tokens is {released}, above the {state.released} releasable tokens."
            )
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="released_tokens"
            )
        return state, text[sent_end:]

    @property
    def released(self) -> int:
        """How many tokens have all their text out."""
        return self.consumed - len(self._ends)

    def feed(self, token_ids: Iterable[int]) -> str:
        """Take tokens; returns the text they release. Raises ServiceError for an unknown id."""
        parts = []
        for token_id in token_ids:
            text = self.fast.get(token_id)
            if text is not None:
                self.consumed += 1
            elif self.stop_index is None:
                text = self._feed_one(token_id)
            else:
                break
            parts.append(text)
        return "".join(parts)

    def flush(self) -> str:
        """End the output; returns the text that was held back. Nothing may follow."""
        if self.stop_index is not None:
            return ""
        self._end_text()
        self.fast = NOTHING_HARMLESS
        stop = self._rules.find_stop(self._held, self._scanned)
        if stop is not None:
            return self._end_at(*stop)
        held, self._held = self._held, ""
        self._ends.clear()
        return held

    def _feed_one(self, token_id: int) -> str:
        rules = self._rules
        was_clean = self.fast is rules.harmless
        self._decode(token_id)
        self.consumed += 1
        stop = rules.find_stop(self._held, self._scanned)
        if stop is not None:
            return self._end_at(*stop)
        self._scanned = rules.first_possible_start(self._held, self._scanned)
        delta = self._release()
        if was_clean and self.fast is rules.harmless:
            rules.harmless[token_id] = delta
        return delta

    def _decode(self, token_id: int) -> None:
        """Append the token's text to the held text, and its end to `_ends`."""
        data = self._pending + self._rules.bytes_of(token_id)
        text, used = utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        if self._pending and begins_surrogate(self._pending):
            text += self._pending.decode("utf-8", "replace")
            self._pending = b""
        self._held += self._stripped(text) if self._at_start else text
        self._ends.append(self._base + len(self._held) + bool(self._pending))

    def _stripped(self, text: str) -> str:
        """The text, which may be the first, without the space that is not part of an answer."""
        if text:
            self._at_start = False
        return text.removeprefix(" ")

    def _end_text(self) -> None:
        """Append what waited for the rest of its character."""
        self._held += self._pending.decode("utf-8", "replace")
        self._pending = b""

    def _settled(self) -> int:
        """Up to which place of the held text it can be released."""
        return self._scanned

    def _is_clean(self) -> bool:
        return not self._ends and not self._at_start

    def _release(self) -> str:
        """Release the tokens that end at or before the settled place."""
        ends = self._ends
        count = bisect_right(ends, self._base + self._settled())
        if not count:
            self.fast = NOTHING_HARMLESS
            return ""
        delta = self._cut(ends[count - 1] - self._base)
        del ends[:count]
        self.fast = self._rules.harmless if self._is_clean() else NOTHING_HARMLESS
        return delta

    def _end_at(self, place: int, stop_index: int) -> str:
        """Release the held text in front of a completed stop string, and end."""
        count = bisect_right(self._ends, self._base + place)
        if self._base + place > (self._ends[count - 1] if count else self._base):
            count += 1  # the token in which the stop string begins
        delta = self._cut(place)
        del self._ends[:count]
        self._held, self._pending = "", b""
        self.stop_index = stop_index
        self.fast = NOTHING_HARMLESS
        return delta

    def _cut(self, length: int) -> str:
        delta, self._held = self._held[:length], self._held[length:]
        self._base += length
        self._scanned -= length
        return delta
