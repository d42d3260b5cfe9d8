"""One supervised child process: its output, its readiness, its end.

A child leads a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone, which
then ends the children in order; and whatever a child has started ends with it.
"""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from headrace.runtime.progress import Progress

SENTENCE_PREFIX = "headrace: "
"""What a service writes before the sentence that says why it cannot start."""

_DRAIN_OUTPUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to run a child. `probe` returns when it is ready.

    Children of the highest `rank` end first, those of the same rank together. `stop_seconds` is how
    long it may take to end by itself after SIGTERM.
    """

    name: str
    address: str
    command: tuple[str, ...]
    probe: Callable[[], Coroutine[Any, Any, None]]
    rank: int
    stop_seconds: float


class Child:
    """A started child; made by `start`, ended by `stop`."""

    def __init__(
        self, spec: ChildSpec, process: Process, output: BinaryIO, progress: Progress
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self._process = process
        self._progress = progress
        self._sentence = ""
        self._output = asyncio.create_task(self._forward_output(output))

    @classmethod
    async def start(cls, spec: ChildSpec, progress: Progress) -> Self:
        """Start the process; its output goes line by line to `progress`. Raises OSError."""
        # A pipe of our own: with the library's, the wait for the child's end would also be a wait
        # for whatever it has started and left behind with the pipe in hand.
        read_end, write_end = os.pipe()
        output = os.fdopen(read_end, "rb", buffering=0)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except OSError:
            output.close()
            raise
        finally:
            os.close(write_end)
        return cls(spec, process, output, progress)

    async def ended(self) -> str:
        """Wait for the end, expected or not; returns one clause that says how it was."""
        code = await self._process.wait()
        with suppress(TimeoutError):
            # What it started may still hold the pipe; its own words have been written by now.
            async with asyncio.timeout(_DRAIN_OUTPUT_SECONDS):
                await asyncio.shield(self._output)
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        if self._sentence:
            return f"ended with exit code {code}: {self._sentence}"
        return f"ended with exit code {code}"

    async def stop(self) -> bool:
        """SIGTERM, then SIGKILL where that takes too long; returns whether it ended in order."""
        in_order = True
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.spec.stop_seconds):
                    await self._process.wait()
            except TimeoutError:
                in_order = False
        self.kill()
        await self._process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_OUTPUT_SECONDS):
                await self._output
        return in_order

    def kill(self) -> None:
        """SIGKILL to the child and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _forward_output(self, output: BinaryIO) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), output
        )
        try:
            rest = b""
            while chunk := await reader.read(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take_line(line)
            if rest:
                self._take_line(rest)
        finally:
            transport.close()

    def _take_line(self, line: bytes) -> None:
        """Keep the sentence for the supervisor, which names the child; pass on everything else."""
        text = line.decode(errors="replace")
        if text.startswith(SENTENCE_PREFIX):
            self._sentence = text.removeprefix(SENTENCE_PREFIX)
        else:
            self._progress.say(text)
