"""What a running request asks of whoever knows all workers and tokenizers."""

from typing import Protocol

from headrace.client.answers import RenderedPrompt
from headrace.client.tokenizer_link import TokenizerLink
from headrace.client.worker_link import WorkerLink
from headrace.rpc.errors import ServiceError
from headrace.telemetry.spans import Tracing


class Placement(Protocol):
    """Chooses where a request goes."""

    @property
    def tracing(self) -> Tracing:
        """Makes the spans of attempts."""

    def count_retry(self, error: ServiceError) -> None:
        """A request, or an output of it, is tried elsewhere because of `error`."""

    def place_worker(self, prompt: RenderedPrompt, avoided: frozenset[WorkerLink]) -> WorkerLink:
        """A worker that is not avoided; raises ServiceError when there is none."""

    def place_tokenizer(self, prompt: RenderedPrompt) -> TokenizerLink:
        """A tokenizer; raises ServiceError when there is none."""

    def next_handles(self, count: int) -> int:
        """The first of `count` new handles."""

    def route(self, worker_handle: int, handle: int) -> None:
        """Tokens of an output at its worker are from now on those of `handle` at its tokenizer."""

    def unroute(self, worker_handle: int) -> None:
        """No tokens of the output are to come; to be called once for each."""
