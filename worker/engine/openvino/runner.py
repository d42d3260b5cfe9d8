"""Runs the model, one `infer` a step, over KV tensors that it owns.

Only the engine's thread calls `run`; `infer` releases the GIL. `tokens_fed` counts every token that
went into the model, so that what the prefix cache saved can be proved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
import numpy.typing as npt
import openvino as ov

from worker.engine.openvino.graph import SAMPLED, input_name, is_cache, unusable


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one sequence: they stand behind `num_past_tokens` that `block_ids` already hold.

    `block_ids` has a place for these as well. `is_sampled`: the last one's logits are wanted.
    """

    token_ids: Sequence[int]
    num_past_tokens: int
    block_ids: Sequence[int]
    is_sampled: bool


@dataclass(frozen=True, slots=True)
class KvLayout:
    """How the compiled model wants its cache: tokens and bytes of one block over all layers."""

    block_size: int
    block_bytes: int


class Runner:
    """A compiled model with a cache of `num_blocks` blocks.

    Logits are cut to `vocabulary_size`: models may pad their last matrix.
    """

    def __init__(self, compiled: ov.CompiledModel, num_blocks: int, vocabulary_size: int) -> None:
        self._request = compiled.create_infer_request()
        self._vocabulary_size = vocabulary_size
        self.tokens_fed = 0
        self.steps = 0
        self._caches: list[ov.Tensor] = []
        for port in _cache_ports(compiled):
            shape = ov.Shape([num_blocks, *_block_shape(port)])
            self._caches.append(ov.Tensor(port.get_element_type(), shape))
            self._request.set_tensor(input_name(port), self._caches[-1])

    def run(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        """One step; gives the logits (sampled feeds, vocabulary), valid until the next step.

        Raises RuntimeError when OpenVINO fails.
        """
        lengths = [len(feed.token_ids) for feed in feeds]
        begins = list(accumulate(lengths, initial=0))
        ends = [feed.num_past_tokens + length for feed, length in zip(feeds, lengths, strict=True)]
        sampled = [end - 1 for feed, end in zip(feeds, begins[1:], strict=True) if feed.is_sampled]
        positions = [
            range(feed.num_past_tokens, end) for feed, end in zip(feeds, ends, strict=True)
        ]
        block_begins = accumulate((len(feed.block_ids) for feed in feeds), initial=0)
        self._set("input_ids", chain.from_iterable(feed.token_ids for feed in feeds), np.int64)
        self._set("position_ids", chain.from_iterable(positions), np.int64)
        self._set("past_lens", (feed.num_past_tokens for feed in feeds), np.int32)
        self._set("subsequence_begins", begins, np.int32)
        self._set("block_indices", chain.from_iterable(f.block_ids for f in feeds), np.int32)
        self._set("block_indices_begins", block_begins, np.int32)
        self._set(SAMPLED, sampled, np.int64)
        self._request.set_tensor("max_context_len", ov.Tensor(np.array(max(ends), np.int32)))
        self._request.infer()
        self.steps += 1
        self.tokens_fed += begins[-1]
        logits: npt.NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits.reshape(len(sampled), logits.shape[-1])[:, : self._vocabulary_size]

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block in every layer, between two steps."""
        for cache in self._caches:
            begin = [0] * (len(cache.shape) - 1)
            end = list(cache.shape)[1:]
            ov.Tensor(cache, [source, *begin], [source + 1, *end]).copy_to(
                ov.Tensor(cache, [target, *begin], [target + 1, *end])
            )

    def close(self) -> None:
        """Free the cache and the compiled model; nothing runs afterwards."""
        self._caches.clear()
        del self._request

    def _set(self, name: str, values: Iterable[int], dtype: npt.DTypeLike) -> None:
        self._request.set_tensor(name, ov.Tensor(np.fromiter(values, dtype)))


def kv_layout(compiled: ov.CompiledModel) -> KvLayout:
    """Read the cache's layout from the compiled model's inputs.

    A value block is (heads, tokens, head size), so it tells the block size; a key block may have
    rows more, for the scales of its quantisation. Raises ServiceError for layers that differ.
    """
    ports = _cache_ports(compiled)
    sizes = {_block_shape(port)[1] for port in ports if input_name(port).startswith("value_cache.")}
    if len(sizes) != 1:
        raise unusable(f"the model's layers have KV blocks of different sizes: {sorted(sizes)}")
    block_bytes = sum(
        int(np.prod(_block_shape(port))) * int(port.get_element_type().size) for port in ports
    )
    return KvLayout(block_size=sizes.pop(), block_bytes=block_bytes)


def logits_width(compiled: ov.CompiledModel) -> int:
    """How many ids the model's last matrix knows."""
    return int(compiled.output(0).get_partial_shape()[-1].get_length())


def _cache_ports(compiled: ov.CompiledModel) -> list[ov.ConstOutput]:
    return [port for port in compiled.inputs if is_cache(input_name(port))]


def _block_shape(port: ov.ConstOutput) -> list[int]:
    return [int(dimension.get_length()) for dimension in list(port.get_partial_shape())[1:]]
