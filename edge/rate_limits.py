"""A key's limits at the edge: counted at admission, held once the prompt is known, then settled.

The prompt's tokens are those that Render gave, which are those that CountTokens would count: asking
it beforehand would render every conversation twice.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Literal

from edge.request_scope import RequestScope
from headrace.access.caller import Caller
from headrace.access.limits import Lease
from headrace.access.refusals import worded_limits
from headrace.client.answers import GenerationOptions, ServedModel

_MEASURES: tuple[Literal["requests", "tokens"], ...] = ("requests", "tokens")


class RequestQuota:
    """One admitted request's part in its key's limits."""

    def __init__(self, caller: Caller, lease: Lease, model: str, unbounded_tokens: int) -> None:
        self._caller = caller
        self._lease = lease
        self._model = model
        self._unbounded_tokens = unbounded_tokens

    def reserve(self, prompt_tokens: int, options: GenerationOptions, model: ServedModel) -> None:
        """Hold what the request may use. Raises ServiceError: rate_limited."""
        answer, least = options.max_tokens, None
        if answer is None:
            answer = min(self._unbounded_tokens, max(0, model.context_length - prompt_tokens))
            least = prompt_tokens + options.n
        with worded_limits(self._caller, self._model):
            tokens = prompt_tokens + options.n * answer
            self._lease.reserve(tokens, time.monotonic(), least=least)


@contextmanager
def request_quota(scope: RequestScope, model: str, unbounded_tokens: int) -> Iterator[RequestQuota]:
    """Count a request; afterwards what the scope says was used is settled, however it ended.

    Raises ServiceError: rate_limited.
    """
    caller = scope.caller
    with worded_limits(caller, model):
        lease = scope.holder.allowance.enter(time.monotonic())
    try:
        yield RequestQuota(caller, lease, model, unbounded_tokens)
    finally:
        lease.close(scope.prompt_tokens + scope.completion_tokens, time.monotonic())


def rate_limit_headers(scope: RequestScope) -> dict[str, str]:
    """What a limited caller is told with every answer; empty for others.

    The values are of now: of a stream, whose headers go before its text, those after its
    reservation.
    """
    headers: dict[str, str] = {}
    now = time.monotonic()
    for measure in _MEASURES:
        quota = scope.holder.allowance.quota(measure, now)
        if quota is not None:
            headers[f"x-ratelimit-limit-{measure}"] = str(quota.limit)
            headers[f"x-ratelimit-remaining-{measure}"] = str(quota.remaining)
            headers[f"x-ratelimit-reset-{measure}"] = duration(quota.reset_seconds)
    return headers


def duration(seconds: float) -> str:
    """A time as OpenAI's headers have it, rounded up: `0s`, `120ms`, `1s`, `6m0s`, `1h0m5s`."""
    if 0 < seconds < 1 and (milliseconds := ceil(seconds * 1000)) < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
