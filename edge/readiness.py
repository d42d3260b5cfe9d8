"""Whether an edge wants to be sent requests."""

from edge.service_state import ServiceState
from headrace.client.answers import ChatBackend

NOT_CONNECTED = "no model has both a worker and a tokenizer connected"


class Readiness:
    """From the first model that can be asked for until the edge leaves.

    It stays ready while all workers or all tokenizers are away: out of a load balancer's list,
    together with every other edge, it would be a connection refused to its clients; here they are
    told 503, and when to ask again.
    """

    def __init__(self, backend: ChatBackend, state: ServiceState) -> None:
        self._backend = backend
        self._state = state
        self._was_connected = False

    @property
    def is_leaving(self) -> bool:
        """It has been told to stop."""
        return self._state.is_leaving

    @property
    def problem(self) -> str:
        """Why it was not connected yet; empty once it was."""
        self._was_connected = self._was_connected or self._backend.is_ready
        return "" if self._was_connected else NOT_CONNECTED
