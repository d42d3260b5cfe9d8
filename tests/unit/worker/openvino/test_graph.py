"""What the compiled model may ask for; tiny graphs stand for models."""

from collections.abc import Iterable

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from headrace.rpc.errors import ServiceError
from worker.engine.openvino.graph import FED_INPUTS, check_inputs
from worker.engine.openvino.runner import kv_layout

_CACHES = {"key_cache.0": (3, 40, 64), "value_cache.0": (3, 32, 72)}


def _compiled(names: Iterable[str], caches: dict[str, tuple[int, ...]]) -> ov.CompiledModel:
    """A model that takes these inputs and hands them out again."""
    parameters = [_input(name, [-1]) for name in names]
    parameters += [_input(name, [-1, *shape]) for name, shape in caches.items()]
    results = [opset13.result(opset13.relu(parameter)) for parameter in parameters]
    return ov.Core().compile_model(ov.Model(results, parameters), "CPU")


def _input(name: str, shape: list[int]) -> ov.Node:
    parameter = opset13.parameter(shape, np.float32, name=name)
    parameter.output(0).set_names({name})
    return parameter


def test_a_dense_decoder_is_taken() -> None:
    """All inputs are fed or caches: nothing is raised."""
    check_inputs(_compiled(FED_INPUTS, _CACHES))


@pytest.mark.parametrize(
    ("names", "caches", "sentence"),
    [
        (FED_INPUTS | {"token_type_ids"}, _CACHES, "does not feed: token_type_ids"),
        (FED_INPUTS - {"past_lens"}, _CACHES, "lacks inputs of a dense decoder: past_lens"),
        (FED_INPUTS, {}, "no attention with a KV cache"),
    ],
)
def test_another_model_is_refused_by_name(
    names: Iterable[str], caches: dict[str, tuple[int, ...]], sentence: str
) -> None:
    """An input that nobody feeds, or one that lacks, is named."""
    with pytest.raises(ServiceError, match=sentence):
        check_inputs(_compiled(names, caches))


def test_the_cache_layout_is_read_from_the_model() -> None:
    """The value cache tells the block size; keys and values of all layers make a block's bytes."""
    layout = kv_layout(_compiled(FED_INPUTS, _CACHES))

    assert layout.block_size == 32
    assert layout.block_bytes == 4 * 3 * (40 * 64 + 32 * 72)


def test_layers_of_different_blocks_are_refused() -> None:
    """One block table serves all layers, so their blocks must hold equally many tokens."""
    caches = {**_CACHES, "key_cache.1": (3, 16, 64), "value_cache.1": (3, 16, 72)}

    with pytest.raises(ServiceError, match=r"different sizes: \[16, 32\]"):
        kv_layout(_compiled(FED_INPUTS, caches))
