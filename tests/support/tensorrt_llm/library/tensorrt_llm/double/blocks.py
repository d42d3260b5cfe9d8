"""The KV cache: blocks of one namespace's tokens in chains, with reuse, eviction and a host pool.

Invariant: a block is free, or referenced by sequences, or stored and unreferenced (to be evicted).
A chain's root holds its namespace (salt, LoRA id), so that equal tokens of two namespaces differ.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tensorrt_llm.double.cache_events import CacheEvents

DEFAULT_PRIORITY = 35
_HIGH_BIT = 1 << 63


@dataclass(eq=False, slots=True)
class Block:
    """One block; stored ones have a hash. `level` 0 is the GPU, 1 the host."""

    hash: int | None = None
    parent: "Block | None" = None
    tokens: tuple[int, ...] = ()
    references: int = 0
    priority: int = DEFAULT_PRIORITY
    expires_at: float | None = None
    used_at: int = 0
    level: int = 0
    children: int = 0

    def effective_priority(self, now: float) -> int:
        """The priority, or the default once its duration is over."""
        if self.expires_at is not None and now >= self.expires_at:
            return DEFAULT_PRIORITY
        return self.priority


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Sizes in blocks; `tokens_per_block` in tokens."""

    total: int
    tokens_per_block: int
    host: int = 0
    reuses: bool = True
    reuses_partially: bool = True
    onboards: bool = True
    offload_min_priority: int | None = None
    high_hashes: bool = True


@dataclass(slots=True)
class PoolCounts:
    """Since the beginning, in blocks."""

    allocated: int = 0
    new: int = 0
    reused: int = 0
    missed: int = 0


@dataclass(slots=True)
class Match:
    """The reusable beginning of a prompt; `partial_tokens` more lie in a block that goes on."""

    blocks: list[Block] = field(default_factory=list)
    partial_tokens: int = 0


class BlockPool:
    """All blocks; used by the worker's thread only."""

    def __init__(self, limits: PoolLimits, events: CacheEvents) -> None:
        self.limits = limits
        self.counts = PoolCounts()
        self._events = events
        self._stored: dict[int, Block] = {}
        self._on_gpu = 0
        self._on_host = 0
        self._clock = 0

    @property
    def free(self) -> int:
        """Blocks that could be had: never used, or evictable."""
        evictable = sum(b.references == 0 and b.level == 0 for b in self._stored.values())
        return self.limits.total - self._on_gpu + evictable

    @property
    def used(self) -> int:
        """Blocks that sequences hold."""
        return self.limits.total - self.free

    def match(self, namespace: str, tokens: Sequence[int]) -> Match:
        """What of a prompt is there; never its last token, which is always computed."""
        found = Match()
        if not self.limits.reuses:
            return found
        size = self.limits.tokens_per_block
        parent: Block | None = None
        for begin in range(0, (len(tokens) - 1) // size * size, size):
            block = self._find(namespace, parent, tuple(tokens[begin : begin + size]))
            if block is None:
                break
            found.blocks.append(block)
            parent = block
        if self.limits.reuses_partially:
            rest = tokens[len(found.blocks) * size : -1]
            found.partial_tokens = self._common(namespace, parent, rest)
        return found

    def _find(self, namespace: str, parent: Block | None, tokens: tuple[int, ...]) -> Block | None:
        block = self._stored.get(self._hash(namespace, parent, tokens))
        if block is None or (block.level and not self.limits.onboards):
            return None
        return block

    def _common(self, namespace: str, parent: Block | None, rest: Sequence[int]) -> int:
        best = 0
        for block in self._stored.values():
            in_place = block.parent is parent and (
                parent is not None or block.hash == self._hash(namespace, None, block.tokens)
            )
            if in_place:
                same = 0
                for ours, theirs in zip(rest, block.tokens, strict=False):
                    if ours != theirs:
                        break
                    same += 1
                best = max(best, same)
        return best

    def acquire(self, blocks: Iterable[Block]) -> None:
        """Hold stored blocks; those on the host come back."""
        for block in blocks:
            block.references += 1
            self._touch(block)
            self.counts.reused += 1
            if block.level:
                self._make_room()
                block.level = 0
                self._on_host -= 1
                self._on_gpu += 1
                self._events.updated(block.hash or 0, level=(1, 0))

    def allocate(self) -> Block | None:
        """A fresh block, held; None when all are held."""
        if not self._make_room():
            return None
        self._on_gpu += 1
        self.counts.allocated += 1
        self.counts.new += 1
        self.counts.missed += 1
        block = Block(references=1)
        self._touch(block)
        return block

    def _make_room(self) -> bool:
        return self._on_gpu < self.limits.total or self._evict()

    def store(self, namespace: str, blocks: Sequence[Block], tokens: Sequence[int]) -> None:
        """Make full blocks of a chain reusable; a last one that is not full too, as partial."""
        if not self.limits.reuses:
            return
        size = self.limits.tokens_per_block
        parent: Block | None = None
        fresh: list[Block] = []
        for index, block in enumerate(blocks):
            ids = tuple(tokens[index * size : (index + 1) * size])
            if not ids or (len(ids) < size and not self.limits.reuses_partially):
                break
            if block.hash is None:
                key = self._hash(namespace, parent, ids)
                known = self._stored.get(key)
                if known is not None:
                    # Another sequence stored the same: this copy is forgotten when it is let go.
                    parent = known
                    continue
                block.hash, block.parent, block.tokens = key, parent, ids
                self._stored[key] = block
                if parent is not None:
                    parent.children += 1
                fresh.append(block)
            parent = block
        if fresh:
            self._events.stored(fresh)

    def release(self, blocks: Iterable[Block]) -> None:
        """Let go; what was not stored is free at once."""
        for block in blocks:
            block.references -= 1
            self._touch(block)
            if block.references == 0 and block.hash is None:
                self._on_gpu -= 1

    def _touch(self, block: Block) -> None:
        self._clock += 1
        block.used_at = self._clock

    def _evict(self) -> bool:
        now = time.monotonic()
        idle = [b for b in self._stored.values() if b.references == 0 and b.level == 0]
        # Leaves first: a chain without its beginning could never be found again.
        leaves = [b for b in idle if b.children == 0 or b.hash is None]
        if not (leaves or idle):
            return False
        victim = min(leaves or idle, key=lambda b: (b.effective_priority(now), b.used_at))
        self._on_gpu -= 1
        if self._goes_to_host(victim, now):
            victim.level = 1
            self._on_host += 1
            self._events.updated(victim.hash or 0, level=(0, 1))
        else:
            self._forget(victim)
        return True

    def _goes_to_host(self, block: Block, now: float) -> bool:
        least = self.limits.offload_min_priority
        if least is not None and block.effective_priority(now) <= least:
            return False
        return self._on_host < self.limits.host

    def _forget(self, block: Block) -> None:
        if block.hash is not None:
            del self._stored[block.hash]
            self._events.removed([block.hash])
        if block.parent is not None:
            block.parent.children -= 1

    def _hash(self, namespace: str, parent: Block | None, tokens: tuple[int, ...]) -> int:
        root = namespace if parent is None else str(parent.hash)
        text = f"{root}\x00{tokens}".encode()
        value = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        return value | _HIGH_BIT if self.limits.high_hashes else value & ~_HIGH_BIT
