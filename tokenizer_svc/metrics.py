"""The tokenizer's own figures for Prometheus.

A call costs some observations when it ends; a frame and a token nothing here: what streams count is
plain numbers, read when somebody asks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.access.caller import ANYBODY
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError, reason_label
from headrace.rpc.served_calls import CallEnd, ServedCall
from headrace.runtime.identity import Identity
from headrace.telemetry import buckets, names
from headrace.telemetry.metrics import ServiceMetrics
from tokenizer_svc.activity import Activity
from tokenizer_svc.call_log import CALLS
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.outputs import EndReason

# Calls that end with these were taken, or were counted when their key was looked at.
_COUNTED_ELSEWHERE = frozenset(
    reason_label(reason)
    for reason in (
        errors_pb2.ERROR_REASON_CLIENT_CANCELLED,
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        errors_pb2.ERROR_REASON_INVALID_API_KEY,
    )
)
_DECODE = "Decode"


class TokenizerMetrics(ServiceMetrics):
    """Counted once a call or once a frame, never once a token."""

    def __init__(self, identity: Identity) -> None:
        super().__init__("tokenizer", identity)
        self._activity = Activity()
        self._calls = Counter(
            "headrace_tokenizer_calls",
            "Unary calls that have ended, by method and status code.",
            ("method", "code"),
            registry=self.registry,
        )
        seconds = Histogram(
            "headrace_tokenizer_call_seconds",
            "How long unary calls took, however they ended.",
            ("method",),
            buckets=buckets.PHASE_SECONDS,
            registry=self.registry,
        )
        self._seconds = {method: seconds.labels(method) for method in CALLS.values()}
        self._encoded_tokens = Counter(
            "headrace_tokenizer_encoded_tokens",
            "Tokens that texts and conversations were encoded to.",
            registry=self.registry,
        )

    def watch(self, activity: Activity, pool: EncodingPool) -> None:
        """Show what these say from now on; once."""
        self._activity = activity
        self.registry.register(_Figures(activity, pool))

    def on_call(self, call: ServedCall, end: CallEnd) -> None:
        """Count a unary call that has ended."""
        method = CALLS[call.method]
        self._calls.labels(method, end.code.name).inc()
        self._seconds[method].observe(call.seconds)
        tokens = call.attributes.get(names.TEXT_TOKENS)
        if isinstance(tokens, int) and method != _DECODE:
            self._encoded_tokens.inc(tokens)
        if end.error_type and end.error_type not in _COUNTED_ELSEWHERE:
            self._activity.refusals[end.error_type, call.tenant_class] += 1

    def on_key_refused(self, error: ServiceError) -> None:
        """Count a call of any method, whose caller is not known."""
        self._activity.refusals[error.label, ANYBODY.tenant_class] += 1


class _Figures(Collector):
    """What the service's own numbers say when they are asked for."""

    def __init__(self, activity: Activity, pool: EncodingPool) -> None:
        self._activity = activity
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """All of them; on any thread."""
        activity = self._activity
        yield GaugeMetricFamily(
            "headrace_tokenizer_encodings_waiting",
            "Texts and conversations that wait for a thread.",
            self._pool.num_waiting,
        )
        yield GaugeMetricFamily(
            "headrace_tokenizer_threads_busy",
            "Threads that render, encode or decode.",
            self._pool.num_busy,
        )
        yield GaugeMetricFamily(
            "headrace_tokenizer_open_outputs",
            "Outputs that are open on all Detokenize streams.",
            activity.open_outputs,
        )
        yield from self._decoding()
        yield _labelled(
            "headrace_tokenizer_outputs",
            "Outputs that have ended, by how they did.",
            ("reason",),
            {(reason,): activity.ended_outputs[reason] for reason in get_args(EndReason)},
        )
        yield _labelled(
            "headrace_tokenizer_refusals",
            "Calls and outputs that were refused, by reason and class of the caller.",
            ("reason", "tenant_class"),
            dict(activity.refusals),
        )

    def _decoding(self) -> Iterator[Metric]:
        activity = self._activity
        yield CounterMetricFamily(
            "headrace_tokenizer_decoded_tokens",
            "Tokens that came to be decoded on Detokenize streams.",
            activity.fed_tokens,
        )
        yield CounterMetricFamily(
            "headrace_tokenizer_detokenize_seconds",
            "Time that the loop has spent on frames of Detokenize streams.",
            activity.detokenize_seconds,
        )
        yield CounterMetricFamily(
            "headrace_tokenizer_stray_entries",
            "Entries of frames that were for outputs that are not open.",
            activity.stray_entries,
        )
        frames = activity.frames
        yield _labelled(
            "headrace_tokenizer_frames",
            "Frames of all Detokenize streams.",
            ("direction",),
            {("sent",): frames.sent, ("received",): frames.received},
        )


def _labelled(
    name: str, documentation: str, labels: tuple[str, ...], values: Mapping[Any, int]
) -> Metric:
    """A family of counts, by the values of their labels."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
