"""Addresses of a cluster's pods, out of 127.64.0.0/10: all of 127.0.0.0/8 is this machine's own.

A cluster has a /16 for itself, also beside other clusters on the machine: it holds a listener on
the block's last address.
"""

import os
import socket

_FIRST, _NUM_BLOCKS = 64, 64
_CLAIM_HOST, _CLAIM_PORT = "255.254", 50_000
_LAST = 65_000


class AddressBlock:
    """127.x.0.0/16; an address is given once."""

    def __init__(self) -> None:
        self._claim, self._prefix = _claim_block()
        self._num_given = 0

    def take(self) -> str:
        """Another address."""
        self._num_given += 1
        assert self._num_given < _LAST, "a cluster has one block of addresses"
        return f"{self._prefix}.{self._num_given // 250}.{self._num_given % 250 + 1}"

    def release(self) -> None:
        """Let others have the block."""
        self._claim.close()


def _claim_block() -> tuple[socket.socket, str]:
    for offset in range(_NUM_BLOCKS):
        prefix = f"127.{_FIRST + (os.getpid() + offset) % _NUM_BLOCKS}"
        claim = socket.socket()
        try:
            claim.bind((f"{prefix}.{_CLAIM_HOST}", _CLAIM_PORT))
            claim.listen()
        except OSError:
            claim.close()
        else:
            return claim, prefix
    raise AssertionError("every block of 127.64.0.0/10 is another cluster's")
