"""The table of switches, other processes, and what stays out of sight."""

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tensorrt_llm import LIBRARY, TORCH, importable
from tests.unit.support.tensorrt_llm.conftest import Opener

with importable():
    from tensorrt_llm.double.switches import Switches

_ROW = re.compile(r"^\| (\d+|-) \| (.*?) \|", re.MULTILINE)
_PROGRAM = """
import asyncio, json, tensorrt_llm
from tensorrt_llm import LLM, SamplingParams

async def main():
    llm = LLM("a-model")
    result = await llm.generate_async([5, 6], SamplingParams(max_tokens=3, detokenize=False))
    print(json.dumps([tensorrt_llm.__version__, len(result.outputs[0].token_ids)]))
    llm.shutdown()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_table_names_every_switch_and_every_behaviour() -> None:
    """Each field once, each of the twenty numbers at least once."""
    rows = _ROW.findall((LIBRARY.parent / "README.md").read_text(encoding="utf-8"))
    named = [name for _, cell in rows for name in re.findall(r"`(\w+)`", cell)]

    assert sorted(named) == sorted(Switches.model_fields)
    assert {number for number, _ in rows} - {"-"} == {str(number) for number in range(1, 21)}


def test_every_behaviour_has_a_test() -> None:
    """A test that is named by each of the twenty numbers."""
    texts = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    numbers = {int(number) for number in re.findall(r"def test_behaviour_(\d+)_", texts)}

    assert numbers == set(range(1, 21))


@pytest.mark.parametrize("name", ["tensorrt_llm", "torch"])
def test_out_of_sight(name: str) -> None:
    """Inside a block it can be found, outside nobody finds it; blocks nest."""

    def is_ours() -> bool:
        spec = importlib.util.find_spec(name)
        return spec is not None and str(LIBRARY.parent) in str(spec.origin)

    with importable(with_torch=True):
        with importable():
            inner = is_ours()
        outer = is_ours()

    assert (inner, outer, is_ours()) == (True, True, False)
    assert not {str(LIBRARY), str(TORCH)} & set(sys.path)


async def test_the_seed_decides_the_ids(opened: Opener) -> None:
    """Two machines with one seed answer alike, with another they do not."""
    answers = [(await opened({"seed": s}).ask()).outputs[0].token_ids for s in (0, 0, 1)]

    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("name", ["construction_seconds", "iteration_seconds"])
async def test_paces(opened: Opener, name: str) -> None:
    """Construction and iterations take the time that they are told to."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    here = opened({name: 0.1})
    await here.ask(max_tokens=2)

    assert loop.time() - begin >= 0.1


async def test_a_host_block_has_a_size(opened: Opener) -> None:
    """The host pool holds its bytes divided by that."""
    config = {"host_cache_size": 64 << 20, "event_buffer_max_size": 10}
    here = opened({"block_bytes": 32 << 20}, kv_cache_config=config)
    await here.ask()
    (created, *_) = here.llm.get_kv_cache_events(0)

    assert created["data"]["num_blocks_per_cache_level"] == [1024, 2]


def test_a_version_has_no_grpc() -> None:
    """What 1.2 lacks cannot be found either."""
    with importable():
        assert importlib.util.find_spec("tensorrt_llm.grpc") is None


def test_another_process(tmp_path: Path) -> None:
    """With the folder on its path and switches in its environment a process works alone."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    switches = {"model": {"vocabulary_size": 100}, "version": "1.2.9"}
    environment = {
        **os.environ,
        "PYTHONPATH": str(LIBRARY),
        "TENSORRT_LLM_DOUBLE": json.dumps(switches),
    }
    ended = subprocess.run(
        [sys.executable, program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    log, answer = ended.stdout.splitlines()

    assert json.loads(answer) == ["1.2.9", 3]
    assert log.startswith("[TensorRT-LLM]")
