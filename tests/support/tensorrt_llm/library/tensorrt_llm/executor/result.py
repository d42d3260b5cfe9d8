"""Results: one object that is awaitable, iterable on a loop and without one, and changes in place.

Each step takes one response, of one sequence. An error raises out of the step; `finished` stays
False then, and a further step waits for ever.
"""

import asyncio
import copy
import json
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorrt_llm.double.machine import Machine
from tensorrt_llm.double.sequences import FINISH_NAMES, Failure, Message, Response, TokenLogprobs
from tensorrt_llm.executor.async_queue import ResultQueue
from tensorrt_llm.executor.metrics import MetricNames, metrics_dict, perf_metrics
from tensorrt_llm.executor.request import GenerationRequest
from tensorrt_llm.executor.utils import RequestError, has_event_loop

if TYPE_CHECKING:
    from tensorrt_llm.executor.proxy import GenerationExecutorProxy
    from tensorrt_llm.llmapi.tokenizer import TransformersTokenizer


class Logprob(NamedTuple):
    """Natural logarithm and rank from 1."""

    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One output; lists are cumulative and change in place."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[Any] | None = field(default_factory=list)
    prompt_logprobs: list[Any] | None = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    generation_logits: None = None
    disaggregated_params: None = None
    request_perf_metrics: Any = None
    _last_text_len: int = field(default=0, repr=False)
    _last_token_ids_len: int = field(default=0, repr=False)
    _last_logprobs_len: int = field(default=0, repr=False)

    @property
    def length(self) -> int:
        """Ids so far."""
        return len(self.token_ids)

    @property
    def text_diff(self) -> str:
        """Text behind the last mark."""
        return self.text[self._last_text_len :]

    @property
    def token_ids_diff(self) -> list[int]:
        """Ids behind the last mark."""
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[Any]:
        """Log probabilities behind the last mark."""
        return (self.logprobs or [])[self._last_logprobs_len :]

    def mark(self) -> None:
        """What there is now is no longer new."""
        self._last_text_len = len(self.text)
        self._last_token_ids_len = len(self.token_ids)
        self._last_logprobs_len = len(self.logprobs or [])


class GenerationResult:
    """See the module's docstring. Made on the caller's thread, filled by its steps."""

    def __init__(
        self,
        request: GenerationRequest,
        machine: Machine,
        executor: "GenerationExecutorProxy",
        tokenizer: "TransformersTokenizer | None",
    ) -> None:
        params = request.sampling_params
        self.request_id = request.id
        self.prompt_token_ids = request.prompt_token_ids
        self.prompt: str | None = None
        self.cached_tokens = 0
        self.decoding_iter = 0
        self.avg_decoded_tokens_per_iter: float | None = None
        self.context_logits: None = None
        self.disaggregated_params: None = None
        self.metrics_dict: dict[MetricNames, float] = {}
        self._request = request
        self._machine = machine
        self._tokenizer = tokenizer
        self._executor: weakref.ref[GenerationExecutorProxy] | None = weakref.ref(executor)
        unasked: list[Any] | None = [] if machine.switches.logprobs_not_asked == "empty" else None
        self._outputs = [
            CompletionOutput(
                index, logprobs=copy.copy(unasked) if params._asked_logprobs is None else []
            )
            for index in range(params.best_of or params.n)
        ]
        self._done = False
        self._aborted = False
        self._held: dict[int, str | None] = {}
        loop = asyncio.get_running_loop() if has_event_loop() else None
        self.queue: ResultQueue[Message] = ResultQueue(loop)

    @property
    def outputs(self) -> list[CompletionOutput]:
        """The first n of best_of, the best at the end."""
        params = self._request.sampling_params
        if self._done and (params.best_of or params.n) > params.n:
            ranked = sorted(self._outputs, key=lambda o: -(o.cumulative_logprob or 0.0))
            return ranked[: params.n]
        return self._outputs[: params.n]

    @property
    def finished(self) -> bool:
        """The last response was taken."""
        return self._done

    def aborted(self) -> bool:
        """`abort` was called."""
        return self._aborted

    def abort(self) -> None:
        """Ask the worker to stop; returns at once."""
        assert self._executor is not None, "the executor is not set for this result"
        executor = self._executor()
        assert executor is not None, "the executor is gone"
        executor.abort_request(self.request_id)
        self._aborted = True

    def result(self, timeout: float | None = None) -> "GenerationResult":
        """Block to the end; `timeout` is ignored, as in the real library."""
        while not self._done:
            self._take(self.queue.get())
        return self

    async def aresult(self) -> "GenerationResult":
        """Wait to the end."""
        while not self._done:
            await self._astep()
        return self

    def __await__(self) -> Generator[Any, None, "GenerationResult"]:
        return self.aresult().__await__()

    def __aiter__(self) -> AsyncIterator["GenerationResult"]:
        return self

    async def __anext__(self) -> "GenerationResult":
        if self._done:
            raise StopAsyncIteration
        await self._astep()
        return self._shown()

    def __iter__(self) -> Iterator["GenerationResult"]:
        return self

    def __next__(self) -> "GenerationResult":
        if self._done:
            raise StopIteration
        self._take(self.queue.get())
        return self._shown()

    def __del__(self) -> None:
        if not self._machine.switches.drop_keeps_generating and not self._done:
            executor = None if self._executor is None else self._executor()
            if executor is not None:
                executor.abort_request(self.request_id)

    async def _astep(self) -> None:
        requires = self._machine.switches.requires_running_loop
        assert self.queue.loop is not None or not requires, (
            "The asyncio event loop was not present during initialization, so async operations "
            "are not available."
        )
        if self.queue.loop is None:
            self.queue.loop = asyncio.get_running_loop()
        self._take(await self.queue.aget())

    def _shown(self) -> "GenerationResult":
        """The same object every time, unless the switches say otherwise."""
        if self._machine.switches.shares_result:
            return self
        shown = copy.copy(self)
        shown._outputs = copy.deepcopy(self._outputs)
        return shown

    def _take(self, message: Message) -> None:
        if isinstance(message, Failure):
            self._done = self._machine.switches.finished_after_error
            raise RequestError(message.message)
        if not isinstance(message, Response):
            executor = None if self._executor is None else self._executor()
            assert executor is not None
            executor.handle_background_error(message)
            return
        self._take_response(message)

    def _take_response(self, response: Response) -> None:
        output = self._outputs[response.sequence_index]
        if not self._machine.switches.stale_diffs:
            for other in self._outputs:
                other.mark()
        output.mark()
        output.token_ids.extend(response.token_ids)
        output.cumulative_logprob = response.cumulative_logprob
        self._take_logprobs(output, response)
        self.cached_tokens = response.cached_tokens
        self.decoding_iter = response.decoding_iterations
        self.avg_decoded_tokens_per_iter = response.tokens_per_iteration
        if response.finish is not None:
            self._finish(output, response)
        if self._request.sampling_params.detokenize and self._tokenizer is not None:
            self._detokenize(output)
        if response.is_last:
            self._done = True
            self._end(output, response)

    def _take_logprobs(self, output: CompletionOutput, response: Response) -> None:
        if (
            self._request.sampling_params._asked_logprobs is not None
            and output.logprobs is not None
        ):
            shape = self._machine.switches.logprobs_shape
            sampled = zip(response.token_ids, response.logprobs, strict=True)
            output.logprobs.extend(
                _value_of(entry, token_id) if shape == "float" else named(entry)
                for token_id, entry in sampled
            )
        if response.prompt_logprobs:
            output.prompt_logprobs = [named(entry) for entry in response.prompt_logprobs]

    def _finish(self, output: CompletionOutput, response: Response) -> None:
        per_request = self._machine.switches.finish_reason_per == "request"
        finish = response.finish
        assert finish is not None
        if finish == "stop_words":
            self._trim(output)
        if not per_request:
            output.finish_reason = FINISH_NAMES[finish]
            return
        self._held[output.index] = FINISH_NAMES[finish]
        if response.is_last:
            for other in self._outputs:
                other.finish_reason = self._held.get(other.index)

    def _trim(self, output: CompletionOutput) -> None:
        """Cut the matched stop; its log probabilities stay."""
        params = self._request.sampling_params
        for reason, ids in params._get_stop_reasons_and_words():
            if ids and output.token_ids[-len(ids) :] == ids:
                output.stop_reason = reason
                if (
                    not params.include_stop_str_in_output
                    and self._machine.switches.trims_stop_words
                ):
                    del output.token_ids[-len(ids) :]
                    if self._machine.switches.trims_logprobs and output.logprobs:
                        del output.logprobs[-len(ids) :]
                return

    def _detokenize(self, output: CompletionOutput) -> None:
        assert self._tokenizer is not None
        params = self._request.sampling_params
        ids = output.token_ids
        if ids and ids[-1] == params.end_id:
            ids = ids[:-1]
        output.text = self._tokenizer.decode(ids, skip_special_tokens=params.skip_special_tokens)
        for stop in params._get_stop_strings():
            position = output.text.find(stop)
            if position >= 0:
                keeps = params.include_stop_str_in_output
                output.text = output.text[: position + (len(stop) if keeps else 0)]
                output.finish_reason, output.stop_reason = "stop", stop
                self._done = True
                if self._machine.switches.text_stop_aborts:
                    self.abort()

    def _end(self, output: CompletionOutput, response: Response) -> None:
        if response.metrics is None:
            return
        output.request_perf_metrics = perf_metrics(response.metrics)
        num_tokens = len(output.token_ids) if len(self._outputs) == 1 else 0
        self.metrics_dict = metrics_dict(response.metrics, num_tokens)
        self._trace(output)

    def _trace(self, output: CompletionOutput) -> None:
        executor = None if self._executor is None else self._executor()
        if executor is None or not executor.traces:
            return
        headers = self._request.trace_headers
        params = self._request.sampling_params
        executor.trace(
            None if headers is None else dict(headers),
            {
                "gen_ai.request.id": str(self.request_id),
                "gen_ai.request.max_tokens": params.max_tokens,
                "gen_ai.request.n": params.n,
                "gen_ai.request.temperature": params.temperature,
                "gen_ai.request.top_p": params.top_p,
                "gen_ai.request.top_k": params.top_k,
                "gen_ai.response.finish_reasons": json.dumps([output.finish_reason]),
                "gen_ai.usage.prompt_tokens": len(self.prompt_token_ids),
                "gen_ai.usage.completion_tokens": sum(o.length for o in self._outputs),
                "gen_ai.latency.time_to_first_token": self.metrics_dict.get(MetricNames.TTFT, -1),
                "gen_ai.latency.e2e": self.metrics_dict.get(MetricNames.E2E, -1),
            },
        )


def named(entry: TokenLogprobs) -> dict[int, Logprob]:
    """As the library's class."""
    return {token_id: Logprob(value, rank) for token_id, (value, rank) in entry.items()}


def _value_of(entry: TokenLogprobs, token_id: int) -> float:
    """The sampled id's value; where it is missing, the most probable one's."""
    return entry.get(token_id, next(iter(entry.values())))[0]


class RequestOutput(GenerationResult):
    """What generate_async returns; `prompt` is the text, where the prompt was given as text."""
