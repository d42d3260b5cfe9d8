"""Begin and end of an LLM: both block, both may take long, the end may hang.

Construction runs in a thread, since loading takes minutes; the end runs in a thread that nobody
joins, since dead ranks are waited for without a bound.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.tensorrt_llm.library import Library, Llm
from worker.engine.tensorrt_llm.request_keywords import RequestKeywords

_PROGRESS_SECONDS = 10.0
_LAST_RESORT_SECONDS = 10.0

ExitProcess = Callable[[int], object]

_log = structlog.get_logger(__name__)


async def construct(library: Library, arguments: Mapping[str, Any]) -> Llm:
    """An LLM that has loaded its model. Raises ServiceError for whatever stopped it."""
    begin = time.monotonic()
    _log.info("model_loading", model=arguments["model"], tensorrt_llm=library.version)
    loading = asyncio.create_task(asyncio.to_thread(library.llm, **arguments))
    while not (await asyncio.wait({loading}, timeout=_PROGRESS_SECONDS))[0]:
        _log.info("model_loading", elapsed_seconds=round(time.monotonic() - begin))
    error = loading.exception()
    if error is not None:
        raise ServiceError(
            errors_pb2.ERROR_REASON_ENGINE_FAILURE,
            f"TensorRT-LLM {library.version} cannot load {arguments['model']}: "
            f"{type(error).__name__}: {error}",
        ) from error
    _log.info("model_loaded", elapsed_seconds=round(time.monotonic() - begin))
    llm: Llm = loading.result()
    return llm


@dataclass(frozen=True)
class Canary:
    """One token behind a prompt of one ordinary id: the only proof that an LLM works."""

    library: Library
    token_id: int
    end_id: int
    seconds: float
    keywords: RequestKeywords

    async def prove(self, llm: Llm, adapter: str = "") -> None:
        """Generate it by the model or an adapter, which is loaded by its first request.

        Raises ServiceError for whatever goes wrong, and when it takes too long.
        """
        try:
            async with asyncio.timeout(self.seconds):
                await self._generate(llm, self.keywords.of_adapter(adapter))
        except TimeoutError as error:
            raise _not_proven(adapter, f"it gave no token within {self.seconds:g} s") from error
        except StopAsyncIteration as error:
            raise _not_proven(adapter, "it gave no final response") from error
        except Exception as error:  # (whatever it is, the engine cannot serve)
            raise _not_proven(adapter, f"{type(error).__name__}: {error}") from error

    async def _generate(self, llm: Llm, keywords: Mapping[str, Any]) -> None:
        parameters = self.library.sampling(
            {
                "end_id": self.end_id,
                "pad_id": self.end_id,
                "ignore_eos": True,
                "max_tokens": 1,
                "temperature": 0.0,
                "detokenize": False,
            }
        )
        inputs = {"prompt_token_ids": [self.token_id]}
        result = llm.generate_async(inputs, sampling_params=parameters, streaming=True, **keywords)
        while not result.finished:
            await result.__anext__()


async def shut_down(llm: Llm, seconds: float, exit_process: ExitProcess = os._exit) -> bool:
    """End it, and wait so long at most; whether it ended.

    One that hangs would also keep the interpreter from ending: some seconds later a thread ends the
    process with exit code 1, unless it has ended by itself.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    thread = threading.Thread(
        target=_shut_down, args=(llm, loop, ended), name="tensorrt-llm-shutdown", daemon=True
    )
    thread.start()
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        _log.error("shutdown_hangs", waited_seconds=seconds)
        last = threading.Timer(_LAST_RESORT_SECONDS, exit_process, (1,))
        last.daemon = True
        last.start()
        return False
    return True


def _shut_down(llm: Llm, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    try:
        llm.shutdown()
    except Exception:  # noqa: BLE001 (supervisor of the thread)
        _log.exception("shutdown_failed")
    if not loop.is_closed():
        loop.call_soon_threadsafe(ended.set)


def _not_proven(adapter: str, problem: str) -> ServiceError:
    by = f" by the adapter `{adapter}`" if adapter else ""
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        f"TensorRT-LLM did not pass its canary{by}: {problem}.",
    )
