"""KV cache events as the library serialises them: dicts, consecutive ids, a buffer that overflows.

Source of the format: the contract's section 5. Reading is destructive, for one consumer.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorrt_llm.double.blocks import Block


@dataclass(frozen=True, slots=True)
class EventForm:
    """How events look; `windows` are the attention windows, one event each.

    `capacity` 0: no events at all. `gap_every`: each so many-th id is skipped, 0 for none.
    """

    capacity: int
    tokens_per_block: int
    windows: tuple[int, ...]
    rank: int | None = None
    gap_every: int = 0
    tells_partial_blocks: bool = True
    none_diffs: bool = False


class CacheEvents:
    """The buffer; written by the worker's thread, read by the caller's."""

    def __init__(self, form: EventForm) -> None:
        self._form = form
        self._ready = threading.Condition()
        self._events: deque[dict[str, Any]] = deque(maxlen=form.capacity or None)
        self._next_id = 0
        self._told: set[int] = set()

    def created(self, levels: Sequence[int]) -> None:
        """The pools' sizes: primary, secondary."""
        self._emit({"type": "created", "num_blocks_per_cache_level": list(levels)})

    def stored(self, blocks: "Sequence[Block]") -> None:
        """New blocks of one chain, in order."""
        told = [b for b in blocks if self._form.tells_partial_blocks or self._is_full(b)]
        if not told:
            return
        self._told.update(block.hash for block in told if block.hash is not None)
        parent = told[0].parent
        self._emit(
            {
                "type": "stored",
                "parent_hash": None if parent is None else parent.hash,
                "blocks": [_stored_block(block) for block in told],
            }
        )

    def removed(self, hashes: Sequence[int]) -> None:
        """Blocks that are gone."""
        told = [value for value in hashes if value in self._told]
        self._told.difference_update(told)
        if told:
            self._emit({"type": "removed", "block_hashes": told})

    def updated(self, block_hash: int, level: tuple[int, int]) -> None:
        """A block changed its level: (old, new)."""
        diff = {"type": "event_diff", "new_value": level[1], "old_value": level[0]}
        if self._form.none_diffs:
            diff["old_value"] = None
        data = {"type": "updated", "block_hash": block_hash, "cache_level": diff, "priority": None}
        self._emit(data)

    def take(self, timeout_seconds: float) -> list[dict[str, Any]]:
        """All that came since the last call; waits for the first."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._events), timeout_seconds)
            taken = list(self._events)
            self._events.clear()
            return taken

    def _is_full(self, block: "Block") -> bool:
        return len(block.tokens) == self._form.tokens_per_block

    def _emit(self, data: dict[str, Any]) -> None:
        if not self._form.capacity:
            return
        with self._ready:
            for window in self._form.windows:
                self._skip()
                event: dict[str, Any] = {"event_id": self._next_id, "data": data}
                event["window_size"] = window
                if self._form.rank is not None:
                    event["attention_dp_rank"] = self._form.rank
                self._events.append(event)
                self._next_id += 1
            self._ready.notify_all()

    def _skip(self) -> None:
        every = self._form.gap_every
        if every and self._next_id and self._next_id % every == 0:
            self._next_id += 1


def _stored_block(block: "Block") -> dict[str, Any]:
    tokens = [
        {"type": "unique_token", "token_id": token_id, "token_extra_id": 0}
        for token_id in block.tokens
    ]
    return {
        "type": "stored_block",
        "block_hash": block.hash,
        "tokens": tokens,
        "cache_level": block.level,
        "priority": block.priority,
    }
