"""Which metrics and labels a PromQL expression speaks of; whether it is valid, promtool says."""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<string>"[^"]*")|(?P<window>\[[^\]]*\])|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"""
    r"""|(?P<number>\d[\w.]*)|(?P<sign>[^\s\w])"""
)
_GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", *_GROUPINGS}


@dataclass
class Expression:
    """Labels that are matched with their values, by metric; and labels that are grouped by.

    A regular expression's values are its alternatives.
    """

    matched: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def read_promql(text: str) -> Expression:
    """Read one expression."""
    found = Expression()
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "window"]
    tokens.reverse()
    while tokens:
        token = tokens.pop()
        following = tokens[-1].group() if tokens else ""
        word = token.group() if token.lastgroup == "name" else ""
        if word in _GROUPINGS:
            found.grouped |= _labels(tokens, ")").keys()
        elif word and following not in {"(", "by", "without"} and word not in _WORDS:
            matched = found.matched.setdefault(word, {})
            if following == "{":
                for label, values in _labels(tokens, "}").items():
                    matched.setdefault(label, set()).update(values)
    return found


def _labels(tokens: list[re.Match[str]], end: str) -> dict[str, set[str]]:
    """Take the tokens up to `end`; returns the names among them with the strings behind them."""
    found: dict[str, set[str]] = {}
    label = ""
    while (token := tokens.pop()).group() != end:
        if token.lastgroup == "name":
            label = token.group()
            found[label] = set()
        elif token.lastgroup == "string":
            found[label].update(token.group()[1:-1].split("|"))
    return found
