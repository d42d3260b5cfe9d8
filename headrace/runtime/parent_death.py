"""A child that does not outlive the process that started it, however that one ended."""

import ctypes
import os
import signal
import sys

from headrace.runtime.errors import StartError

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process as soon as its parent is gone (Linux; elsewhere no effect).

    `parent_pid` is the parent as it knows itself: it may be gone before this call. Raises
    StartError in that case.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise StartError(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        raise StartError(f"the parent process {parent_pid} is gone")
