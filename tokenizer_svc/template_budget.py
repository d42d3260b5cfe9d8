"""What one render of a chat template may use: time, characters in a value, memory in all values.

Sizes are of a value written out: a list that holds the same text a thousand times has a thousand
times its length, so that whatever walks through a value (writing, comparing, hashing, sorting) is
bounded by its size. Sizes of containers are kept: templates run in a sandbox that cannot change
them. Memory is counted as it is taken and never given back; that bounds what lives at any moment.
"""

import sys
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from dataclasses import dataclass
from itertools import chain
from time import monotonic, thread_time
from typing import Any, TypeVar

from jinja2.utils import Namespace

ValueT = TypeVar("ValueT")
SequenceT = TypeVar("SequenceT", bound=Sequence[Any])
_CONTAINERS = (dict, list, tuple, set, frozenset, ItemsView, KeysView, ValuesView)
# What an element costs beside its place in the container, where the container is new.
_ELEMENT_BYTES = 64
# The written form of an object that is neither text, number nor container.
_OBJECT_CHARACTERS = 64
_SEPARATOR_CHARACTERS = 4
# What walks through so many in one call into C, such as sorting, ends within about a second.
_MAX_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class RenderBounds:
    """What one render may use. `max_bytes` is the memory of all that it computes.

    `max_seconds` are of the thread's own CPU time: on a busy machine none are lost by waiting.
    """

    max_seconds: float = 2.0
    max_characters: int = 32 * 1024 * 1024
    max_bytes: int = 512 * 1024 * 1024


class BoundsExceededError(Exception):
    """A render used up what it may use, or asked for what is not offered; the message is a verb."""


class RenderBudget:
    """What is left of one render's bounds; made and used on one thread."""

    def __init__(self, bounds: RenderBounds) -> None:
        self._may_be_over = monotonic() + bounds.max_seconds  # asked first, which costs less
        self._most_thread_time = thread_time() + bounds.max_seconds
        self._max_characters = bounds.max_characters
        self._max_bytes = self._bytes_left = bounds.max_bytes
        self._sizes: dict[int, tuple[object, int]] = {}

    def tick(self) -> None:
        """Raise BoundsExceededError when the time is used up."""
        if monotonic() > self._may_be_over and thread_time() > self._most_thread_time:
            raise BoundsExceededError("took too long")

    def require(self, characters: int) -> None:
        """Raise BoundsExceededError for a value of so many characters, before it is made."""
        if characters > self._max_characters:
            raise BoundsExceededError(
                f"computed a value that is too large: more than {self._max_characters} characters"
            )

    def require_items(self, count: int) -> None:
        """Raise BoundsExceededError for a sequence of so many elements, before it is made."""
        if count > _MAX_ITEMS:
            raise BoundsExceededError(
                f"computed a value that is too large: more than {_MAX_ITEMS} elements"
            )

    def spend(self, num_bytes: int) -> None:
        """Count memory. Raises BoundsExceededError when there is none left."""
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise BoundsExceededError(f"used more than {self._max_bytes} bytes")

    def charge(self, value: ValueT) -> ValueT:
        """Count a value that was made; returns it. Raises BoundsExceededError."""
        if isinstance(value, str | bytes):
            self.require(len(value))
            self.spend(sys.getsizeof(value))
        elif isinstance(value, _CONTAINERS):
            self.require_items(len(value))
            self.require(self._container_size(value))
            self.spend(sys.getsizeof(value) + _ELEMENT_BYTES * len(value))
        return value

    def share(self, value: SequenceT, size: int) -> SequenceT:
        """Count a sequence of `size` made of elements that are there already; returns it."""
        self.require_items(len(value))
        self.require(size)
        self.spend(sys.getsizeof(value))
        self._sizes[id(value)] = value, size
        return value

    def size(self, value: object) -> int:
        """Characters of the value written out, at least; raises where they are too many."""
        if isinstance(value, str | bytes):
            return len(value)
        if isinstance(value, int):
            return value.bit_length() // 3 + 2
        if isinstance(value, _CONTAINERS):
            return self._container_size(value)
        if isinstance(value, Namespace):  # changes, and may hold itself
            raise BoundsExceededError("used a namespace as a value")
        return _OBJECT_CHARACTERS

    def collected(self, values: Iterable[Any]) -> list[Any]:
        """All values of an iterable, within the bounds."""
        if isinstance(values, str):
            self.require_items(len(values))
        return self.charge(list(self.ticking(values)))

    def ticking(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same values, within the time and the number that are allowed."""
        for count, value in enumerate(values):
            if not count & 63:
                self.tick()
                self.require_items(count)
            yield value

    def _container_size(self, container: Any) -> int:
        known = self._sizes.get(id(container))
        if known is not None:
            return known[1]
        is_dict = isinstance(container, dict)
        items = chain.from_iterable(container.items()) if is_dict else container
        total = _SEPARATOR_CHARACTERS
        for count, item in enumerate(items):
            if not count & 1023:
                self.tick()
            total += _SEPARATOR_CHARACTERS + self.size(item)
            self.require(total)
        self._sizes[id(container)] = container, total  # the reference keeps the id its own
        return total
