"""Which bytes of an output's text each of its tokens spells, so that together they spell all of it.

A token spells its own bytes, also where they are no whole character. Where the text says something
else than the tokens' bytes, it is shared out among them:
- U+FFFD stands for one to three bytes that are no character; its three bytes go to theirs in turn,
  the last one taking the rest. So every token with bytes has some of the text;
- in a run of byte fallback that is no UTF-8, each byte token spells the U+FFFD that stands for it;
- the space that a text loses in front is missing from the token that had it.
A share may grow or change until the text that it belongs to is settled. Where the text ends in
front of a stop string, whoever holds the shares cuts them off there.
"""

from collections.abc import Sequence

from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.fallback_detokenizer import decoded_beginning
from tokenizer_svc.vocabulary import REPLACEMENT, Vocabulary

_REPLACEMENT = REPLACEMENT.encode()
# By how many bytes U+FFFD stands for: what each of them gets.
_REPLACEMENT_SHARES: dict[int, tuple[bytes, ...]] = {
    1: (_REPLACEMENT,),
    2: (_REPLACEMENT[:1], _REPLACEMENT[1:]),
    3: (_REPLACEMENT[:1], _REPLACEMENT[1:2], _REPLACEMENT[2:]),
}


class TokenSpeller:
    """Shares out one output's text. Its decoding is that of `Detokenizer`, without stop strings."""

    __slots__ = ("_at_start", "_owners", "_pending", "_rules")

    def __init__(self, rules: DecodingRules) -> None:
        self._rules = rules
        self._at_start = rules.vocabulary.strips_leading_space
        self._pending = b""  # begins a character
        self._owners: list[bytearray] = []  # whose each pending byte is

    def take(self, token_id: int) -> bytearray:
        """The next token's share of the text. Raises ServiceError for an unknown id."""
        share = bytearray()
        raw = self._rules.bytes_of(token_id)
        self._pending += raw
        self._owners += [share] * len(raw)
        self._settle(is_end=False)
        return share

    def alternative(self, token_id: int) -> bytes:
        """What another token would say in place of the next one; a special token says its name.

        Raises ServiceError for an unknown id.
        """
        vocabulary = self._rules.vocabulary
        special = vocabulary.special_bytes.get(token_id)
        if special is not None:
            return special
        try:
            raw = self._raw_next(token_id, vocabulary.token_bytes[token_id])
        except IndexError:
            return self._rules.bytes_of(token_id)  # says what is wrong with it
        return raw.removeprefix(b" ") if self._at_start else raw

    def finish(self) -> None:
        """Share out what waited for the rest of its character. Nothing may follow."""
        self._settle(is_end=True)

    def _raw_next(self, token_id: int, raw: bytes) -> bytes:
        """A token's bytes where it is the next one."""
        del token_id  # the same everywhere
        return raw

    def _settle(self, *, is_end: bool) -> None:
        while self._pending:
            length, num_broken, is_cut_off = _first_break(self._pending)
            for byte, owner in zip(self._pending[:length], self._owners[:length], strict=True):
                self._give(owner, byte)
            keeps_rest = is_cut_off and not is_end
            if not keeps_rest:
                self._replace(self._owners[length : length + num_broken])
                length += num_broken
            self._pending, self._owners = self._pending[length:], self._owners[length:]
            if keeps_rest:
                return

    def _give(self, owner: bytearray, byte: int) -> None:
        if not (self._at_start and byte == ord(" ")):
            owner.append(byte)
        self._at_start = False

    def _replace(self, owners: Sequence[bytearray]) -> None:
        """Share out one U+FFFD; none where nobody is to have it."""
        if owners:
            self._at_start = False
            for owner, part in zip(owners, _REPLACEMENT_SHARES[len(owners)], strict=True):
                owner.extend(part)


class FallbackSpeller(TokenSpeller):
    """The same for vocabularies with byte fallback and first-token rules."""

    __slots__ = ("_is_broken", "_is_first", "_run")

    def __init__(self, rules: DecodingRules) -> None:
        super().__init__(rules)
        self._is_first = True  # no token has been seen that is not silent
        self._is_broken = False
        self._run: list[bytearray] = []  # shares of the open run's tokens while it is unbroken

    def take(self, token_id: int) -> bytearray:
        """The next token's share of the text. Raises ServiceError for an unknown id."""
        share = bytearray()
        vocabulary = self._rules.vocabulary
        raw = self._rules.bytes_of(token_id)
        if token_id in vocabulary.silent_ids or token_id in self._rules.stop_token_ids:
            return share
        raw = self._raw_next(token_id, raw)
        self._is_first = False
        if token_id in vocabulary.byte_ids:
            self._take_byte(raw, share)
        else:
            self._end_run()
            for byte in raw:
                self._give(share, byte)
        return share

    def finish(self) -> None:
        """End the open run. Nothing may follow."""
        self._end_run()

    def _raw_next(self, token_id: int, raw: bytes) -> bytes:
        if self._is_first:
            return self._rules.vocabulary.first_token_bytes.get(token_id, raw)
        return raw

    def _take_byte(self, raw: bytes, share: bytearray) -> None:
        if self._is_broken:
            share += _REPLACEMENT
            return
        self._run.append(share)
        data = self._pending + raw
        decoded = decoded_beginning(data)
        if decoded is None:
            self._break_run()
            return
        self._pending = data[decoded[1] :]
        self._give(share, raw[0])

    def _break_run(self) -> None:
        for share in self._run:
            share[:] = _REPLACEMENT
        self._run = []
        self._pending = b""
        self._is_broken = True
        self._at_start = False

    def _end_run(self) -> None:
        if self._pending:
            self._break_run()
        self._run = []
        self._is_broken = False


def speller_class(vocabulary: Vocabulary) -> type[TokenSpeller]:
    """The speller that goes with the vocabulary's state machine."""
    needs_runs = bool(vocabulary.byte_ids or vocabulary.first_token_bytes)
    return FallbackSpeller if needs_runs else TokenSpeller


def _first_break(raw: bytes) -> tuple[int, int, bool]:
    """How many bytes are UTF-8, how many behind them are none, and whether only the end lacks."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        is_cut_off = error.reason == "unexpected end of data"
        return error.start, error.end - error.start, is_cut_off
    return len(raw), 0, False
