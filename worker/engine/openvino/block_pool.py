"""The KV cache's blocks: who uses each, which hold a known prefix, which one goes next.

A block is in one of three states: free (holds nothing), referenced (at least one sequence uses it),
cached (nobody uses it, but it holds a named prefix). free + cached + referenced = all, always. A
referenced block is never handed out; cached ones are taken least recently used first.
Names are whole digests of headrace.digest: equal names mean equal tokens before and in the block.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`num_blocks` blocks, numbered from 0. Not thread-safe: one thread owns it.

    Without `keeps_prefixes` nothing is published, so that nothing is ever found or cached.
    """

    def __init__(self, num_blocks: int, *, keeps_prefixes: bool = True) -> None:
        self._keeps_prefixes = keeps_prefixes
        self._references = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._digest_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()  # cached blocks, oldest first
        self._num_referenced = 0
        self.evictions = 0
        """Cached blocks that were taken for something else."""

    @property
    def total_blocks(self) -> int:
        """All blocks."""
        return len(self._references)

    @property
    def free_blocks(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def cached_blocks(self) -> int:
        """Blocks that nobody uses, kept for reuse."""
        return len(self._unused)

    @property
    def referenced_blocks(self) -> int:
        """Blocks that a sequence uses."""
        return self._num_referenced

    @property
    def available_blocks(self) -> int:
        """Blocks that `allocate` can give."""
        return len(self._free) + len(self._unused)

    def find(self, digests: Iterable[bytes]) -> list[int]:
        """Blocks that hold the longest known beginning of a chain of digests; takes none."""
        block_ids: list[int] = []
        for digest in digests:
            block_id = self._block_of.get(digest)
            if block_id is None:
                break
            block_ids.append(block_id)
        return block_ids

    def count_unused(self, block_ids: Iterable[int]) -> int:
        """How many of these blocks are cached, so that sharing them takes from the available."""
        return sum(block_id in self._unused for block_id in block_ids)

    def share(self, block_ids: Iterable[int]) -> None:
        """Take a reference on each of these blocks, which `find` has just returned."""
        for block_id in block_ids:
            self._unused.pop(block_id, None)
            self._refer(block_id)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks that nobody uses, with one reference each.

        Raises ValueError when fewer are available; callers ask `available_blocks` first.
        """
        if count > self.available_blocks:
            raise ValueError(f"{count} blocks asked for, {self.available_blocks} available")
        block_ids = [self._take() for _ in range(count)]
        for block_id in block_ids:
            self._refer(block_id)
        return block_ids

    def release(self, block_ids: Sequence[int]) -> None:
        """Drop one reference on each block of a sequence, given in the order of its tokens.

        The last block becomes the oldest cached one: a prefix outlives its continuations.
        """
        for block_id in reversed(block_ids):
            self._references[block_id] -= 1
            if self._references[block_id]:
                continue
            self._num_referenced -= 1
            if block_id in self._digest_of:
                self._unused[block_id] = None
            else:
                self._free.append(block_id)

    def publish(self, block_id: int, digest: bytes) -> None:
        """Make a referenced block findable; only after the step that wrote it.

        Where another block has that name already, this one stays private.
        """
        if not self._keeps_prefixes:
            return
        if digest not in self._block_of and block_id not in self._digest_of:
            self._block_of[digest] = block_id
            self._digest_of[block_id] = digest

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        self.evictions += 1
        block_id, _ = self._unused.popitem(last=False)
        del self._block_of[self._digest_of.pop(block_id)]
        return block_id

    def _refer(self, block_id: int) -> None:
        self._num_referenced += not self._references[block_id]
        self._references[block_id] += 1
