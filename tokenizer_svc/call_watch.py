"""What is seen of unary calls: a span, the figures and a line each."""

from headrace.rpc.served_calls import CallEnd, CallHook, ServedCall
from headrace.telemetry.service import Telemetry
from tokenizer_svc.call_log import CALLS, log_call
from tokenizer_svc.metrics import TokenizerMetrics


def call_hook(telemetry: Telemetry[TokenizerMetrics]) -> CallHook:
    """What the server is made with, in front of the check of keys."""

    def on_end(call: ServedCall, end: CallEnd) -> None:
        telemetry.metrics.on_call(call, end)
        log_call(call, end)

    return CallHook(telemetry.tracing, CALLS, on_end)
