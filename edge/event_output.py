"""`EventOutput`: the events of one output of a stream, from their coming to their chunks."""

from collections.abc import Sequence

from edge.openai.answer import ChunkEncoder
from edge.openai.call_tally import CallTally
from edge.openai.event_encoder import EventEncoder
from edge.openai.finish import FinishReason
from edge.openai.logprobs import encode_entries
from headrace.client.answer_events import AnswerEvent, TokenLogprob
from headrace.client.answers import Finish


class EventOutput:
    """One output of one attempt; keeps what cannot be written yet, in its order.

    Where calls are possible nothing is said before the first event, since a call that comes first
    is told otherwise than a text. Elsewhere the role chunk is the stream's to write.
    """

    __slots__ = ("_encoder", "_entries", "_events", "_finish", "tally")

    def __init__(self, chunks: ChunkEncoder, index: int) -> None:
        self.tally = CallTally(chunks.shape)
        is_open = chunks.shape.calls_as is None
        self._encoder = EventEncoder(chunks, index, is_open=is_open)
        self._events: list[AnswerEvent] = []
        self._entries: list[bytes] = []
        self._finish: FinishReason | None = None

    def opening(self) -> bytes:
        """The role chunk, if it is still to come: of two outputs the second never opens first."""
        return self._encoder.opening()

    def encode(self, events: Sequence[AnswerEvent], tokens: Sequence[TokenLogprob]) -> bytes:
        """The chunks of events that can be written at once; empty where nothing is told."""
        entries = encode_entries(tokens) if tokens else b""
        return self._encoder.encode(self.tally.admit(events), entries)

    def hold(self, events: Sequence[AnswerEvent], tokens: Sequence[TokenLogprob]) -> int:
        """Keep events for later; returns the bytes kept beside their text."""
        self._events.extend(self.tally.admit(events))
        if not tokens:
            return 0
        self._entries.append(encode_entries(tokens))
        return len(self._entries[-1])

    def end(self, ended: Finish) -> FinishReason:
        """Keep the finish chunk, which goes behind all else; returns what it says."""
        self._finish = reason = self.tally.finish_reason(ended)
        return reason

    def release(self) -> bytes:
        """The chunks of all that was kept."""
        # Taken first: what cannot be encoded must not come up again behind the error.
        events, self._events = self._events, []
        entries, self._entries = self._entries, []
        finish, self._finish = self._finish, None
        data = self._encoder.encode(events, b",".join(entries))
        return data if finish is None else data + self._encoder.finish(finish)
