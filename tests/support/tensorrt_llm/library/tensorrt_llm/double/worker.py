"""The worker: one thread that takes commands, iterates, and sends batches of messages.

It stands for the process that the library spawns through MPI. Commands are applied between
iterations; messages go to `outbox`, a batch for each iteration, None when the thread has ended.
"""

import queue
import threading
from collections.abc import Callable
from datetime import timedelta

from tensorrt_llm.double.iteration import Iteration
from tensorrt_llm.double.machine import Machine
from tensorrt_llm.double.sequences import Failure, Fatal, Message, WorkerRequest
from tensorrt_llm.double.switches import FatalError


class Worker:
    """Owns the thread; every method may be called from any thread."""

    def __init__(self, machine: Machine, iteration: Iteration) -> None:
        self._machine = machine
        self._iteration = iteration
        self._commands: list[Callable[[], list[Message]]] = []
        self._is_stopping = False
        self._is_lost = False
        self.outbox: queue.Queue[list[Message] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="mpi-worker", daemon=True)
        machine.workers.append(self)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """A fatal error ended it."""
        return self._is_lost

    def submit(self, request: WorkerRequest, refusal: str | None) -> None:
        """Queue a request; with a `refusal` enqueueing fails, which is that request's error."""
        with self._machine.changed:
            self._machine.live_ids.add(request.request_id)
        self._post(lambda: self._enqueue(request, refusal))

    def cancel(self, request_id: int) -> None:
        """As soon as it can; unknown ids only warn."""
        with self._machine.changed:
            self._machine.aborted_ids.append(request_id)
        self._post(lambda: self._iteration.cancel(request_id))

    def fail_active(self, message: str) -> None:
        """Each active request ends with this error."""
        self._post(lambda: self._iteration.fail_all(message))

    def crash(self, error: FatalError, message: str) -> None:
        """End for good."""
        self._post(lambda: [Fatal(error, message, self._iteration.oldest())])

    def stop(self, patience: timedelta) -> None:
        """End the thread, and wait for it."""
        with self._machine.changed:
            self._is_stopping = True
            self._machine.changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience.total_seconds())

    def _post(self, command: Callable[[], list[Message]]) -> None:
        with self._machine.changed:
            self._commands.append(command)
            self._machine.changed.notify_all()

    def _enqueue(self, request: WorkerRequest, refusal: str | None) -> list[Message]:
        if refusal is not None:
            return [Failure(request.request_id, refusal)]
        return self._iteration.enqueue(request)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            # A mistake in the double itself: waiters are told, and the thread's hook reports it.
            self._publish([Fatal("RuntimeError", repr(error), self._iteration.oldest())])
            raise
        finally:
            self.outbox.put(None)

    def _serve(self) -> None:
        pause = threading.Event()
        while not self._is_stopping:
            commands, iterates = self._wait()
            messages: list[Message] = []
            for command in commands:
                messages += command()
            if iterates and not _is_fatal(messages):
                messages += self._iteration.run()
            self._publish(messages)
            if _is_fatal(messages):
                return
            if iterates:
                pause.wait(self._machine.switches.iteration_seconds)

    def _wait(self) -> tuple[list[Callable[[], list[Message]]], bool]:
        machine = self._machine
        with machine.changed:
            machine.changed.wait_for(
                lambda: (
                    self._is_stopping
                    or self._commands
                    or (self._iteration.has_work and machine.may_iterate)
                )
            )
            commands, self._commands = self._commands, []
            iterates = self._iteration.has_work and machine.may_iterate and not self._is_stopping
            if iterates:
                machine.take_permit()
                machine.iterations += 1
            return commands, iterates

    def _publish(self, messages: list[Message]) -> None:
        machine = self._machine
        with machine.changed:
            for message in messages:
                if isinstance(message, Fatal):
                    self._is_lost = True
                elif isinstance(message, Failure) or message.is_last:
                    machine.live_ids.discard(message.request_id)
            machine.live_ids.difference_update(self._iteration.silenced)
            self._iteration.silenced.clear()
            machine.active_ids.clear()
            machine.active_ids.update(self._iteration.active_ids)
            machine.changed.notify_all()
        if messages:
            self.outbox.put(messages)


def _is_fatal(messages: list[Message]) -> bool:
    return any(isinstance(message, Fatal) for message in messages)
