"""The outputs that one Detokenize stream has open, and what a frame of arrays does to them.

No I/O. The frame loop makes no object per token: it reads three parallel arrays and appends to
four.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from tokenizer_svc.detokenizer import DecodingRules, Detokenizer
from tokenizer_svc.fallback_detokenizer import detokenizer_class
from tokenizer_svc.formats.events import OutputEvent
from tokenizer_svc.formatted_detokenizer import FormatRules, FormattedDetokenizer
from tokenizer_svc.spelling_detokenizer import (
    Alternatives,
    SpelledToken,
    SpellingDetokenizer,
    split_alternatives,
)

OutputState = Detokenizer | SpellingDetokenizer | FormattedDetokenizer
EndReason: TypeAlias = Literal["closed", "stop_string", "abandoned", "failed", "stream_lost"]
"""How an output ended; one whose stop string was completed did so by that, whoever said so."""
OnEnd: TypeAlias = Callable[[int, EndReason, OutputState, ServiceError | None], None]


@dataclass(slots=True)
class Answers:
    """What one frame made; the fields of DetokenizeResponse. The first four are parallel.

    `stop_hits` holds (handle, stop index, consumed tokens), `spelled` (handle, tokens that an entry
    released), for outputs that asked, `events` (handle, what an entry of an output with a format
    says, its reasoning tokens so far).
    """

    handles: list[int] = field(default_factory=list)
    consumed_tokens: list[int] = field(default_factory=list)
    released_tokens: list[int] = field(default_factory=list)
    deltas: list[str] = field(default_factory=list)
    stop_hits: list[tuple[int, int, int]] = field(default_factory=list)
    closed_handles: list[int] = field(default_factory=list)
    failures: list[tuple[int, ServiceError]] = field(default_factory=list)
    spelled: list[tuple[int, list[SpelledToken]]] = field(default_factory=list)
    events: list[tuple[int, list[OutputEvent], int]] = field(default_factory=list)

    def add_entry(self, handle: int, state: OutputState, delta: str) -> None:
        """Acknowledge an output's tokens and send the text that they released."""
        self.handles.append(handle)
        self.consumed_tokens.append(state.consumed)
        self.released_tokens.append(state.released)
        self.deltas.append(delta)
        if state.stop_index is not None:
            self.stop_hits.append((handle, state.stop_index, state.consumed))
        if state.says_more:
            self._add_more(handle, state)

    def _add_more(self, handle: int, state: OutputState) -> None:
        if isinstance(state, Detokenizer):
            return
        if state.spelled:
            self.spelled.append((handle, state.spelled))
            state.spelled = []
        if isinstance(state, FormattedDetokenizer):
            self._add_events(handle, state)

    def _add_events(self, handle: int, state: FormattedDetokenizer) -> None:
        count = state.reasoning_tokens
        if state.events or count != state.said_reasoning_tokens:
            self.events.append((handle, state.events, count))
            state.events, state.said_reasoning_tokens = [], count


def _nobody(
    _handle: int, _reason: EndReason, _state: OutputState, _error: ServiceError | None
) -> None:
    """Nobody wants to know how outputs end."""


class OutputTable:
    """All outputs of one stream by handle. Handles increase and are never reused.

    `on_end` is told once of each output that was opened: how it ended, its last state, and the
    error where it failed.
    """

    def __init__(self, on_end: OnEnd = _nobody) -> None:
        self._on_end = on_end
        self._states: dict[int, OutputState] = {}
        self._last_handle = -1
        self.stray_entries = 0

    def __len__(self) -> int:
        return len(self._states)

    def claim(self, handle: int) -> None:
        """Take note of a handle that is being opened. Raises FrameViolationError for an old one."""
        if handle <= self._last_handle:
            raise FrameViolationError(
                f"edge opened handle {handle} after handle {self._last_handle}"
            )
        self._last_handle = handle

    def open(
        self,
        handle: int,
        rules: DecodingRules,
        prior_token_ids: Sequence[int],
        released_tokens: int,
        answers: Answers,
    ) -> None:
        """Begin an output, or go on where another process stopped.

        With prior ids the answer is an entry at once. Raises ServiceError for ids that are refused.
        """
        state_class = detokenizer_class(rules.vocabulary)
        state, delta = state_class.resumed(rules, prior_token_ids, released_tokens)
        self._states[handle] = state
        if prior_token_ids:
            answers.add_entry(handle, state, delta)

    def open_spelling(
        self,
        handle: int,
        rules: DecodingRules,
        prior: tuple[Sequence[int], int, Alternatives],
        answers: Answers,
    ) -> None:
        """Begin an output whose tokens' bytes are answered too.

        `prior`: the prior ids, how many of them are released, and the others' alternatives. Raises
        ServiceError for ids that are refused.
        """
        state, delta = SpellingDetokenizer.resumed(rules, *prior)
        self._states[handle] = state
        if prior[0]:
            answers.add_entry(handle, state, delta)

    def open_formatted(
        self,
        handle: int,
        rules: FormatRules,
        prior: tuple[Sequence[int], int, Alternatives],
        answers: Answers,
    ) -> None:
        """Begin an output that is read in a format; `prior` as above.

        Raises ServiceError for ids that are refused.
        """
        state = self._states[handle] = FormattedDetokenizer.resumed(rules, *prior)
        if prior[0]:
            answers.add_entry(handle, state, "")

    def offer(self, handle: int, counts: Sequence[int], token_ids: Sequence[int]) -> None:
        """Take the alternatives of tokens that `feed` brings next.

        Raises FrameViolationError for arrays that contradict, and for an output that did not ask.
        """
        alternatives = split_alternatives(counts, token_ids)
        state = self._states.get(handle)
        if isinstance(state, FormattedDetokenizer):
            state = state.speller or state
        if isinstance(state, SpellingDetokenizer):
            state.offer(alternatives)
        elif state is not None:
            raise FrameViolationError(f"edge sent alternatives for output {handle}, which has none")

    def check_offers(self, handles: Iterable[int]) -> None:
        """Raise FrameViolationError for alternatives of tokens that did not come."""
        for handle in handles:
            state = self._states.get(handle)
            if isinstance(state, SpellingDetokenizer | FormattedDetokenizer):
                state.check_offers()

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        answers: Answers,
    ) -> None:
        """Feed a frame's entries. Raises FrameViolationError for arrays that contradict."""
        if len(counts) != len(handles) or sum(counts) != len(token_ids):
            raise FrameViolationError(
                f"edge sent {len(handles)} handles, {len(counts)} counts that add up to "
                f"{sum(counts)}, and {len(token_ids)} token ids"
            )
        if counts.count(1) == len(handles):
            self._feed_single_tokens(handles, token_ids, answers)
            return
        start = 0
        for handle, count in zip(handles, counts, strict=True):
            self._feed_entry(handle, token_ids[start : start + count], answers)
            start += count

    def close(self, handle: int, answers: Answers) -> None:
        """End an output: release what it held back, and confirm."""
        state = self._states.pop(handle, None)
        if state is None:
            self.stray_entries += 1
            return
        if state.stop_index is None:
            delta = state.flush()
            answers.add_entry(handle, state, delta)
        answers.closed_handles.append(handle)
        self._end(handle, state, "closed")

    def fail(self, handle: int, error: ServiceError, answers: Answers) -> None:
        """End an output that cannot go on."""
        state = self._states.pop(handle, None)
        if state is None:
            self.stray_entries += 1
            return
        answers.failures.append((handle, error))
        self._on_end(handle, "failed", state, error)

    def abandon(self, handle: int) -> None:
        """Drop an output without an answer."""
        state = self._states.pop(handle, None)
        if state is None:
            self.stray_entries += 1
            return
        self._end(handle, state, "abandoned")

    def lose(self) -> Mapping[int, OutputState]:
        """Drop all outputs: their stream has ended. Returns those that had not, for one report."""
        states, self._states = self._states, {}
        for handle, state in states.items():
            if state.stop_index is not None:
                self._end(handle, state, "stop_string")
        return {handle: state for handle, state in states.items() if state.stop_index is None}

    def _end(self, handle: int, state: OutputState, reason: EndReason) -> None:
        self._on_end(handle, reason if state.stop_index is None else "stop_string", state, None)

    def _feed_single_tokens(
        self, handles: Sequence[int], token_ids: Sequence[int], answers: Answers
    ) -> None:
        # The hot loop: one token for each of many outputs. What is looked up once stays out of it.
        find_state = self._states.get
        add_handle = answers.handles.append
        add_consumed = answers.consumed_tokens.append
        add_released = answers.released_tokens.append
        add_delta = answers.deltas.append
        for handle, token_id in zip(handles, token_ids, strict=True):
            state = find_state(handle)
            if state is None:
                self.stray_entries += 1
                continue
            text = state.fast.get(token_id)
            if text is None:
                self._feed_entry(handle, (token_id,), answers)
                continue
            state.consumed = consumed = state.consumed + 1
            add_handle(handle)
            add_consumed(consumed)
            add_released(consumed)  # a harmless token leaves nothing held back
            add_delta(text)

    def _feed_entry(self, handle: int, token_ids: Sequence[int], answers: Answers) -> None:
        state = self._states.get(handle)
        if state is None:
            self.stray_entries += 1
            return
        if state.stop_index is not None:
            return
        try:
            delta = state.feed(token_ids)
        except ServiceError as error:
            self.fail(handle, error, answers)
            return
        answers.add_entry(handle, state, delta)
