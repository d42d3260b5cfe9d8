"""How many tokens of an output are thoughts, counted as its parser decides what they are.

A token is one if its text begins in front of where the thoughts' markup ends: also one that ends
behind that. Tokens that share a character count alike; a token without text, such as an end token,
does not count.
"""

from collections import deque

from tokenizer_svc.formats.seam import ThoughtsParser


class ThoughtCount:
    """The count of one output; it depends on the ids alone, however they were fed."""

    __slots__ = ("_end", "_parser", "_undecided", "tokens")

    def __init__(self, parser: ThoughtsParser) -> None:
        self._parser = parser
        self._undecided: deque[tuple[int, int]] = deque()  # where tokens' text begins, how many
        self._end = 0  # of the text whose tokens are known
        self.tokens = 0

    def add(self, end: int, count: int) -> None:
        """The text behind the last tokens' and in front of `end` is that of `count` tokens."""
        if end > self._end:
            self._undecided.append((self._end, count))
            self._end = end

    def update(self) -> None:
        """The parser has read on, or ended."""
        if not self._undecided:
            return
        thoughts_end = self._parser.thoughts_end
        decided = self._parser.settled if thoughts_end is None else thoughts_end
        while self._undecided and self._undecided[0][0] < decided:
            self.tokens += self._undecided.popleft()[1]
        if thoughts_end is not None:
            self._undecided.clear()
