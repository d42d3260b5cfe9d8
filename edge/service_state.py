"""Where the process stands in its life, and which requests it is answering."""

import asyncio

from edge.request_scope import RequestScope


class ServiceState:
    """Serving, leaving, draining, cut: what still runs at the end of the grace is ended."""

    def __init__(self) -> None:
        self.is_leaving = False
        """Not ready any more, and still serving what comes; from then on, to the end."""
        self.is_draining = False
        self.is_cut = False
        self._active: set[RequestScope] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, scope: RequestScope) -> None:
        """A request has arrived."""
        self._active.add(scope)
        self._idle.clear()

    def leave(self, scope: RequestScope) -> None:
        """Its response is written, or its client is gone."""
        self._active.discard(scope)
        if not self._active:
            self._idle.set()

    @property
    def is_idle(self) -> bool:
        """No request is being answered."""
        return self._idle.is_set()

    async def until_idle(self, timeout_seconds: float) -> bool:
        """Wait for all requests to end; False when the time ran out first."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> None:
        """End all running generations now; their clients get an error, never a quiet end."""
        self.is_cut = True
        now = asyncio.get_running_loop().time()
        for scope in self._active:
            # One that has expired in this very turn is being ended as it is.
            if scope.limit is not None and not scope.limit.expired():
                scope.limit.reschedule(now)
