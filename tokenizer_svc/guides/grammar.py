"""A grammar in llguidance's Lark, written rule by rule for one vocabulary."""

import json
from collections.abc import Mapping
from typing import Any

# One space behind commas and colons and no other white space, which could go on without end.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
OPTIONS = "x-guidance"
"""A key of llguidance's own in schemas, which no client may set."""


class Grammar:
    """The rules so far. `special_ids`: ids of the special tokens by their text.

    The same expression gets the same name.
    """

    def __init__(self, special_ids: Mapping[str, int]) -> None:
        self._special_ids = special_ids
        self._names: dict[str, str] = {}

    def is_special(self, marker: str) -> bool:
        """Whether it is a special token."""
        return marker in self._special_ids

    def marker(self, marker: str) -> str:
        """A marker: the special token where it is one, else its text."""
        special_id = self._special_ids.get(marker)
        return self.text(marker) if special_id is None else f"<[{special_id}]>"

    def text(self, text: str) -> str:
        """The text, not empty, as ordinary tokens spell it."""
        return json.dumps(text, ensure_ascii=False)

    def json(self, schema: Mapping[str, Any]) -> str:
        """JSON that the schema accepts."""
        laid_out = json.dumps({**schema, OPTIONS: _LAYOUT}, ensure_ascii=False)
        return self._named(f"%json {laid_out}", "j")

    def terminal(self, pattern: str) -> str:
        """Text that matches as a whole; the pattern is one of Lark's terminals."""
        return self._named(pattern, "T")

    def rule(self, expression: str) -> str:
        """The expression, by a name."""
        return self._named(expression, "r")

    def nested(self, lark: str) -> str:
        """What another grammar accepts."""
        return self._named(f"%lark {{\n{lark}\n}}", "n")

    def beginning_with(self, start: str) -> str:
        """The whole text of the grammar whose outputs are `start`."""
        rules = [f"{name}: {expression}" for expression, name in self._names.items()]
        return "\n".join([f"start: {start}", *rules, ""])

    def _named(self, expression: str, letter: str) -> str:
        return self._names.setdefault(expression, f"{letter}{len(self._names)}")
