"""What a worker holds does not grow with the variety of its steps."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from headrace.models.directory import open_model_directory
from headrace.models.gguf_conversion import convert
from tests.support.tiny_gguf import TinyGguf
from worker.engine.openvino.kernel_cache import KEPT_KERNELS
from worker.engine.openvino.memory import resident_bytes
from worker.engine.openvino.model import load_model
from worker.engine.openvino.runner import Feed
from worker.engine.openvino.settings import OpenVinoSettings

pytestmark = pytest.mark.model

_FILLING = range(2, 2 + KEPT_KERNELS)
_MORE = range(_FILLING.stop, _FILLING.stop + 150)


def _growth(folder: Path) -> int:
    """Bytes that 150 new numbers of outputs add once the kernels' cache is full."""
    settings = OpenVinoSettings(kv_cache_bytes=4 << 20, numerics="reproducible")
    runner = load_model(open_model_directory(folder), settings).runner
    largest = [Feed([5], 0, [0], is_sampled=True)] * _MORE.stop

    runner.run(largest)
    for number in _FILLING:
        runner.run(largest[:number])
    before = resident_bytes()
    for number in _MORE:
        runner.run(largest[:number])
    return resident_bytes() - before


def test_new_sizes_of_steps_take_no_new_memory(tmp_path: Path) -> None:
    """Kernels of old sizes leave for those of new ones; unbounded, these take over 100 MB."""
    source = TinyGguf().write(tmp_path / "tiny.gguf")
    (tmp_path / "tiny").mkdir()
    convert(source, tmp_path / "tiny")

    # A process of its own: oneDNN reads its bound once, and other tests have compiled before.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        assert process.submit(_growth, tmp_path / "tiny").result() < 30 << 20
