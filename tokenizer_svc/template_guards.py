"""What a template may call: filters and methods, each with the size of its result foreseen.

A call into C is not interrupted, so one that could make a large value of small ones is measured
before it runs: a guard gets the budget and the call's arguments, and raises where the result would
be too large or its cost out of proportion. What no guard knows how to bound, and no chat template
needs, is not offered.
"""

import re
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, MethodType
from typing import Any

from tokenizer_svc.template_budget import BoundsExceededError, RenderBudget

Guard = Callable[..., None]

# Slow on long texts, random, or made for web pages.
REMOVED_FILTERS = frozenset(
    {"filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"}
)
# Filters whose result is one of their arguments: nothing new to count.
PASSING_FILTERS = frozenset({"d", "default", "first", "last", "max", "min"})
# Filters that take one element after the other, each when it is asked for.
LAZY_FILTERS = frozenset({"map", "reject", "rejectattr", "select", "selectattr"})
# Filters that walk through their value, also where it is a text.
_WALKING_FILTERS = ("dictsort", "groupby", "max", "min", "reverse", "sort", "unique")
# Searching for, or stripping, a text longer than this may cost the product of both lengths.
_MAX_NEEDLE_CHARACTERS = 1024
_MAX_DIGITS = 100
_MAX_BITS = 65536
_MAX_INDENT_CHARACTERS = 64
# Of a text that is cut at every word or escaped byte by byte.
_MAX_CUT_CHARACTERS = 2_000_000
_LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_MAX_WIDTH = 999  # three digits, in _WIDE_FIELD and _WIDE_SPEC
_WIDE_FIELD = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(?:\*|\d{4}|\d*\.(?:\*|\d{4}))")
_WIDE_SPEC = re.compile(r"\{[^{}]*:[^{}]*(?:\d{4}|\{)")


def check_printf(budget: RenderBudget, form: object, *args: Any, **kwargs: Any) -> None:
    """`form % args`."""
    if not isinstance(form, str):
        return
    if _WIDE_FIELD.search(form):
        raise BoundsExceededError(f"used a format wider than {_MAX_WIDTH} characters")
    budget.require(len(form) + form.count("%") * (_MAX_WIDTH + _largest(budget, args, kwargs)))


def check_format(budget: RenderBudget, form: str, *args: Any, **kwargs: Any) -> None:
    """`form.format(…)`."""
    if _WIDE_SPEC.search(form):
        raise BoundsExceededError(f"used a format wider than {_MAX_WIDTH} characters")
    budget.require(len(form) + form.count("{") * (_MAX_WIDTH + _largest(budget, args, kwargs)))


def check_product(budget: RenderBudget, left: Any, right: Any) -> None:
    """`left * right`, for texts, sequences and numbers."""
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for repeated, times in ((left, right), (right, left)):
        if isinstance(repeated, str | bytes | list | tuple) and isinstance(times, int):
            budget.require(budget.size(repeated) * times)
        if isinstance(repeated, list | tuple) and isinstance(times, int):
            budget.require_items(len(repeated) * times)


def check_power(_: RenderBudget, base: Any, exponent: Any) -> None:
    """`base ** exponent`."""
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * abs(exponent))


def check_sum(budget: RenderBudget, left: Any, right: Any) -> None:
    """`left + right`."""
    if isinstance(left, str | bytes | list | tuple):
        budget.require(budget.size(left) + budget.size(right))


def check_json(
    budget: RenderBudget,
    value: Any,
    ensure_ascii: object = None,
    indent: object = None,
    separators: object = None,
    sort_keys: object = None,
) -> None:
    """The filter `tojson`."""
    del ensure_ascii, sort_keys
    width = len(indent) if isinstance(indent, str) else indent
    if isinstance(width, int) and width > _MAX_INDENT_CHARACTERS:
        raise BoundsExceededError(f"indented JSON by more than {_MAX_INDENT_CHARACTERS} characters")
    if separators is not None and budget.size(separators) > _MAX_INDENT_CHARACTERS:
        raise BoundsExceededError("used JSON separators that are too long")
    budget.require(budget.size(value))


def _replace(
    budget: RenderBudget, text: object, old: object, new: object, count: Any = None
) -> None:
    del count
    written, found = str(text), str(old)
    growth = budget.size(new) - len(found)
    budget.require(len(written) + written.count(found) * max(growth, 0))


def _join(budget: RenderBudget, values: Any, separator: object = "", attribute: Any = None) -> None:
    del attribute
    if isinstance(values, str | list | tuple | dict):
        budget.require_items(len(values))
        budget.require(budget.size(values) + len(values) * budget.size(separator))
    elif budget.size(separator) > _MAX_INDENT_CHARACTERS:
        raise BoundsExceededError("joined a sequence of unknown length by a long text")


def _join_method(budget: RenderBudget, separator: str, values: Any) -> None:
    _join(budget, values, separator)


def _indent(budget: RenderBudget, text: object, width: Any = 4, *_: Any, **__: Any) -> None:
    length = len(width) if isinstance(width, str) else width
    written = str(text)
    budget.require(len(written) + (1 + _lines(budget, written)) * length)


def _width(budget: RenderBudget, text: object, width: Any = 80, *_: Any, **__: Any) -> None:
    budget.require(budget.size(text) + width)


def _lines(budget: RenderBudget, text: str) -> int:
    count = sum(map(text.count, _LINE_ENDS))
    budget.require_items(count)
    return count


def _split_lines(budget: RenderBudget, text: str, *_: Any, **__: Any) -> None:
    _lines(budget, text)


def _split(
    budget: RenderBudget, text: str, sep: Any = None, maxsplit: Any = -1, *, backwards: bool = False
) -> None:
    if backwards:
        _needle(budget, text, sep)
    if isinstance(sep, str) and sep:
        count = text.count(sep)
        budget.require_items(count if maxsplit < 0 else min(count, maxsplit))
    else:
        _cut(budget, text)


def _split_backwards(budget: RenderBudget, text: str, sep: Any = None, maxsplit: Any = -1) -> None:
    _split(budget, text, sep, maxsplit, backwards=True)


def _cut(budget: RenderBudget, text: object, *_: Any, **__: Any) -> None:
    if budget.size(text) > _MAX_CUT_CHARACTERS:
        raise BoundsExceededError(
            f"cut up a text of more than {_MAX_CUT_CHARACTERS} characters word by word"
        )


def _walk(budget: RenderBudget, value: object, *_: Any, **__: Any) -> None:
    if isinstance(value, str):
        budget.require_items(len(value))


def _parts(budget: RenderBudget, values: object, count: Any, *_: Any, **__: Any) -> None:
    _walk(budget, values)
    budget.require_items(count)


def _digits(_: RenderBudget, value: object, precision: Any = 0, *__: Any, **___: Any) -> None:
    del value
    if abs(precision) > _MAX_DIGITS:
        raise BoundsExceededError(f"rounded to more than {_MAX_DIGITS} digits")


def _needle(budget: RenderBudget, text: object, needle: Any = None, *_: Any, **__: Any) -> None:
    del text
    if budget.size(needle) > _MAX_NEEDLE_CHARACTERS:
        raise BoundsExceededError(
            f"searched backwards for, or stripped, more than {_MAX_NEEDLE_CHARACTERS} characters"
        )


def _written(budget: RenderBudget, value: object, *_: Any, **__: Any) -> None:
    budget.require(budget.size(value))


def _number_start(
    budget: RenderBudget, values: object, attribute: object = None, start: object = 0
) -> None:
    del attribute
    _walk(budget, values)
    if not isinstance(start, int | float):
        raise BoundsExceededError("summed something else than numbers")


def _nothing(_: RenderBudget, *__: Any, **___: Any) -> None:
    """Never larger than the arguments."""


FILTER_GUARDS: Mapping[str, Guard] = {
    **dict.fromkeys((*_WALKING_FILTERS, *LAZY_FILTERS), _walk),
    **dict.fromkeys(("title", "urlencode", "wordcount"), _cut),
    "batch": _parts,
    "center": _width,
    "format": check_printf,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _digits,
    "slice": _parts,
    "string": _written,
    "sum": _number_start,
    "tojson": check_json,
    "trim": _needle,
}

_PLAIN_TEXT_METHODS = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper lower partition "
    "removeprefix removesuffix startswith swapcase title upper"
)
_TEXT_METHODS: Mapping[str, Guard] = {
    **dict.fromkeys(_PLAIN_TEXT_METHODS.split(), _nothing),
    **dict.fromkeys(("lstrip", "rfind", "rindex", "rpartition", "rstrip"), _needle),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _width),
    "join": _join_method,
    "replace": _replace,
    "rsplit": _split_backwards,
    "split": _split,
    "splitlines": _split_lines,
    "strip": _needle,
}
# Of dictionaries, lists, tuples and numbers; none makes anything large.
_OTHER_METHODS = frozenset(
    {"copy", "count", "get", "index", "is_integer", "items", "keys", "values"}
)


def check_method(budget: RenderBudget, method: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Check a call; True where its result is new. Raises BoundsExceededError."""
    if not isinstance(method, BuiltinMethodType | MethodType):
        return True
    owner, name = method.__self__, method.__name__
    if isinstance(owner, str):
        guard = _TEXT_METHODS.get(name)
        if guard is None:
            raise BoundsExceededError(f"called the method {name} of a text, which is not offered")
        guard(budget, owner, *args, **kwargs)
        return True
    if isinstance(method, BuiltinMethodType) and name not in _OTHER_METHODS:
        raise BoundsExceededError(f"called the method {name}, which is not offered")
    return not isinstance(method, BuiltinMethodType)


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise BoundsExceededError(
            f"computed a value that is too large: a number of more than {_MAX_BITS} bits"
        )


def _largest(budget: RenderBudget, args: Any, kwargs: Mapping[str, Any]) -> int:
    return max(map(budget.size, (*args, *kwargs.values())), default=0)
