"""Runs work that recurses deeply, in libraries that end the process when their stack is used up."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

# Address space, of which the system gives memory only to what is used.
_STACK_BYTES = 512 * 1024 * 1024
_setting = threading.Lock()


def on_deep_stack(job: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """What the job returns or raises, run on a thread of its own with a stack of 512 MiB."""
    result: Future[ResultT] = Future()

    def run() -> None:
        try:
            result.set_result(job(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (raised again by the caller)
            result.set_exception(error)

    # The size is the process's, for threads that start from now on.
    with _setting:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="deep-stack", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
    return result.result()
