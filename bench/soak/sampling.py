"""What each process holds at a moment: memory, descriptors, threads, and what its tables say."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import grpc

from bench.services import Services
from headrace.tokenizer.v1.model_pb2 import GetModelRequest as GetTokenizer
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from headrace.worker.v1.model_pb2 import GetModelRequest as GetWorker
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CALL_SECONDS = 15.0
_EDGE_GAUGES = {
    "headrace_edge_requests_in_flight": "edge_requests",
    "headrace_edge_requests_queued": "edge_queue",
}


class LostServiceError(Exception):
    """A service is gone or does not answer."""


@dataclass(frozen=True)
class ProcessState:
    """Of one process."""

    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """All of it, `seconds` after the load began. `tables` are counts by name."""

    seconds: float
    processes: Mapping[str, ProcessState]
    tables: Mapping[str, int]


def process_state(pid: int) -> ProcessState:
    """From /proc. Raises OSError for a process that is gone."""
    folder = Path(f"/proc/{pid}")
    return ProcessState(
        rss_bytes=int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES,
        descriptors=_count(folder / "fd"),
        threads=_count(folder / "task"),
    )


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


class Sampler:
    """Takes samples over connections of its own, which it opens before the first and keeps."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __aenter__(self) -> Self:
        self._worker_channel = grpc.aio.insecure_channel(self._services.worker_address)
        self._tokenizer_channel = grpc.aio.insecure_channel(self._services.tokenizer_address)
        self._worker = GenerationServiceStub(self._worker_channel)
        self._tokenizer = TokenizerServiceStub(self._tokenizer_channel)
        # A connection each time: an idle one might be closed by the edge in between.
        self._edge = aiohttp.ClientSession(
            f"http://127.0.0.1:{self._services.edge_port}",
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(_CALL_SECONDS),
        )
        self._began = time.monotonic()
        await self.sample()
        self._began = time.monotonic()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._edge.close()
        await self._worker_channel.close()
        await self._tokenizer_channel.close()

    async def sample(self) -> Sample:
        """Everything now. Raises LostServiceError."""
        try:
            tables = await self._tables()
            processes = {
                service: process_state(pid) for service, pid in self._services.pids.items()
            }
        except (OSError, TimeoutError, aiohttp.ClientError, grpc.aio.AioRpcError) as error:
            raise LostServiceError(f"{type(error).__name__}: {error}") from error
        return Sample(time.monotonic() - self._began, processes, tables)

    async def _tables(self) -> dict[str, int]:
        worker = await self._worker.GetModel(GetWorker(), timeout=_CALL_SECONDS)
        tokenizer = await self._tokenizer.GetModel(GetTokenizer(), timeout=_CALL_SECONDS)
        async with self._edge.get("/metrics") as response:
            metrics = await response.text()
        load = worker.load
        return {
            **edge_tables(metrics),
            "tokenizer_outputs": tokenizer.open_outputs,
            "worker_requests": load.running_requests,
            "worker_queue": load.queued_outputs,
            "total_blocks": load.total_blocks,
            "free_blocks": load.free_blocks,
            "cached_blocks": load.cached_blocks,
            "referenced_blocks": load.referenced_blocks,
            "preemptions": load.preemptions,
            "aborted_outputs": load.aborted_outputs,
        }


def edge_tables(metrics: str) -> dict[str, int]:
    """The edge's gauges from Prometheus' text."""
    found = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    return {name: int(float(found[gauge])) for gauge, name in _EDGE_GAUGES.items()}
