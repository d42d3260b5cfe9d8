"""The proxy: submits to the worker, and its thread carries answers back to results.

A fatal error shuts the executor down and surfaces on one waiter; the others hear nothing more.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tensorrt_llm.double.machine import Machine, Recorded, Span
from tensorrt_llm.double.sequences import Failure, Fatal, Message, WorkerRequest
from tensorrt_llm.double.worker import Worker
from tensorrt_llm.executor.async_queue import ResultQueue, announce_all
from tensorrt_llm.executor.iteration_result import IterationResult
from tensorrt_llm.executor.request import GenerationRequest
from tensorrt_llm.executor.result import RequestOutput
from tensorrt_llm.executor.utils import CppExecutorError

if TYPE_CHECKING:
    from tensorrt_llm.llmapi.tokenizer import TransformersTokenizer

_JOIN = timedelta(seconds=30)
_ERRORS: dict[str, type[Exception]] = {
    "CppExecutorError": CppExecutorError,
    "RuntimeError": RuntimeError,
    "AssertionError": AssertionError,
    "EOFError": EOFError,
}


class GenerationExecutorProxy:
    """The parent process's end; one for each LLM."""

    def __init__(
        self,
        machine: Machine,
        worker: Worker,
        readers: dict[str, Callable[[float], list[dict[str, Any]]]],
        *,
        traces: bool,
    ) -> None:
        self.traces = traces
        self._machine = machine
        self._worker = worker
        self._readers = readers
        self._queues: dict[int, ResultQueue[Message]] = {}
        self._lock = threading.Lock()
        self._is_shutdown = False
        self._has_joined = False
        self._fatal: Fatal | None = None
        self._ended: set[str] = set()
        self._has_requests = False
        self._dispatcher = threading.Thread(
            target=self._dispatch, name="proxy_dispatch_result_thread", daemon=True
        )
        self._dispatcher.start()

    def submit(
        self,
        request: GenerationRequest,
        asked: WorkerRequest,
        tokenizer: "TransformersTokenizer | None",
        refusal: str | None,
    ) -> RequestOutput:
        """Queue a request. Raises the fatal error that nobody has been told of."""
        if self._fatal is not None:
            self.handle_background_error(self._fatal)
        result = RequestOutput(request, self._machine, self, tokenizer)
        with self._lock:
            self._queues[request.id] = result.queue
            self._has_requests = True
            self._ended.clear()
        self._record(request)
        self._worker.submit(asked, refusal)
        return result

    def abort_request(self, request_id: int) -> None:
        """Ask the worker; ended requests are its business."""
        self._worker.cancel(request_id)

    def is_shutdown(self) -> bool:
        """Nothing more can be asked of it."""
        return self._is_shutdown

    def shutdown(self) -> None:
        """End the worker and wait for the threads; a second call does nothing."""
        self._is_shutdown = True
        with self._lock:
            if self._has_joined:
                return
            self._has_joined = True
        switches = self._machine.switches
        if switches.shutdown_hangs:
            self._machine.closed.wait()
        self._machine.closed.wait(switches.shutdown_seconds)
        self._worker.stop(_JOIN)
        if threading.current_thread() is not self._dispatcher:
            self._dispatcher.join(_JOIN.total_seconds())

    def handle_background_error(self, fatal: Fatal) -> None:
        """Shut down and raise. Raises the class that the worker named."""
        self._is_shutdown = True
        raise _ERRORS[fatal.error](fatal.message)

    def read(self, name: str, timeout_seconds: float) -> IterationResult:
        """`stats` or `kv_events`. Before the first request: asserts, or is empty."""
        if not self._has_requests:
            asserts = self._machine.switches.before_first_request == "assert"
            if asserts and name == "kv_events":
                raise AssertionError("KV cache events are not properly instantiated")
            return IterationResult(None, timeout_seconds)
        waits_for_request = self._machine.switches.rearms_iterators == "request"
        if waits_for_request and name in self._ended:
            return IterationResult(None, timeout_seconds)

        def on_end() -> None:
            self._ended.add(name)

        return IterationResult(self._readers[name], timeout_seconds, on_end)

    def trace(self, headers: dict[str, str] | None, attributes: dict[str, Any]) -> None:
        """A span of the library's own tracer."""
        self._machine.spans.append(Span(headers, attributes))

    def _record(self, request: GenerationRequest) -> None:
        keywords = {
            "lora_request": request.lora_request,
            "kv_cache_retention_config": request.kv_cache_retention_config,
            "cache_salt": request.cache_salt,
            "trace_headers": request.trace_headers,
        }
        given = {name: value for name, value in keywords.items() if value is not None}
        self._machine.requests.append(
            Recorded(
                request.id,
                list(request.prompt_token_ids),
                request.sampling_params,
                request.streaming,
                given,
            )
        )

    def _dispatch(self) -> None:
        while (batch := self._worker.outbox.get()) is not None:
            touched: set[ResultQueue[Message]] = set()
            for message in batch:
                waiting = self._addressee(message)
                if waiting is not None:
                    waiting.put(message)
                    touched.add(waiting)
            announce_all(touched)

    def _addressee(self, message: Message) -> ResultQueue[Message] | None:
        if isinstance(message, Fatal):
            self._fatal = message
            if self._machine.switches.fatal_surfaces == "none" or message.request_id is None:
                return None
            return self._queues.get(message.request_id)
        with self._lock:
            is_over = isinstance(message, Failure) or message.is_last
            if is_over:
                return self._queues.pop(message.request_id, None)
            return self._queues.get(message.request_id)
