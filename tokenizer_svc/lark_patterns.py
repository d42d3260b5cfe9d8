"""Pieces of terminals for grammars in llguidance's Lark; their patterns are those of Rust."""

import re

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$#&~/-]")


def escaped(text: str) -> str:
    """A pattern that matches this text alone, to stand between slashes."""
    pattern = _SPECIAL.sub(r"\\\g<0>", text)
    return "".join(c if c.isprintable() else rf"\x{{{ord(c):x}}}" for c in pattern)


def without(texts: tuple[str, ...]) -> str:
    """What makes a terminal hold none of the texts; empty for none."""
    return "".join(f" & ~/(?s:.*){escaped(text)}(?s:.*)/" for text in texts)
