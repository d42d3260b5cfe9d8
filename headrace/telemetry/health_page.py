"""What a service tells the process on its health port: three records in memory that both map.

A record is written by one copy and bears a checksum: a reader takes all of it or nothing, whatever
the order in which a processor lets it see the bytes. Times are nanoseconds of the monotonic clock,
which all processes of a machine share.
"""

import json
import mmap
import os
import struct
import sys
import tempfile
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_HEAD = struct.Struct("<QII")
"""When it was told, length of the payload, checksum of all else."""
_CHECKED = struct.Struct("<QI")
_CUT = struct.Struct("<Q")
"""How many bytes of the metrics, whose text follows, had no room."""
_TRIES = 16
_BEAT_AT, _WORDS_AT, _FIGURES_AT = 0, 64, 4096
_MAX_PROBLEM_CHARACTERS = 400
PAGE_BYTES = 16 * 2**20
"""Size of the memory; what is never written takes none of the machine's."""
FIGURES_ROOM = PAGE_BYTES - _FIGURES_AT - _HEAD.size
"""Longest text of metrics, in bytes."""


class Phase(StrEnum):
    """Where a service stands in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Words:
    """What a service says of itself: its phase, since when, and why it is not ready (or "")."""

    phase: Phase
    since_ns: int
    problem: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The text of metrics as it was at a time, and how many bytes of it had no room."""

    told_at_ns: int
    text: bytes
    cut_bytes: int


class Record:
    """A payload of up to `room` bytes, and when it was told."""

    def __init__(self, memory: mmap.mmap, offset: int, room: int) -> None:
        self._memory = memory
        self._offset = offset
        self._room = room

    def write(self, told_at_ns: int, payload: bytes = b"") -> None:
        """Replace what the record holds. Raises ValueError where the payload has no room."""
        if len(payload) > self._room:
            raise ValueError(f"{len(payload)} bytes, and the record holds {self._room}")
        checksum = _checksum(told_at_ns, payload)
        whole = _HEAD.pack(told_at_ns, len(payload), checksum) + payload
        # One assignment: no other thread of this process gets in between.
        self._memory[self._offset : self._offset + len(whole)] = whole

    def read(self) -> tuple[int, bytes] | None:
        """When it was told, and what; None where it was never written, or is being written."""
        for _ in range(_TRIES):
            told_at_ns, length, checksum = _HEAD.unpack_from(self._memory, self._offset)
            begin = self._offset + _HEAD.size
            if length <= self._room:
                payload = self._memory[begin : begin + length]
                if _checksum(told_at_ns, payload) == checksum:
                    return told_at_ns, payload
        return None


def _checksum(told_at_ns: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(told_at_ns, len(payload))))


class HealthPage:
    """The records; one process writes (`create`), others read (`attach`)."""

    def __init__(self, descriptor: int, memory: mmap.mmap) -> None:
        self.descriptor = descriptor
        self._memory = memory
        self._beat = Record(memory, _BEAT_AT, 0)
        self._words = Record(memory, _WORDS_AT, _FIGURES_AT - _WORDS_AT - _HEAD.size)
        self._figures = Record(memory, _FIGURES_AT, FIGURES_ROOM)

    @classmethod
    def create(cls) -> Self:
        """Memory without a name, which goes with the last process that has it open."""
        descriptor = _open_memory()
        os.ftruncate(descriptor, PAGE_BYTES)
        return cls(descriptor, mmap.mmap(descriptor, PAGE_BYTES))

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """The memory of an inherited descriptor, for reading."""
        return cls(descriptor, mmap.mmap(descriptor, PAGE_BYTES, prot=mmap.PROT_READ))

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.descriptor)

    def tell_beat(self, now_ns: int) -> None:
        """The event loop runs."""
        self._beat.write(now_ns)

    def tell_words(self, now_ns: int, words: Words) -> None:
        """What the service says of itself now."""
        said = (words.phase, words.since_ns, words.problem[:_MAX_PROBLEM_CHARACTERS])
        self._words.write(now_ns, json.dumps(said, ensure_ascii=False).encode())

    def tell_figures(self, now_ns: int, text: bytes, room: int = FIGURES_ROOM) -> None:
        """Metrics in Prometheus' text format; what exceeds the room is cut between families."""
        kept = text if len(text) <= room - _CUT.size else text[: _end_of_family(text, room)]
        self._figures.write(now_ns, _CUT.pack(len(text) - len(kept)) + kept)

    def beat_ns(self) -> int | None:
        """When the event loop ran last."""
        record = self._beat.read()
        return None if record is None else record[0]

    def words(self) -> Words | None:
        """What the service said last."""
        record = self._words.read()
        if record is None:
            return None
        phase, since_ns, problem = json.loads(record[1])
        return Words(Phase(phase), since_ns, problem)

    def figures(self) -> Figures | None:
        """The latest metrics."""
        record = self._figures.read()
        if record is None:
            return None
        told_at_ns, payload = record
        return Figures(told_at_ns, payload[_CUT.size :], _CUT.unpack_from(payload)[0])


def _end_of_family(text: bytes, room: int) -> int:
    """Where to cut: before a family, or where the first is too long already, before a line."""
    end = room - _CUT.size
    family = text.rfind(b"\n# HELP ", 0, end)
    return (family if family >= 0 else text.rfind(b"\n", 0, end)) + 1


def _open_memory() -> int:
    if sys.platform == "linux":
        return os.memfd_create("headrace-health")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
