"""The engine of the seam: a model loaded, proven, served and ended.

Ready means that one token was generated. What serves is worker.engine.tensorrt_llm.serving.
"""

import asyncio
import os
from collections.abc import Sequence

from headrace.common.v1 import errors_pb2
from headrace.models.directory import ModelDirectory
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineLoad, EngineRequest, EventSink, ModelInfo
from worker.engine.tensorrt_llm.adapters import read_adapters
from worker.engine.tensorrt_llm.honoured import MAX_LOGPROBS, MAX_OUTPUTS, honoured_fields
from worker.engine.tensorrt_llm.library import Library, Llm, tokenizer_end_id
from worker.engine.tensorrt_llm.lifetime import Canary, ExitProcess, construct, shut_down
from worker.engine.tensorrt_llm.llm_arguments import llm_arguments, sequence_length
from worker.engine.tensorrt_llm.request_keywords import RequestKeywords
from worker.engine.tensorrt_llm.sampling_arguments import EndTokens
from worker.engine.tensorrt_llm.serving import Serving
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings


class TensorRtLlmEngine:
    """Generates with the model in `model` on this machine's GPUs; see worker.engine.seam.Engine.

    `exit_process` is called with an exit code when the library's end hangs.
    """

    def __init__(
        self,
        model: ModelDirectory,
        settings: TensorRtLlmSettings,
        library: Library,
        *,
        exit_process: ExitProcess = os._exit,
    ) -> None:
        self._model = model
        self._settings = settings
        self._library = library
        self._exit_process = exit_process
        self._info = _model_info(model, settings, library)
        self._llm: Llm | None = None
        self._serving: Serving | None = None
        self._failure: asyncio.Future[ServiceError] | None = None

    @property
    def info(self) -> ModelInfo:
        """What it serves."""
        return self._info

    @property
    def load(self) -> EngineLoad:
        """How busy it is: blocks as the library last told, the queue as it is now."""
        return EngineLoad() if self._serving is None else self._serving.load

    async def start(self) -> None:
        """Load the model off the loop and prove that it works.

        Raises ServiceError, StartError; what was loaded has been ended then.
        """
        self._failure = asyncio.get_running_loop().create_future()
        adapters = read_adapters(self._settings, self._model.name)
        configs = self._library.configs
        arguments = llm_arguments(self._settings, self._model, configs, adapters)
        keywords = RequestKeywords(self._settings, self._library, adapters)
        self._llm = await construct(self._library, arguments)
        try:
            self._serving = await self._proven(self._llm, keywords)
        except ServiceError:
            await self.stop()
            raise

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        """Queue a request; raises what worker.engine.tensorrt_llm.serving.Serving.submit does."""
        if self._serving is None:
            raise _failure("The engine has not been started.")
        self._serving.submit(request, sink)

    def abort(self, sink: EventSink, keys: Sequence[int]) -> None:
        """Say nothing more of these outputs; a request without any other is aborted."""
        if self._serving is not None:
            self._serving.abort(sink, keys)

    async def failed(self) -> ServiceError:
        """Wait for what ended it before `stop`. Raises ServiceError before `start`."""
        if self._failure is None:
            raise _failure("The engine has not been started.")
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Fail what is left, end the library, and leave the process if that hangs."""
        if self._serving is not None:
            draining = ServiceError(errors_pb2.ERROR_REASON_DRAINING, "The engine is stopping.")
            await self._serving.stop(draining)
        llm, self._llm = self._llm, None
        if llm is not None:
            await shut_down(llm, self._settings.shutdown_seconds, self._exit_process)

    async def _proven(self, llm: Llm, keywords: RequestKeywords) -> Serving:
        """What serves, after one token of the model and of each adapter. Raises ServiceError."""
        ends = EndTokens(self._model.end_token_ids, tokenizer_end_id(llm))
        ordinary = next(i for i in range(self._model.vocabulary_size) if i not in ends.all)
        seconds = self._settings.canary_seconds
        canary = Canary(self._library, ordinary, ends.main, seconds, keywords)
        await canary.prove(llm)
        for name in keywords.adapters:
            await canary.prove(llm, name)
        serving = Serving(llm, self._library, self._settings, canary, self._on_failure)
        await serving.start(ends, self._info.vocabulary_size)
        return serving

    def _on_failure(self, error: ServiceError) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)


def _model_info(
    model: ModelDirectory, settings: TensorRtLlmSettings, library: Library
) -> ModelInfo:
    fields = honoured_fields(settings, library.keywords, has_torch=library.torch is not None)
    return ModelInfo(
        model=model.name,
        engine="tensorrt_llm",
        context_length=sequence_length(settings, model),
        block_size=settings.kv_cache.block_tokens,
        vocabulary_size=model.vocabulary_size,
        end_token_ids=model.end_token_ids,
        tokenizer_fingerprint=model.tokenizer_fingerprint,
        honoured_fields=fields,
        max_logprobs=MAX_LOGPROBS,
        max_outputs=MAX_OUTPUTS,
        numerics="fast",
        system_fingerprint=f"fp_tensorrt_llm_{library.version}_{model.tokenizer_fingerprint[:8]}",
        adapters=tuple(sorted(settings.lora_adapters)),
    )


def _failure(message: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message)
