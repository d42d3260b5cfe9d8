"""How an answer went: what its log line, its span and the metrics tell of it alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.message_capture import AnswerCapture
from headrace.client.answers import AnswerConsumer, AnswerTimeline, AnswerUsage


@dataclass(slots=True)
class AnswerReport:
    """Filled as the answer goes on; None = it did not come so far. Times are in seconds.

    `finish_reasons` are those of the outputs that ended, in their order, as the client saw them.
    """

    completion_id: str = ""
    admission_seconds: float | None = None
    render_seconds: float | None = None
    timeline: AnswerTimeline = field(default_factory=AnswerTimeline)
    usage: AnswerUsage = field(default_factory=AnswerUsage)
    finish_reasons: Sequence[str] = ()
    stalls: int = 0
    """How often a stream had to wait for its client to read."""
    is_captured: bool = False
    """Whether the span wants the answer's text."""
    capture: AnswerCapture | None = None

    def seen_by(self, consumer: AnswerConsumer, outputs: int) -> AnswerConsumer:
        """The consumer, behind what keeps the text if the span wants it."""
        if not self.is_captured:
            return consumer
        self.capture = AnswerCapture(consumer, outputs)
        return self.capture

    def first_text_seconds(self, began: float) -> float | None:
        """From `began`, a time of the monotonic clock, to the first text."""
        first = self.timeline.first_text
        return None if first is None else first - began

    def token_seconds(self, began: float, seconds: float) -> float | None:
        """Per token of the longest output behind its first; None where there is no second one.

        Outputs of one request are generated side by side. `seconds` is all that it took.
        """
        first = self.first_text_seconds(began)
        longest = max(self.usage.completion_tokens, default=0)
        if first is None or longest <= 1:
            return None
        return max(0.0, seconds - first) / (longest - 1)
