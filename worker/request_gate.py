"""What a caller may submit: its models, its tenant's salt and priority, and its limits.

An untrusted caller speaks for its own tenant only: another salt or priority is refused by name, and
its own is filled in. A trusted one, and everybody where no keys are configured, is taken at its
word.
"""

import time

from headrace.access.caller import Caller
from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import KeyHolder
from headrace.access.limits import Lease
from headrace.access.refusals import worded_limits
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import TraceContext
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.engine.seam import EngineRequest, ModelInfo
from worker.request_mapping import engine_request
from worker.served_names import chosen_name

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST


class KeyExpiredError(Exception):
    """The key was known when the stream was opened, and is not any more."""


class RequestGate:
    """The requests of one stream or call, all of one key."""

    def __init__(self, gate: KeyGate, key: str, unbounded_answer_tokens: int) -> None:
        """Raises ServiceError: invalid_api_key."""
        self._gate = gate
        self._key = key
        self._unbounded_answer_tokens = unbounded_answer_tokens
        holder = gate.holder_of(key)
        self.caller = holder.caller
        """Who it is, as known when the stream or call began."""
        self.counts_tokens = holder.allowance.counts_tokens
        """Whether any request's tokens must be counted while it runs."""

    def accept(
        self, wire: GenerationRequest, first_key: int, info: ModelInfo, trace: TraceContext
    ) -> tuple[EngineRequest, Lease]:
        """The engine's request, and its part in the caller's limits, which is the taker's to close.

        Raises ServiceError as `engine_request` does, for what the caller may not, and rate_limited;
        KeyExpiredError.
        """
        holder = self._holder()
        caller = holder.caller
        wire.model = chosen_name(info, caller, wire.model)
        _speak_for(caller, wire, info)
        request = engine_request(wire, first_key, info, trace)
        tokens, least = self._estimate(wire, request)
        with worded_limits(caller, wire.model):
            lease = holder.allowance.admit(tokens, time.monotonic(), least=least)
        self.counts_tokens |= lease.counts_tokens
        return request, lease

    def _holder(self) -> KeyHolder:
        try:
            return self._gate.holder_of(self._key)
        except ServiceError as error:
            raise KeyExpiredError from error

    def _estimate(self, wire: GenerationRequest, request: EngineRequest) -> tuple[int, int | None]:
        """The tokens to hold, and the least that it uses where they are a guess."""
        answer = request.max_tokens - len(request.output_prefix_token_ids)
        least = None
        if not wire.HasField("max_tokens"):
            answer = min(answer, self._unbounded_answer_tokens)
            least = request.num_given_tokens + request.n
        tokens = request.num_given_tokens + request.n * answer
        return tokens, least


def _speak_for(caller: Caller, wire: GenerationRequest, info: ModelInfo) -> None:
    """Fill in what the key says. Raises ServiceError where the request says something else."""
    if caller.key_id is None or caller.is_trusted:
        return
    if wire.cache_salt not in ("", caller.cache_salt):
        raise ServiceError(
            _INVALID,
            "cache_salt is your key's to say: leave it empty; only a trusted key may choose one.",
            "cache_salt",
        )
    if wire.HasField("priority") and wire.priority != caller.priority:
        raise ServiceError(
            _INVALID,
            f"priority is your key's to say, {caller.priority}, not {wire.priority}: leave it "
            "unset; only a trusted key may choose one.",
            "priority",
        )
    wire.cache_salt = caller.cache_salt
    if caller.priority and "priority" in info.honoured_fields:
        wire.priority = caller.priority
