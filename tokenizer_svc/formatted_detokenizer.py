"""Token ids of one output to what it says in its format: content, thoughts, calls.

The text is that of `Detokenizer`, with the format's markers in it, and goes token by token through
the format's parser. So what has been said after k tokens depends on those k ids alone. A token is
released when its whole text is settled, and what is due within its text is said then: `released`
names an exact place among the events, from which another process can go on. Stop strings are
looked for in the content; the event in which one begins is cut off in front of it.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.detokenizer import NOTHING_HARMLESS, DecodingRules
from tokenizer_svc.fallback_detokenizer import detokenizer_class
from tokenizer_svc.formats.catalog import OutputFormat
from tokenizer_svc.formats.content_stops import ContentStops
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formats.seam import ThoughtsParser, ToolTypes
from tokenizer_svc.spelling_detokenizer import (
    MAX_HELD,
    Alternatives,
    SpelledToken,
    SpellingDetokenizer,
    too_many_held,
)
from tokenizer_svc.thought_count import ThoughtCount

_TEXTS = (EventKind.CONTENT, EventKind.REASONING, EventKind.ARGUMENTS)


@dataclass(frozen=True, slots=True)
class FormatRules:
    """How one output is read. `decoding` has no stop strings: they are those of `stops`.

    `spells`: which bytes of the text each token spells is answered too.
    """

    decoding: DecodingRules
    stops: DecodingRules
    output_format: OutputFormat
    tool_types: ToolTypes
    begins_in_reasoning: bool
    spells: bool


class FormattedDetokenizer:
    """The state of one output, for `OutputTable`; `fast` never holds a token.

    `events` and `spelled` are what was released since they were last taken. `speller` takes the
    tokens' alternatives; it is None where nobody asked for their bytes. `said_reasoning_tokens` is
    the last count that was answered.
    """

    says_more: ClassVar[bool] = True

    __slots__ = (
        "_due",
        "_ends",
        "_num_unreleased",
        "_parser",
        "_place",
        "_released_place",
        "_seen",
        "_stops",
        "_text",
        "_thoughts",
        "_unreleased",
        "consumed",
        "events",
        "fast",
        "released",
        "said_reasoning_tokens",
        "spelled",
        "speller",
        "stop_index",
    )

    def __init__(self, rules: FormatRules) -> None:
        decoding = rules.decoding
        self.speller = SpellingDetokenizer(decoding) if rules.spells else None
        self._text = self.speller or detokenizer_class(decoding.vocabulary)(decoding)
        self._parser = parser = rules.output_format.parser(
            rules.tool_types, begins_in_reasoning=rules.begins_in_reasoning
        )
        self._thoughts = ThoughtCount(parser) if isinstance(parser, ThoughtsParser) else None
        self._stops = ContentStops(rules.stops)
        self._place = 0  # the end of the text so far
        self._released_place = 0
        self._seen = 0  # tokens whose text is known
        self._ends: deque[tuple[int, int]] = deque()  # where tokens not released end, and how many
        self._due: deque[OutputEvent] = deque()
        self._unreleased: deque[SpelledToken] = deque()
        self._num_unreleased = 0  # of those, tokens and alternatives
        self.consumed = 0
        self.released = 0
        self.said_reasoning_tokens = 0
        self.stop_index: int | None = None
        self.events: list[OutputEvent] = []
        self.spelled: list[SpelledToken] = []
        self.fast: Mapping[int, str] = NOTHING_HARMLESS

    @classmethod
    def resumed(
        cls,
        rules: FormatRules,
        prior_token_ids: Sequence[int],
        released: int,
        alternatives: Alternatives,
    ) -> Self:
        """A state behind `prior_token_ids`, with what is said behind the first `released` of them.

        `alternatives` are those of the tokens behind; none, or one entry each. Raises ServiceError
        for a `released` that these ids never had, FrameViolationError for other alternatives.
        """
        state = cls(rules)
        was_there = released == 0
        for place, token_id in enumerate(prior_token_ids):
            if place == released:
                state.offer(alternatives)
            state.feed((token_id,))
            if not was_there and state.released == released:
                was_there = True
                state.events, state.spelled = [], []
        if not was_there:
            message = (
                f"released_tokens is {released}, which is no number that these "
                f"{len(prior_token_ids)} tokens release; they release {state.released}."
            )
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="released_tokens"
            )
        state.check_offers()
        return state

    @property
    def reasoning_tokens(self) -> int:
        """Tokens that are known to be thoughts or their markup."""
        return 0 if self._thoughts is None else self._thoughts.tokens

    def offer(self, alternatives: Alternatives) -> None:
        """Say which alternatives the tokens have that are fed next, where they are spelled."""
        if self.speller is not None:
            self.speller.offer(alternatives)

    def check_offers(self) -> None:
        """Raise FrameViolationError for alternatives of tokens that were not fed."""
        if self.speller is not None:
            self.speller.check_offers()

    def feed(self, token_ids: Iterable[int]) -> str:
        """Take tokens; what they release is in `events`, and the text returned is empty.

        Raises ServiceError for an unknown id, and where too many tokens wait for their text.
        """
        for token_id in token_ids:
            if self.stop_index is not None:
                break
            delta = self._text.feed((token_id,))
            self.consumed = self._text.consumed
            self._take(delta)
        return ""

    def flush(self) -> str:
        """End the output; what was held back is in `events`. Nothing may follow."""
        if self.stop_index is None:
            self._take(self._text.flush())
        if self.stop_index is None:
            self._enter(self._parser.finish())
            self._count_thoughts()
        if self.stop_index is None:
            self._due.extend(self._stops.end())
            self._release(self._place)
            self._say_up_to(self._place)
        return ""

    def _take(self, text: str) -> None:
        """Read text, and note the tokens that end with it."""
        new = count = self._text.released - self._seen
        self._seen += count
        self._place += len(text)
        if count:
            if self._ends and self._ends[-1][0] == self._place:
                count += self._ends.pop()[1]
            self._ends.append((self._place, count))
            if self._thoughts is not None:
                self._thoughts.add(self._place, new)
        if self.speller is not None:
            self._take_spelled(self.speller)
        if text:
            self._enter(self._parser.feed(text))
            self._count_thoughts()
        if self.stop_index is None:
            held_from = self._stops.held_from
            settled = self._parser.settled
            self._release(settled if held_from is None else min(settled, held_from))

    def _count_thoughts(self) -> None:
        if self._thoughts is not None:
            self._thoughts.update()

    def _take_spelled(self, speller: SpellingDetokenizer) -> None:
        tokens, speller.spelled = speller.spelled, []
        self._unreleased.extend(tokens)
        self._num_unreleased += sum(1 + len(each.alternatives) for each in tokens)
        if self._num_unreleased > MAX_HELD:
            raise too_many_held()

    def _enter(self, events: Iterable[OutputEvent]) -> None:
        for event in events:
            self._due.extend(self._stops.add(event))
            if self._stops.stop_index is not None:
                self._end_at(self._stops.stop_place)
                return

    def _release(self, settled: int) -> None:
        """Release the tokens that end at or before the settled place."""
        count = 0
        while self._ends and self._ends[0][0] <= settled:
            self._released_place, tokens = self._ends.popleft()
            count += tokens
        if count:
            self._say_up_to(self._released_place)
            self._release_tokens(count)

    def _release_tokens(self, count: int) -> None:
        self.released += count
        if self._unreleased:
            tokens = [self._unreleased.popleft() for _ in range(count)]
            self._num_unreleased -= sum(1 + len(each.alternatives) for each in tokens)
            self.spelled += tokens

    def _end_at(self, place: int) -> None:
        """Release what stands in front of a completed stop string, and end."""
        self.stop_index = self._stops.stop_index
        self._say_up_to(place)
        if self.speller is not None:
            self.speller.stop_index = self.stop_index
            self._cut_spelled(place)
            return
        while self._released_place < place:  # the last is the token in which it begins
            self._released_place, tokens = self._ends.popleft()
            self.released += tokens if self._released_place <= place else 1

    def _cut_spelled(self, place: int) -> None:
        """Release the tokens that have bytes in front of `place`, and no others of their bytes."""
        text = b"".join(token.spelled for token in self._unreleased).decode()
        room = len(text[: place - self._released_place].encode())
        for token in self._unreleased:
            if not room:
                break
            share = token.spelled[:room]
            room -= len(share)
            self.spelled.append(SpelledToken(share, token.alternatives))
            self.released += 1

    def _say_up_to(self, place: int) -> None:
        while self._due and self._due[0].end <= place:
            self._say(self._due.popleft())
        if self._due and self._due[0].start < place:
            event = self._due.popleft()
            self._say(event.up_to(place))
            self._due.appendleft(event.behind(place))

    def _say(self, event: OutputEvent) -> None:
        last = self.events[-1] if self.events else None
        if last and event.kind in _TEXTS and (last.kind, last.call) == (event.kind, event.call):
            self.events[-1] = event._replace(text=last.text + event.text)
        else:
            self.events.append(event)
