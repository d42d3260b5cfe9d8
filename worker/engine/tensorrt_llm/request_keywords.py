"""Keywords of generate_async: those that all requests share, an adapter's, and a request's own.

Only those that this build's signature has are passed: an unknown one would be a TypeError.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from headrace.runtime.errors import StartError
from worker.engine.seam import EngineRequest
from worker.engine.tensorrt_llm.adapters import Adapter
from worker.engine.tensorrt_llm.library import Library
from worker.engine.tensorrt_llm.llm_arguments import retention
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings


class RequestKeywords:
    """What goes with each request beside its prompt and its parameters."""

    def __init__(
        self, settings: TensorRtLlmSettings, library: Library, adapters: Iterable[Adapter] = ()
    ) -> None:
        """Raises StartError where this build takes no retention priorities."""
        self._probed = library.keywords
        shared = _shared(settings, library)
        self._by_adapter: dict[str, Mapping[str, Any]] = {"": shared}
        for one in adapters:
            asked = library.lora_request(one.name, one.number, str(one.path))
            self._by_adapter[one.name] = {**shared, "lora_request": asked}

    @property
    def adapters(self) -> list[str]:
        """Names of adapters."""
        return [name for name in self._by_adapter if name]

    def of_adapter(self, name: str) -> Mapping[str, Any]:
        """What every request to an adapter carries; the empty name is the base model's."""
        return self._by_adapter[name]

    def of_request(self, request: EngineRequest) -> Mapping[str, Any]:
        """All that one request carries.

        The library keeps cached blocks of salts and of adapters apart by itself.
        """
        keywords = self._by_adapter[request.adapter]
        if request.cache_salt and "cache_salt" in self._probed:
            keywords = {**keywords, "cache_salt": request.cache_salt}
        if request.trace.traceparent and "trace_headers" in self._probed:
            keywords = {**keywords, "trace_headers": _headers(request)}
        return keywords


def _shared(settings: TensorRtLlmSettings, library: Library) -> dict[str, Any]:
    priorities = retention(settings.kv_cache, library.configs)
    if priorities is None:
        return {}
    if "kv_cache_retention_config" not in library.keywords:
        raise StartError("this build of TensorRT-LLM takes no retention priorities")
    return {"kv_cache_retention_config": priorities}


def _headers(request: EngineRequest) -> dict[str, str]:
    """Names in lower case, as the library looks for them."""
    headers = {"traceparent": request.trace.traceparent}
    if request.trace.tracestate:
        headers["tracestate"] = request.trace.tracestate
    return headers
