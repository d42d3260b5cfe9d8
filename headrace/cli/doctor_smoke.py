"""One request through an engine, made as the worker makes it; a program of its own.

`python -m headrace.cli.doctor_smoke FILE PID SETTINGS MODEL TOKENS`, run as a child process:
SETTINGS is the JSON of the worker's settings, MODEL a model directory.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headrace.common.v1.finish_pb2 import FINISH_REASON_UNSPECIFIED, FinishReason
from headrace.doctor.answering import answer_with
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.runtime.logs import configure_logs
from worker.engine.seam import EndedEvent, Engine, EngineEvents, EngineRequest, SamplingParams
from worker.main import make_engine
from worker.settings import WorkerSettings

_TEXT = "The three largest rivers of the world are"
_STOP_SECONDS = 60.0


class _Answer:
    """Implements EventSink for one output."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.finish = ""
        self.first_at = self.last_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_events(self, events: EngineEvents) -> None:
        """Take what one iteration did."""
        if events.token_ids:
            self.last_at = time.monotonic()
            self.first_at = self.first_at or self.last_at
            self.token_ids.extend(events.token_ids)
        for end in events.ended:
            if end.error is not None:
                self.ended.set_exception(end.error)
            else:
                self.finish = _reason(end)
                self.ended.set_result(None)


def _reason(end: EndedEvent) -> str:
    reason = FINISH_REASON_UNSPECIFIED if end.finish_reason is None else end.finish_reason
    return FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower()


async def _ask(engine: Engine, prompt: Sequence[int], num_tokens: int) -> dict[str, Any]:
    """Raises ServiceError."""
    answer = _Answer()
    sampling = SamplingParams(temperature=0.0)
    asked_at = time.monotonic()
    engine.submit(EngineRequest("doctor", 0, prompt, num_tokens, sampling=sampling), answer)
    failed = asyncio.ensure_future(engine.failed())
    try:
        await asyncio.wait((answer.ended, failed), return_when=asyncio.FIRST_COMPLETED)
        if not answer.ended.done():
            raise failed.result()
        answer.ended.result()
    finally:
        failed.cancel()
    return {
        "first_token_ms": (answer.first_at - asked_at) * 1000,
        "decode_ms": (answer.last_at - answer.first_at) * 1000,
        "num_tokens": len(answer.token_ids),
        "finish": answer.finish,
        "token_ids": answer.token_ids,
    }


async def _try(settings: WorkerSettings, model: ModelDirectory, num_tokens: int) -> dict[str, Any]:
    """Raises ServiceError, StartError."""
    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    prompt = tokenizer.encode(_TEXT).ids
    began = time.monotonic()
    engine = make_engine(settings, model)
    await engine.start()
    loaded_at = time.monotonic()
    try:
        facts = await _ask(engine, prompt, num_tokens)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await engine.stop()
    text = _TEXT + tokenizer.decode(facts["token_ids"])
    return {"problem": "", "load_seconds": loaded_at - began, "text": text, **facts}


def _facts(arguments: Sequence[str]) -> dict[str, Any]:
    settings, model, num_tokens = arguments
    configure_logs("info", service="worker", style="json")
    try:
        directory = open_model_directory(Path(model))
        return asyncio.run(
            _try(WorkerSettings.model_validate_json(settings), directory, int(num_tokens))
        )
    except (ServiceError, StartError) as error:
        sys.stderr.write(f"{error}\n")
        return {"problem": " ".join(str(error).split())}


if __name__ == "__main__":
    answer_with(_facts)
