"""One output that is generated: its tokens, its blocks, and how far the model has read it.

Invariants: the first `num_computed_tokens` tokens have their keys and values in `block_ids`, and
that number is below the number of tokens between two steps. `rank` orders sequences: lower goes
first, the highest is put back first. Of a request's outputs the first reads the prompt; the others
are its `followers` until they fork from it, or queue by themselves.
"""

import math
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from headrace.digest import child_digest, root_digest
from worker.engine.openvino.adjustments import Adjustments, adjustments_of
from worker.engine.openvino.guide_matcher import BoolArray, GuideMatcher
from worker.engine.openvino.sampler import Draw
from worker.engine.seam import EngineRequest, EventSink


@dataclass(slots=True, eq=False)
class Sequence:
    """An output of a request. `seed` is the request's, or one drawn for it. Times in seconds."""

    request: EngineRequest
    sink: EventSink
    key: int
    seed: int
    rank: tuple[float, int]
    submitted_seconds: float
    end_token_ids: frozenset[int]
    token_ids: list[int] = field(init=False)
    adjustments: Adjustments | None = field(init=False)
    matcher: GuideMatcher | None = None
    allowed: "Future[BoolArray] | None" = None
    leader: "Sequence | None" = None
    followers: "list[Sequence]" = field(default_factory=list)
    block_ids: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    num_computed_tokens: int = 0
    num_published_blocks: int = 0
    is_admitted: bool = False
    is_decoding: bool = False
    is_ended: bool = False
    cached_prompt_tokens: int | None = None
    first_fed_seconds: float | None = None
    first_token_seconds: float | None = None

    def __post_init__(self) -> None:
        request = self.request
        self.token_ids = [*request.prompt_token_ids, *request.output_prefix_token_ids]
        self.adjustments = adjustments_of(request)

    @property
    def num_tokens(self) -> int:
        """Prompt and output so far."""
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Output so far, the part generated elsewhere included."""
        return len(self.token_ids) - len(self.request.prompt_token_ids)

    @property
    def num_pending_tokens(self) -> int:
        """Tokens that the model has not read yet; at least 1."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Ids that end this output."""
        if self.request.ignore_eos:
            return self.request.stop_token_ids
        return self.request.stop_token_ids | self.end_token_ids

    def lead(self, followers: "list[Sequence]") -> None:
        """Read the prompt for these as well."""
        self.leader, self.followers = None, followers
        for follower in followers:
            follower.leader = self

    def append(self, token_id: int) -> None:
        """Another token of output."""
        self.token_ids.append(token_id)
        if self.adjustments is not None:
            self.adjustments.add(token_id)

    def num_missing_blocks(self, num_tokens: int, block_size: int) -> int:
        """Blocks to add before the first `num_tokens` tokens have a place."""
        return math.ceil(num_tokens / block_size) - len(self.block_ids)

    def known_digests(self, model: str, block_size: int, num_blocks: int) -> list[bytes]:
        """Digests of the first `num_blocks` blocks; all of them must be full."""
        self._extend_digests(model, block_size, num_blocks)
        return self.digests[:num_blocks]

    def unpublished(self, model: str, block_size: int) -> Iterator[tuple[int, bytes]]:
        """Blocks that are full of computed tokens and not yet published, with their digests."""
        num_full = self.num_computed_tokens // block_size
        if num_full == self.num_published_blocks:
            return
        self._extend_digests(model, block_size, num_full)
        for index in range(self.num_published_blocks, num_full):
            yield self.block_ids[index], self.digests[index]
        self.num_published_blocks = num_full

    def draw(self) -> Draw:
        """How this output's next token is drawn; waits for the guide's mask, if there is one."""
        request = self.request
        is_banned = self.num_output_tokens < request.min_tokens
        return Draw(
            sampling=request.sampling,
            seed=self.seed,
            output_index=request.output_index + self.key - request.first_key,
            position=self.num_output_tokens,
            banned_token_ids=request.stop_token_ids | self.end_token_ids if is_banned else None,
            adjustments=self.adjustments,
            allowed=None if self.allowed is None else self.allowed.result(),
        )

    def _extend_digests(self, model: str, block_size: int, num_blocks: int) -> None:
        for index in range(len(self.digests), num_blocks):
            if index:
                parent = self.digests[-1]
            else:
                parent = root_digest(block_size, model, cache_salt=self.request.cache_salt)
            block = self.token_ids[index * block_size : (index + 1) * block_size]
            self.digests.append(child_digest(parent, block))
