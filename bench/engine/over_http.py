"""Our engine as an HTTP client sees it: an edge and a tokenizer in front of a running worker."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from tokenizers import Tokenizer

from bench.engine.load import TEMPERATURE, TOP_P, Timeline
from bench.engine.ours import ThroughGrpc
from bench.streaming.cpu import cpu_seconds
from bench.streaming.stack import await_ready, free_port, process
from headrace.models.directory import ModelDirectory

_PREFIX = b"data: "


class OverHttp:
    """Streams of server-sent events. Prompts go out as the text that their ids stand for.

    The engine is the worker of `ThroughGrpc`. CPU time is that of edge and tokenizer as well.
    """

    name = "over HTTP"

    def __init__(
        self, session: aiohttp.ClientSession, tokenizer: Tokenizer, model: str, pids: Sequence[int]
    ) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._model = model
        self._pids = pids

    def cpu_seconds(self) -> float:
        """Of worker, edge and tokenizer together."""
        return sum(cpu_seconds(pid) for pid in self._pids)

    async def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        """Ask for all at once and read every stream to its end."""
        texts = [self._tokenizer.decode(prompt) for prompt in prompts]
        timeline = Timeline()
        timeline.prompt_tokens = sum(
            await asyncio.gather(
                *(
                    self._stream(timeline, output, text, new_tokens)
                    for output, text in enumerate(texts)
                )
            )
        )
        return timeline

    async def _stream(self, timeline: Timeline, output: int, text: str, new_tokens: int) -> int:
        """One request; returns its prompt tokens. Raises RuntimeError for an error of ours."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": new_tokens,
            "ignore_eos": True,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        prompt_tokens = 0
        async with self._session.post("/v1/chat/completions", json=body) as response:
            async for line in response.content:
                if not line.startswith(_PREFIX) or line.startswith(b"data: [DONE]"):
                    continue
                chunk = json.loads(line.removeprefix(_PREFIX))
                if "error" in chunk:
                    raise RuntimeError(chunk["error"]["message"])
                if chunk["usage"] is not None:
                    prompt_tokens = chunk["usage"]["prompt_tokens"]
                elif chunk["choices"][0]["delta"].get("content"):
                    timeline.add(output, 1)
                elif chunk["choices"][0]["finish_reason"] and output not in timeline.arrivals:
                    timeline.add(output, 1)  # tokens without text
        # Text comes in fewer pieces than tokens where characters span tokens.
        timeline.weights[output] = new_tokens / len(timeline.arrivals[output])
        return prompt_tokens


@asynccontextmanager
async def over_http(
    directory: ModelDirectory, model: str, worker: ThroughGrpc, folder: Path
) -> AsyncIterator[OverHttp]:
    """A tokenizer and an edge beside a running worker; ended with the context."""
    edge_port, tokenizer_port = free_port(), free_port()
    config = folder / "front.toml"
    config.write_text(
        f"[edge.server]\nport = {edge_port}\n[edge.backend]\n"
        f'tokenizer_addresses = ["127.0.0.1:{tokenizer_port}"]\n'
        f'worker_addresses = ["{worker.link.address}"]\n'
        f'[tokenizer]\nmodels = ["{model}"]\nport = {tokenizer_port}\n',
        encoding="utf-8",
    )
    common = ["--config", str(config), "--log-level", "warning"]
    async with AsyncExitStack() as stack:
        pids = [
            stack.enter_context(
                process(["-m", "headrace", service, *common], folder / f"{service}.log")
            ).pid
            for service in ("tokenizer", "edge")
        ]
        await asyncio.to_thread(await_ready, edge_port, folder)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{edge_port}", connector=aiohttp.TCPConnector(limit=0)
            )
        )
        tokenizer = Tokenizer.from_file(str(directory.path / "tokenizer.json"))
        yield OverHttp(session, tokenizer, model, (*pids, worker.pid))
