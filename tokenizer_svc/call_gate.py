"""What a caller of the tokenizer may use: its models, and its limits.

A unary call counts as one request, and its tokens are charged when they are known; what is owed
then keeps the next call waiting. The tokens of answers are the workers' to count: Detokenize takes
whatever a known key sends.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import grpc

from headrace.access.caller import Caller, TenantClass
from headrace.access.grpc_authentication import KeyGate, key_of
from headrace.access.refusals import unknown_model, worded_limits
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.served_calls import ServedCall, served_call
from headrace.telemetry import names
from tokenizer_svc.registry import ModelRegistry, TokenizerModel


class Call:
    """One unary call; its handler says how many tokens it had."""

    def __init__(self, model: TokenizerModel) -> None:
        self.model = model
        self.used_tokens = 0


def _anything(_model: str) -> None:
    """Every model may be decoded."""


@dataclass(frozen=True, slots=True)
class StreamCaller:
    """Who opened a shared stream; `check` raises ServiceError for a model that is not admitted.

    By default everybody, who may have everything decoded.
    """

    tenant_class: TenantClass = "anonymous"
    check: Callable[[str], None] = _anything


class CallGate:
    """The callers of this service and the models that each may use."""

    def __init__(self, registry: ModelRegistry, gate: KeyGate | None = None) -> None:
        """Without `gate` everybody may do everything."""
        self._registry = registry
        self._gate = gate or KeyGate()

    @contextmanager
    def call(self, context: grpc.aio.ServicerContext, model: str) -> Iterator[Call]:
        """Count a call for `model`. Raises ServiceError: model_not_found or rate_limited."""
        served = served_call()
        holder = self._gate.holder(context)
        _name_caller(served, holder.caller)
        call = Call(self._find(model, holder.caller))
        served.attributes[names.REQUEST_MODEL] = call.model.directory.name
        with worded_limits(holder.caller, call.model.directory.name):
            lease = holder.allowance.admit(0, time.monotonic())
        try:
            yield call
        finally:
            lease.close(call.used_tokens, time.monotonic())
            if call.used_tokens:
                served.attributes[names.TEXT_TOKENS] = call.used_tokens

    def model(self, context: grpc.aio.ServicerContext, name: str) -> TokenizerModel:
        """The model that a caller means, without counting. Raises ServiceError."""
        return self._find(name, self._gate.holder(context).caller)

    def names(self, context: grpc.aio.ServicerContext) -> list[str]:
        """The models that a caller may use, its default first."""
        return self._admitted(self._gate.holder(context).caller)

    def stream_caller(self, context: grpc.aio.ServicerContext) -> "StreamCaller":
        """Who opens a shared stream. Raises ServiceError: invalid_api_key."""
        caller = self._gate.holder(context).caller
        key = key_of(context.invocation_metadata())
        return StreamCaller(caller.tenant_class, partial(self._check_output, key))

    def _check_output(self, key: str, model: str) -> None:
        """Raise ServiceError where a stream's key may not have an output of `model` decoded.

        DRAINING where the key is known no more: the stream takes nothing new.
        """
        try:
            caller = self._gate.holder_of(key).caller
        except ServiceError as error:
            raise ServiceError(
                errors_pb2.ERROR_REASON_DRAINING,
                "the key with which this stream was opened is not known any more",
            ) from error
        self._find(model, caller)

    def _find(self, name: str, caller: Caller) -> TokenizerModel:
        if caller.models is None:
            return self._registry.find(name)
        admitted = self._admitted(caller)
        if not admitted or (name and name not in admitted):
            raise unknown_model(name)
        return self._registry.find(name or admitted[0])

    def _admitted(self, caller: Caller) -> list[str]:
        return [name for name in self._registry.names if caller.may_use(name)]


def _name_caller(served: ServedCall, caller: Caller) -> None:
    served.tenant_class = caller.tenant_class
    if caller.tenant:
        served.attributes[names.TENANT] = caller.tenant
