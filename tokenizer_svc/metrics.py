"""The tokenizer's own figures for Prometheus."""

from headrace.runtime.identity import Identity
from headrace.telemetry.metrics import ServiceMetrics


class TokenizerMetrics(ServiceMetrics):
    """Counted once a request or once a frame, never once a token."""

    def __init__(self, identity: Identity) -> None:
        super().__init__("tokenizer", identity)
