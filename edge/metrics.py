"""The edge's own figures for Prometheus: of requests when they end, of the rest when asked.

A request costs some observations by children that are bound already; a frame and a token nothing
here. Names beginning with `gen_ai` and `http` are those of OpenTelemetry's conventions.
"""

from collections.abc import Callable
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from edge.model_metrics import ModelMetrics
from edge.peer_figures import PeerCollector
from edge.request_outcome import DROPPED, RequestOutcome
from edge.request_scope import RequestScope
from headrace.client.figures import ClientFigures
from headrace.runtime.identity import Identity
from headrace.telemetry import buckets
from headrace.telemetry.metrics import ServiceMetrics


class EdgeMetrics(ServiceMetrics):
    """Counted once a request, never once a token."""

    def __init__(self, identity: Identity, provider_name: str = "headrace") -> None:
        super().__init__("edge", identity)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._requests = counter(
            "headrace_edge_requests",
            "HTTP requests answered, by route and status; 499 = the client left.",
            ("route", "status"),
        )
        self._failures = counter(
            "headrace_edge_failures",
            "Requests that failed, by reason, but for probes; also after the headers of a stream.",
            ("reason",),
        )
        self.aborted = counter(
            "headrace_edge_aborted_generations", "Generations aborted before their end."
        )
        self._refusals = counter(
            "headrace_edge_refusals",
            "Requests that were not taken, by reason and by class of their caller.",
            ("reason", "tenant_class"),
        )
        self._slow_readers = counter(
            "headrace_edge_slow_readers_dropped",
            "Requests whose client was dropped, since it read too slowly.",
        )
        self._stalls = counter(
            "headrace_edge_reader_stalls",
            "How often streams had to wait for their clients to read.",
        )
        self._admission_waits = histogram(
            "headrace_edge_admission_wait_seconds",
            "How long chat requests that were admitted waited for others to end.",
            buckets=buckets.PHASE_SECONDS,
        )
        self._durations = histogram(
            "http_server_request_duration_seconds",
            "From a request's head to the last byte of its answer; no status where none was sent.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=buckets.HTTP_DURATION,
        )
        self._models = ModelMetrics(self.registry, provider_name)
        self._bound: dict[tuple[str, str, int, int | None], tuple[Counter, Histogram]] = {}

    def watch_admission(
        self, *, num_running: Callable[[], int], num_queued: Callable[[], int]
    ) -> None:
        """Tell of admission whenever somebody asks."""
        self._gauge("headrace_edge_requests_in_flight", "Chat requests at work.", num_running)
        self._gauge("headrace_edge_requests_queued", "Chat requests in the queue.", num_queued)

    def watch_peers(self, figures: Callable[[], ClientFigures]) -> None:
        """Tell of workers and tokenizers whenever somebody asks; `figures` on any thread."""
        self.registry.register(PeerCollector(figures))

    def ended(self, scope: RequestScope, outcome: RequestOutcome) -> None:
        """A request ended."""
        key = (outcome.method, outcome.route, outcome.status, scope.sent_status)
        requests, durations = self._bound.get(key) or self._bind(key)
        requests.inc()
        durations.observe(outcome.seconds)
        if not outcome.is_probe:
            self._count_failure(scope, outcome)
        if outcome.reason == DROPPED:
            self._slow_readers.inc()
        if scope.answer.stalls:
            self._stalls.inc(scope.answer.stalls)
        if scope.answer.admission_seconds is not None:
            self._admission_waits.observe(scope.answer.admission_seconds)
        if scope.model is not None:
            self._models.ended(scope.model, scope.answer, scope.began, outcome)

    def _count_failure(self, scope: RequestScope, outcome: RequestOutcome) -> None:
        if scope.failure is not None:
            self._failures.labels(scope.failure.label).inc()
        if scope.is_refused:
            self._refusals.labels(outcome.reason, scope.caller.tenant_class).inc()

    def _bind(self, key: tuple[str, str, int, int | None]) -> tuple[Counter, Histogram]:
        method, route, status, sent = key
        bound = self._bound[key] = (
            self._requests.labels(route, str(status)),
            self._durations.labels(method, route, "" if sent is None else str(sent)),
        )
        return bound

    def _gauge(self, name: str, text: str, read: Callable[[], int]) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)
