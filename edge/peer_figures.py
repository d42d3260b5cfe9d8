"""`PeerCollector`: what the client counts of workers and tokenizers, read when somebody asks."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace.client.figures import ClientFigures


class PeerCollector(Collector):
    """Frames and their tokens, peers by state, look-ups, retries; plain numbers, counted once."""

    def __init__(self, figures: Callable[[], ClientFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All of them; on any thread."""
        figures = self._figures()
        frames = CounterMetricFamily(
            "headrace_edge_frames",
            "Frames of the streams to workers and tokenizers.",
            labels=("peer", "direction"),
        )
        tokens = CounterMetricFamily(
            "headrace_edge_frame_tokens",
            "Tokens that those frames carried of answers.",
            labels=("peer", "direction"),
        )
        peers = GaugeMetricFamily(
            "headrace_edge_peers", "Workers and tokenizers by state.", labels=("kind", "state")
        )
        lookups = CounterMetricFamily(
            "headrace_edge_failed_lookups",
            "Look-ups of workers' and tokenizers' names that failed or found nothing.",
            labels=("kind",),
        )
        for kind, figure in figures.peers.items():
            frames.add_metric((kind, "sent"), figure.frames_sent)
            frames.add_metric((kind, "received"), figure.frames_received)
            for direction, count in figure.tokens.items():
                tokens.add_metric((kind, direction), count)
            for state, count in figure.states.items():
                peers.add_metric((kind, state), count)
            lookups.add_metric((kind,), figure.failed_lookups)
        retries = CounterMetricFamily(
            "headrace_edge_retries",
            "Renderings and generations that were tried once more, by the first try's reason.",
            labels=("reason",),
        )
        for reason, count in figures.retries.items():
            retries.add_metric((reason,), count)
        yield from (frames, tokens, peers, lookups, retries)
