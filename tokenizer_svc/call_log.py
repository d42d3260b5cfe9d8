"""The canonical line of a unary call: one at its end, with nothing of its texts and no key."""

from collections.abc import Mapping

import grpc
import structlog

from headrace.rpc.served_calls import CallEnd, ServedCall
from headrace.telemetry import names
from headrace.tokenizer.v1.service_pb2 import DESCRIPTOR

_log = structlog.get_logger(__name__)

_SERVICE = DESCRIPTOR.services_by_name["TokenizerService"]
CALLS: Mapping[str, str] = {
    f"{_SERVICE.full_name}/{name}": name for name in ("Render", "Encode", "Decode", "CountTokens")
}
"""The methods that have a span and a line each, by their full names."""
_KEYS = {
    names.REQUEST_MODEL: "model",
    names.TENANT: "tenant",
    names.TEXT_CHARACTERS: "characters",
    names.TEXT_TOKENS: "tokens",
    names.THREAD_WAIT_SECONDS: "thread_wait_seconds",
    names.TEMPLATE_SECONDS: "template_seconds",
    names.ENCODING_SECONDS: "encoding_seconds",
    names.GUIDE_SECONDS: "guide_seconds",
}


def log_call(call: ServedCall, end: CallEnd) -> None:
    """Write the line of a call that has ended; what is not known of it is left out."""
    facts = {key: call.attributes[name] for name, key in _KEYS.items() if name in call.attributes}
    if end.code is not grpc.StatusCode.OK:
        facts["reason"] = end.error_type
    _log.info(
        "call_ended",
        method=CALLS[call.method],
        code=end.code.name,
        trace_id=call.span.context.trace_id,
        request_id=call.request_id,
        seconds=_rounded(call.seconds),
        **{key: _rounded(value) for key, value in facts.items()},
    )


def _rounded(value: object) -> object:
    """Microseconds are enough."""
    return round(value, 6) if isinstance(value, float) else value
