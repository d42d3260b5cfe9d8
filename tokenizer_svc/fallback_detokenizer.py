"""Token ids of one output to text, for vocabularies with byte fallback and first-token rules.

What a run of byte tokens says is settled only behind it: one byte that fits no character turns the
whole run into one U+FFFD a byte, as the model's own decoder does. So nothing of a run is released
before it has ended or is broken; once broken, each further byte goes out at once. A stop string is
looked for in the run as it stands, and ends the output there.
"""

from codecs import utf_8_decode
from collections.abc import Sequence
from typing import Self

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.detokenizer import (
    NOTHING_HARMLESS,
    DecodingRules,
    Detokenizer,
    begins_surrogate,
)
from tokenizer_svc.vocabulary import REPLACEMENT, Vocabulary


def detokenizer_class(vocabulary: Vocabulary) -> type[Detokenizer]:
    """The state machine for a vocabulary."""
    needs_runs = bool(vocabulary.byte_ids or vocabulary.first_token_bytes)
    return FallbackDetokenizer if needs_runs else Detokenizer


def decoded_beginning(raw: bytes) -> tuple[str, int] | None:
    """The text of all whole characters and how many bytes they have; None if more is no UTF-8."""
    try:
        text, used = utf_8_decode(raw, "strict", False)
    except UnicodeDecodeError:
        return None
    return None if begins_surrogate(raw[used:]) else (text, used)


class FallbackDetokenizer(Detokenizer):
    """The state of one output. Of an open run, places are counted as in `_base`."""

    __slots__ = ("_is_broken", "_is_first", "_run_counts", "_run_scanned", "_run_start")

    def __init__(self, rules: DecodingRules) -> None:
        super().__init__(rules)
        self._is_first = True  # no token has been seen that is not silent
        self._is_broken = False
        self._run_start: int | None = None  # None: no run is open
        self._run_scanned = 0  # how far the text had been scanned when the run began
        self._run_counts: list[int] = []  # bytes of the run up to each token since it began
        self.fast = NOTHING_HARMLESS

    @classmethod
    def resumed(
        cls, rules: DecodingRules, prior_token_ids: Sequence[int], released: int
    ) -> tuple[Self, str]:
        """A state behind `prior_token_ids`, and its text behind the first `released` of them.

        Raises ServiceError for a `released` that these ids never had.
        """
        state = cls(rules)
        text = ""
        sent_end = None if released else 0
        for token_id in prior_token_ids:
            text += state.feed((token_id,))
            if sent_end is None and state.released == released:
                sent_end = len(text)
        if sent_end is None:
            message = (
                f"released_tokens is {released}, which is no number that these "
                f"{len(prior_token_ids)} tokens release; they release {state.released}."
            )
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="released_tokens"
            )
        return state, text[sent_end:]

    def _decode(self, token_id: int) -> None:
        rules = self._rules
        vocabulary = rules.vocabulary
        raw = rules.bytes_of(token_id)
        if token_id in vocabulary.silent_ids or token_id in rules.stop_token_ids:
            self._note_end()
            return
        if self._is_first:
            self._is_first = False
            raw = vocabulary.first_token_bytes.get(token_id, raw)
        if token_id in vocabulary.byte_ids:
            self._take_byte(raw)
        else:
            self._end_run()
            text = raw.decode()
            self._held += self._stripped(text) if self._at_start else text
            self._note_end()

    def _take_byte(self, raw: bytes) -> None:
        if self._is_broken:
            self._held += REPLACEMENT
            self._note_end()
            return
        if self._run_start is None:
            self._run_start = self._base + len(self._held)
            self._run_scanned = self._base + self._scanned
        data = self._pending + raw
        decoded = decoded_beginning(data)
        if decoded is None:
            self._note_end(1)
            self._break_run()
            return
        text, used = decoded
        self._pending = data[used:]
        self._held += self._stripped(text) if self._at_start else text
        self._note_end(1)

    def _note_end(self, num_bytes: int = 0) -> None:
        """Note where the token's text ends, and how many bytes it adds to an unbroken run."""
        end = self._base + len(self._held) + bool(self._pending)
        if self._run_start is not None and not self._is_broken:
            # A space that the text loses in front is no text only once the run is settled.
            end = max(end, self._run_start + 1)
            counts = self._run_counts
            counts.append((counts[-1] if counts else 0) + num_bytes)
        self._ends.append(end)

    def _break_run(self) -> None:
        """Turn the open run, which is no UTF-8, into replacement characters."""
        start, counts = self._run_start or 0, self._run_counts
        self._held = self._held[: start - self._base] + REPLACEMENT * counts[-1]
        self._ends[-len(counts) :] = [start + count for count in counts]
        self._scanned = self._run_scanned - self._base
        self._pending = b""
        self._at_start = False
        self._is_broken = True
        self._run_counts = []

    def _end_run(self) -> None:
        if self._run_start is None:
            return
        if self._pending:
            self._break_run()
        self._run_start = None
        self._is_broken = False
        self._run_counts = []

    def _end_text(self) -> None:
        self._end_run()

    def _settled(self) -> int:
        if self._run_start is None or self._is_broken:
            return self._scanned
        return self._run_scanned - self._base

    def _is_clean(self) -> bool:
        return super()._is_clean() and self._run_start is None and not self._is_first
