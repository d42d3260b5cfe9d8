"""Stop strings in the content of an output whose format has more than content.

Thoughts and calls are not searched, and content on both sides of them does not run together.
"""

from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.formats.events import EventKind, OutputEvent


class ContentStops:
    """Holds back the longest end of the content that could begin a stop string.

    Once there is one, `stop_index` is its number and `stop_place` where it begins in the output.
    """

    __slots__ = ("_held", "_rules", "stop_index", "stop_place")

    def __init__(self, rules: DecodingRules) -> None:
        self._rules = rules
        self._held: OutputEvent | None = None
        self.stop_index: int | None = None
        self.stop_place = 0

    @property
    def held_from(self) -> int | None:
        """Where the text that is held back begins in the output."""
        return None if self._held is None else self._held.start

    def add(self, event: OutputEvent) -> list[OutputEvent]:
        """Take the next event; returns what is decided by it, nothing behind a stop string."""
        if self.stop_index is not None:
            return []
        if event.kind is not EventKind.CONTENT:
            return [*self.end(), event]
        decided = []
        if self._held is not None and self._held.end != event.start:
            decided = self.end()
        return decided + self._search(event)

    def end(self) -> list[OutputEvent]:
        """What is held back, now that the content does not go on."""
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _search(self, event: OutputEvent) -> list[OutputEvent]:
        if self._held is not None:
            text = self._held.text + event.text
            event, self._held = event._replace(text=text, width=len(text)), None
        stop = self._rules.find_stop(event.text, 0)
        if stop is not None:
            place, self.stop_index = stop
            self.stop_place = event.start + place
            event = event.up_to(self.stop_place)
        else:
            place = self._rules.first_possible_start(event.text, 0)
            if place < len(event.text):
                self._held = event.behind(event.start + place)
                event = event.up_to(event.start + place)
        return [event] if event.text else []
