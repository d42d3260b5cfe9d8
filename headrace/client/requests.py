"""From a prompt and its options to the messages of the wire: pure."""

import asyncio
from collections.abc import Sequence

from headrace.client.answers import GenerationOptions, RenderedPrompt
from headrace.common.v1.finish_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_UNSPECIFIED,
    FinishReason,
)
from headrace.telemetry.trace_context import TraceContext
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen
from headrace.worker.v1.generation_pb2 import GenerationRequest


def generation_request(
    prompt: RenderedPrompt,
    options: GenerationOptions,
    trace: TraceContext,
    loop: asyncio.AbstractEventLoop,
) -> GenerationRequest:
    """The worker's request, as part of `trace`; the deadline becomes what remains of it now."""
    request = GenerationRequest(
        request_id=options.request_id,
        model=prompt.model,
        prompt_token_ids=prompt.token_ids,
        sampling=options.sampling,
        stop_token_ids=options.stop_token_ids,
        ignore_eos=options.ignore_eos,
        cache_salt=options.cache_salt,
        traceparent=trace.traceparent,
        tracestate=trace.tracestate,
        n=options.n,
    )
    if prompt.guide is not None:
        request.guide.CopyFrom(prompt.guide)
    if options.max_tokens is not None:
        request.max_tokens = options.max_tokens
    if options.logprobs is not None:
        request.logprobs = options.logprobs
    if options.min_tokens:
        request.min_tokens = options.min_tokens
    if options.priority:
        request.priority = options.priority
    if options.deadline is not None:
        request.remaining_ms = max(0, int((options.deadline - loop.time()) * 1000))
    return request


def continued(
    request: GenerationRequest, output_index: int, token_ids: Sequence[int]
) -> GenerationRequest:
    """The same for a worker that goes on behind these ids of one output alone."""
    request.n = 1
    request.output_index = output_index
    request.output_prefix_token_ids.extend(token_ids)
    return request


def reached_end(
    token_ids: Sequence[int],
    prompt: RenderedPrompt,
    options: GenerationOptions,
    context_length: int,
) -> "FinishReason.ValueType":
    """The end that these ids of an output make, whose worker was lost before it could say so.

    Unspecified where they make none. The model's own end tokens are among the decoder's.
    """
    room = context_length - len(prompt.token_ids)
    most = room if options.max_tokens is None else options.max_tokens
    ends = set(options.stop_token_ids)
    if not options.ignore_eos:
        ends.update(prompt.decoder.stop_token_ids)
    if token_ids and token_ids[-1] in ends:
        return FINISH_REASON_STOP
    if len(token_ids) >= most:
        return FINISH_REASON_LENGTH
    return FINISH_REASON_UNSPECIFIED


def detokenize_open(
    handle: int, prompt: RenderedPrompt, options: GenerationOptions
) -> DetokenizeOpen:
    """The tokenizer's open: the decoder as rendered, and what ends this request's outputs."""
    entry = DetokenizeOpen(
        handle=handle,
        decoder=prompt.decoder,
        stop_strings=options.stop_strings,
        token_bytes=options.logprobs is not None,
        functions=prompt.functions,
        request_id=options.request_id,
        traceparent=options.trace.traceparent,
    )
    entry.decoder.stop_token_ids.extend(options.stop_token_ids)
    return entry
