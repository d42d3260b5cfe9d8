"""Pure: what an exception of the library means: this request's failure, or the end of it all.

A RequestError is one request's; anything else while a result is stepped means that the executor has
already shut itself down. Sentences of the library reach the caller only where they name the
caller's own mistake.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import Reason, ServiceError
from worker.engine.seam import EngineRequest

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
_TOO_LONG = errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED

_CALLERS_FAULTS: Sequence[tuple[str, Reason, str | None]] = (
    ("should not exceed max_num_tokens", _TOO_LONG, "prompt_token_ids"),
    ("greater than max_seq_len", _TOO_LONG, "max_tokens"),
    ("max_tokens must be set", _TOO_LONG, "max_tokens"),
    ("require 0 <= top_p", _INVALID, "sampling.top_p"),
    ("Only one guide", _INVALID, "guide"),
    ("Guided decoding error", _INVALID, "guide"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell the caller, and whether the engine can go on.

    `is_suspect`: many of these with one message at once are a fault of the engine.
    """

    error: ServiceError
    is_fatal: bool = False
    is_suspect: bool = False


def submission_verdict(
    error: Exception, request: EngineRequest, request_error: type[Exception]
) -> Verdict:
    """Of an exception from making parameters or from generate_async."""
    if isinstance(error, request_error):
        return step_verdict(error, request, request_error)
    if isinstance(error, ValueError | TypeError | IndexError):
        message = f"The request was refused by TensorRT-LLM: {_sentence(error)}"
        return Verdict(ServiceError(_INVALID, message))
    if "shutting down" in str(error) or isinstance(error, AttributeError):
        # What an executor that is gone says, in newer and older builds.
        return Verdict(
            ServiceError(errors_pb2.ERROR_REASON_DRAINING, "TensorRT-LLM has been shut down."),
            is_fatal=True,
        )
    return Verdict(fatal_error(error), is_fatal=True)


def step_verdict(
    error: BaseException, request: EngineRequest, request_error: type[Exception]
) -> Verdict:
    """Of an exception from a step of a result."""
    if not isinstance(error, request_error):
        return Verdict(fatal_error(error), is_fatal=True)
    text = str(error)
    for part, reason, param in _CALLERS_FAULTS:
        if part in text:
            named = request.guide.param if param == "guide" and request.guide else param
            return Verdict(ServiceError(reason, _sentence(error), named))
    message = f"The engine failed on this request: {_sentence(error)}"
    failure = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message)
    return Verdict(failure, is_suspect=True)


def fatal_error(error: BaseException) -> ServiceError:
    """The failure of an engine that this exception has ended."""
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        f"TensorRT-LLM has failed: {type(error).__name__}: {_sentence(error)}",
    )


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500]
    return f"{text.rstrip('.')}." if text else "it says no more."
