"""A machine with one LLM on it, for each test its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.tensorrt_llm import importable

with importable():
    import tensorrt_llm
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.double.machine import Machine, using
    from tensorrt_llm.double.switches import ModelFacts, Switches

PROMPT = list(range(100, 110))


@dataclass
class Opened:
    """A machine and its LLM."""

    machine: Machine
    llm: Any

    def ask(self, prompt: list[int] | None = None, **fields: Any) -> Any:
        """A streamed greedy request of 8 ids that passes end tokens, unless told otherwise."""
        keywords = {"streaming": fields.pop("streaming", True)}
        for name in ("cache_salt", "lora_request", "trace_headers", "kv_cache_retention_config"):
            if name in fields:
                keywords[name] = fields.pop(name)
        values = {
            "max_tokens": 8,
            "temperature": 0.0,
            "ignore_eos": True,
            "detokenize": False,
            **fields,
        }
        ids = list(PROMPT if prompt is None else prompt)
        return self.llm.generate_async(
            {"prompt_token_ids": ids}, SamplingParams(**values), **keywords
        )


Opener = Callable[..., Opened]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens LLMs: the first mapping holds switches, keywords are the LLM's."""
    with ExitStack() as stack:

        def open_llm(switches: dict[str, Any] | None = None, **keywords: Any) -> Opened:
            values = {"model": ModelFacts(), "construction_seconds": 0, **(switches or {})}
            machine = stack.enter_context(using(Switches(**values)))
            path = keywords.pop("path", "a-model")
            return Opened(machine, tensorrt_llm.LLM(path, **keywords))

        yield open_llm
