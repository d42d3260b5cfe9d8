"""One run of a container: a process that leads a group, which ends with it as a pod's would.

Processes are started from the main thread alone: the kernel ties a child to the thread that made
it.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.stack import group_runs

_POLL_SECONDS = 0.005


class Container:
    """A running process, or one that has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> Self:
        """Start it in a folder; what it writes is added to the log."""
        assert threading.current_thread() is threading.main_thread()
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Of its main process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """As far as is known yet."""
        return self._process.returncode is None

    async def ended(self) -> int:
        """Wait until nothing is left of it; returns its exit code, or minus the signal's number."""
        code = await self._process.wait()
        # In a container the kernel does it: all end with the first process.
        self._signal_group(signal.SIGKILL)
        while group_runs(self.pid):  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def ends_within(self, seconds: float) -> bool:
        """Wait for its end, at most so long; whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        return not self.is_running

    def terminate(self) -> None:
        """SIGTERM to its main process alone, as a container's first one gets it."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.is_running:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)
