"""What a caller is told who may not: no key, a wrong one, a limit reached. In OpenAI's wording.

The same ServiceErrors for HTTP and for gRPC. No message holds a whole key.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.access.caller import Caller
from headrace.access.limits import LimitReachedError, Measure
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_SHOWN_FIRST = 5
_SHOWN_LAST = 2
_LEAST_HIDDEN = 9
_MEASURES: dict[Measure, tuple[str, str]] = {
    "requests": ("requests per min (RPM)", "requests"),
    "tokens": ("tokens per min (TPM)", "tokens"),
    "concurrent_requests": ("concurrent requests", "requests"),
}


def missing_key(where: str) -> ServiceError:
    """No key was given; `where` says how one is."""
    return ServiceError(
        errors_pb2.ERROR_REASON_INVALID_API_KEY,
        f"You didn't provide an API key. You need to provide your API key in {where}. "
        "You can obtain an API key from the operator of this server.",
        openai_code="",
    )


def incorrect_key(key: str) -> ServiceError:
    """A key that is in no file."""
    return ServiceError(
        errors_pb2.ERROR_REASON_INVALID_API_KEY,
        f"Incorrect API key provided: {masked(key)}. "
        "You can find your API key with the operator of this server.",
    )


def unknown_key() -> ServiceError:
    """The same where the message may end in somebody's log: nothing of the key is shown."""
    return ServiceError(
        errors_pb2.ERROR_REASON_INVALID_API_KEY,
        "Incorrect API key provided. You can find your API key with the operator of this server.",
    )


def unknown_model(name: str) -> ServiceError:
    """A model that a key does not admit: as one that there is not."""
    return ServiceError(
        errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        f"The model `{name}` does not exist or you do not have access to it.",
        "model",
    )


def masked(key: str) -> str:
    """A key as its sender may be reminded of it: its ends, or nothing of a short one.

    What was no UTF-8 in a header is a question mark: no answer could hold it.
    """
    if len(key) < _SHOWN_FIRST + _SHOWN_LAST + _LEAST_HIDDEN:
        return "***"
    shown = f"{key[:_SHOWN_FIRST]}***{key[-_SHOWN_LAST:]}"
    return shown.encode("utf-8", "replace").decode()


def limit_reached(error: LimitReachedError, caller: Caller, model: str) -> ServiceError:
    """A key's own bound; `model` as the caller named it."""
    per, kind = _MEASURES[error.measure]
    subject = f"{model} in organization {caller.tenant}" if model else f"tenant {caller.tenant}"
    numbers = f"Limit {error.limit}, Used {error.used}, Requested {error.requested}."
    if error.wait_seconds is None:
        return ServiceError(
            errors_pb2.ERROR_REASON_RATE_LIMITED,
            f"Request too large for {subject} on {per}: Limit {error.limit}, "
            f"Requested {error.requested}. The input or output tokens must be reduced in order to "
            "run successfully.",
            openai_type=kind,
            is_final=True,
        )
    return ServiceError(
        errors_pb2.ERROR_REASON_RATE_LIMITED,
        f"Rate limit reached for {subject} on {per}: {numbers} "
        f"Please try again in {_shown_seconds(error.wait_seconds)}.",
        openai_type=kind,
        retry_after_seconds=error.wait_seconds,
    )


@contextmanager
def worded_limits(caller: Caller, model: str) -> Iterator[None]:
    """Raise a limit that is reached as the ServiceError that its caller sees."""
    try:
        yield
    except LimitReachedError as error:
        raise limit_reached(error, caller, model) from error


def _shown_seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
