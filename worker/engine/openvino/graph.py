"""The model as OpenVINO compiles it: paged attention, and logits of sampled positions only.

`paged_attention_transformation` is not public API: openvino is pinned exactly, and whatever the
compiled model asks for that the runner does not feed stops the start, by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13
from openvino._offline_transformations import paged_attention_transformation

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.openvino.kernel_cache import KERNEL_CACHE_PROPERTIES, close_inner_cache
from worker.engine.openvino.settings import OpenVinoSettings

SAMPLED = "sampled_token_indices"
FED_INPUTS = frozenset(
    {
        "input_ids",
        "position_ids",
        "past_lens",
        "subsequence_begins",
        "block_indices",
        "block_indices_begins",
        "max_context_len",
        SAMPLED,
    }
)
"""Names of the inputs that the runner feeds at every step."""

# What may stand between the last matrix product and the logits without mixing positions.
_POINTWISE = frozenset(
    {"Add", "Convert", "Divide", "Multiply", "Reshape", "Squeeze", "Tanh", "Unsqueeze"}
)

_NUMERICS: Mapping[str, Mapping[str, Any]] = {
    "fast": {},
    "reproducible": {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    },
}


def compile_graph(folder: Path, settings: OpenVinoSettings) -> ov.CompiledModel:
    """Read, transform and compile the model in `folder`; takes seconds.

    Raises ServiceError, one sentence, for a model that this engine cannot run.
    """
    source = folder / "openvino_model.xml"
    if not source.is_file():
        raise unusable(f"{source} is missing: {folder} holds no model in OpenVINO's format")
    close_inner_cache()
    core = ov.Core()
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        **KERNEL_CACHE_PROPERTIES,
        **_NUMERICS[settings.numerics],
    }
    if settings.num_threads is not None:
        properties["INFERENCE_NUM_THREADS"] = settings.num_threads
    try:
        model = core.read_model(source)
        paged_attention_transformation(model)
        _keep_sampled_positions(model)
        compiled = core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise unusable(f"OpenVINO cannot run {source}: {error}") from error
    check_inputs(compiled)
    return compiled


def is_cache(name: str) -> bool:
    """The input holds keys or values of one layer."""
    return name.startswith(("key_cache.", "value_cache."))


def input_name(port: ov.ConstOutput) -> str:
    """The name by which an input is fed; an empty one is no name that the runner feeds."""
    names: set[str] = port.get_names()
    known = {name for name in names if name in FED_INPUTS or is_cache(name)}
    return min(known or names, default="")


def unusable(message: str) -> ServiceError:
    """The error that stops the start of an engine."""
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message)


def check_inputs(compiled: ov.CompiledModel) -> None:
    """Raise ServiceError, naming them, for inputs that the runner does not feed or that lack."""
    names = {input_name(port) for port in compiled.inputs}
    unknown = sorted(name for name in names if name not in FED_INPUTS and not is_cache(name))
    if unknown:
        raise unusable(f"the model has inputs that this engine does not feed: {', '.join(unknown)}")
    missing = sorted(FED_INPUTS - names)
    if missing:
        raise unusable(f"the model lacks inputs of a dense decoder: {', '.join(missing)}")
    if not any(is_cache(name) for name in names):
        raise unusable("the model has no attention with a KV cache")


def _keep_sampled_positions(model: ov.Model) -> None:
    """Let only the positions in a new input reach the last matrix product, the vocabulary's."""
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in _POINTWISE:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        raise unusable(f"the logits come from {node.get_type_name()}, not from a matrix product")
    sampled = opset13.parameter([-1], np.int64, name=SAMPLED)
    sampled.output(0).set_names({SAMPLED})
    first_axis = opset13.constant(0, dtype=np.int64)
    gathered = opset13.gather(node.input_value(0), sampled, first_axis)
    node.input(0).replace_source_output(gathered.output(0))
    model.add_parameters([sampled])
    model.validate_nodes_and_infer_types()
