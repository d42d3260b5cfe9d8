"""Several children as one: started together, watched, ended in order, none left behind.

The supervisor never restarts a child: one that ends by itself ends the whole, with a sentence that
names it. Restarting is the business of whatever runs services for good.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from headrace.cli.child import Child, ChildSpec
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_REMINDER_SECONDS = 5.0

Pending: TypeAlias = asyncio.Task[Any]


class Supervisor:
    """Runs `specs`; every child must be ready `start_seconds` after its start."""

    def __init__(
        self, specs: Sequence[ChildSpec], progress: Progress, *, start_seconds: float = 180.0
    ) -> None:
        self._specs = sorted(specs, key=_rank)
        self._progress = progress
        self._start_seconds = start_seconds
        self._children: list[Child] = []

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready`, wait for `stop` or for a child's end, end all.

        Raises StartError, naming the child, when one ends by itself or does not become ready. The
        sentence has been shown and all others have ended by then.
        """
        try:
            await self._until_stopped(stop, on_ready)
        except StartError as error:
            # At once, not when all have ended: the others may take their time to drain.
            self._progress.say(f"headrace: {error}")
            raise
        finally:
            await self._end_all()

    def kill(self) -> None:
        """SIGKILL to every child, at once."""
        for child in self._children:
            child.kill()

    async def _until_stopped(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            began = time.monotonic()
            for spec in self._specs:
                await self._start(spec)
            await self._until_ready(stopped, began)
            if not stopped.done():
                on_ready()
                await self._watch(stopped)
        finally:
            stopped.cancel()

    async def _start(self, spec: ChildSpec) -> None:
        try:
            child = await Child.start(spec, self._progress)
        except OSError as error:
            raise StartError(f"{spec.name} cannot be started: {error.strerror}") from error
        self._children.append(child)
        self._progress.say(f"starting {spec.name} on {spec.address} (pid {child.pid})")

    async def _until_ready(self, stopped: Pending, began: float) -> None:
        """Wait until all are ready, or until a stop is asked for."""
        waiting: dict[Pending, ChildSpec] = {
            asyncio.create_task(spec.probe()): spec for spec in self._specs
        }
        try:
            while waiting and not stopped.done():
                ready = await self._watch(stopped, *waiting, seconds=_REMINDER_SECONDS)
                took = time.monotonic() - began
                for future in ready:
                    spec = waiting.pop(future)
                    future.result()
                    self._progress.say(f"{spec.name} is ready ({took:.1f} s)")
                if not stopped.done():
                    self._check_patience([spec.name for spec in waiting.values()], took, ready)
        finally:
            for future in waiting:
                future.cancel()

    def _check_patience(self, names: list[str], took: float, ready: set[Pending]) -> None:
        if names and took > self._start_seconds:
            raise StartError(f"{', '.join(names)} did not become ready within {took:.0f} s")
        if names and not ready:
            self._progress.say(f"waiting for {', '.join(names)} ({took:.0f} s)")

    async def _watch(
        self,
        stopped: Pending,
        *others: Pending,
        seconds: float | None = None,
    ) -> set[Pending]:
        """Wait for the first of: stop, the others, a child's end, the time; returns who is done.

        Raises StartError when a child has ended.
        """
        ends = {asyncio.create_task(child.ended()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(
                {stopped, *others, *ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for future, child in ends.items():
                if future in done and not stopped.done():
                    name = f"{child.spec.name} on {child.spec.address} (pid {child.pid})"
                    raise StartError(f"{name} {future.result()}")
        finally:
            for future in ends:
                future.cancel()
        return {future for future in others if future in done}

    async def _end_all(self) -> None:
        for _, group in groupby(reversed(self._children), key=lambda child: child.spec.rank):
            await asyncio.gather(*(self._end(child) for child in group))

    async def _end(self, child: Child) -> None:
        if await child.stop():
            self._progress.say(f"{child.spec.name} has ended")
        else:
            seconds = child.spec.stop_seconds
            self._progress.say(f"{child.spec.name} did not end within {seconds:.0f} s: killed")


def _rank(spec: ChildSpec) -> int:
    return spec.rank
