"""Output without markup: all of it is content."""

from tokenizer_svc.formats.events import EventKind
from tokenizer_svc.formats.parser import OutputParser, Reading


class TextParser(OutputParser):
    """The state of one output; nothing is held back."""

    def _read(self) -> Reading:
        while True:
            self._at = len(self._buffer)
            self._pass(EventKind.CONTENT)
            if self._has_ended:
                return
            yield
