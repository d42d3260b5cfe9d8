"""What the mini-kubelet brings into each container's interpreter: names, and an end with it.

Names of Services (`*.svc`) are answered from the file that KUBELET_NAMES names, a JSON object of
each headless Service's addresses, replaced whole on each change; all other names as ever. uvloop
asks libc past `socket`, so its loop is told too. The container's main process, whose parent is
KUBELET_PID, is killed with that one; what it starts in its turn is its own affair.
"""

import ctypes
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_SUFFIX = ".svc"
_libc_getaddrinfo = socket.getaddrinfo


def _is_service(host: object) -> bool:
    return isinstance(host, str) and host.endswith(_SUFFIX)


def getaddrinfo(host: Any, port: Any, *positional: int, **how: int) -> list[Any]:
    """In place of socket.getaddrinfo; a Service without addresses does not exist."""
    if not _is_service(host):
        return _libc_getaddrinfo(host, port, *positional, **how)
    names = json.loads(Path(os.environ["KUBELET_NAMES"]).read_text(encoding="utf-8"))
    if not names.get(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    found: list[Any] = []
    for address in names[host]:
        found += _libc_getaddrinfo(address, port, *positional, **how)
    return found


def _teach_uvloop() -> None:
    try:
        import uvloop  # noqa: PLC0415 (only in containers that have it)
    except ImportError:
        return
    loop_class: Any = uvloop.Loop
    libuv_getaddrinfo = loop_class.getaddrinfo

    async def ask(self: Any, host: Any, port: Any, **how: Any) -> list[Any]:
        if not _is_service(host):
            found: list[Any] = await libuv_getaddrinfo(self, host, port, **how)
        else:
            found = await self.run_in_executor(None, lambda: getaddrinfo(host, port, **how))
        return found

    loop_class.getaddrinfo = ask


def _end_with(kubelet_pid: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != kubelet_pid:
        os.kill(os.getpid(), signal.SIGKILL)


socket.getaddrinfo = getaddrinfo
if os.getppid() == int(os.environ["KUBELET_PID"]):
    _end_with(int(os.environ["KUBELET_PID"]))
    _teach_uvloop()
