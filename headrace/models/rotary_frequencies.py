"""Puts a converted model's rotary frequencies right: exact, and divided by the GGUF's factors.

OpenVINO GenAI passes the factors of Llama 3.1 and later over, and may store the frequencies in 16
bits, which turns far positions by whole radians. Its graph has one constant with the frequencies,
shared by all layers, which is found by its values.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from headrace.models.refusal import UnservableError

_HALF_PRECISION = 2e-3


def correct_rotary_frequencies(
    folder: Path, base: float, head_size: int, factors: npt.ArrayLike | None = None
) -> None:
    """Rewrite the model in `folder` unless its frequencies are base^(-2i/head size) / factors.

    Raises UnservableError where the graph or the factors are of another form.
    """
    half = head_size // 2
    plain = float(base) ** (-2 * np.arange(half) / head_size)
    divisors = np.ones(half) if factors is None else np.asarray(factors, np.float64).ravel()
    if divisors.size != half or not np.all(divisors > 0):
        raise UnservableError(f"the rotary factors are not {half} positive numbers")
    source = folder / "openvino_model.xml"
    model = ov.Core().read_model(source)
    found = [node for node in model.get_ops() if _holds(node, plain)]
    if len(found) != 1:
        raise UnservableError(f"{len(found)} constants look like the model's rotary frequencies")
    wanted = (plain / divisors).astype(np.float32).reshape(1, half, 1)
    if found[0].data.dtype != np.float32 or not np.allclose(found[0].data, wanted, rtol=1e-5):
        _replace(found[0], wanted)
        _save(model, source)


def _holds(node: ov.Node, values: npt.NDArray[np.float64]) -> bool:
    if node.get_type_name() != "Constant" or list(node.shape) != [1, values.size, 1]:
        return False
    if node.get_element_type() not in (ov.Type.f16, ov.Type.f32):
        return False
    # Below 16 bits' normal numbers only the absolute difference counts.
    return bool(np.allclose(node.data.ravel(), values, rtol=_HALF_PRECISION, atol=1e-6))


def _replace(constant: ov.Node, values: npt.NDArray[np.float32]) -> None:
    """The new constant also takes the place of what widened the old one."""
    port = constant.output(0)
    readers = [reader.get_node() for reader in port.get_target_inputs()]
    if len(readers) == 1 and readers[0].get_type_name() == "Convert":
        port = readers[0].output(0)
    port.replace(opset13.constant(values).output(0))


def _save(model: ov.Model, target: Path) -> None:
    """Write beside and rename: the model holds the old weights file open."""
    changed = target.with_name("changed.xml")
    # The weights are narrow already; the frequencies shall not become so again.
    ov.save_model(model, changed, compress_to_fp16=False)
    changed.with_suffix(".bin").replace(target.with_suffix(".bin"))
    changed.replace(target)
