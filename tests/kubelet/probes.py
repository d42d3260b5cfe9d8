"""Probes of a container: one question at a time, and what so many answers in a row say of it.

Native gRPC probes alone, plaintext, on a connection of their own each, as a kubelet's are.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.kubelet.fields import RefusedError, require_known

_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
_FIELDS = {
    "initialDelaySeconds": "initial_delay",
    "periodSeconds": "period",
    "timeoutSeconds": "timeout",
    "failureThreshold": "failure_threshold",
    "successThreshold": "success_threshold",
    "terminationGracePeriodSeconds": "grace",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """As rendered; what is not there has Kubernetes' defaults. All times in seconds."""

    port: int
    service: str
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    grace: float | None = None
    """Instead of the pod's, where the container is killed for it."""

    @classmethod
    def read(cls, where: str, fields: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        require_known(where, fields, {"grpc", *_FIELDS})
        if "grpc" not in fields:
            raise RefusedError(f"{where}: the mini-kubelet knows grpc probes only")
        asked = fields["grpc"]
        require_known(f"{where}.grpc", asked, {"port", "service"})
        given = {_FIELDS[name]: fields[name] for name in fields if name != "grpc"}
        return cls(port=asked["port"], service=asked.get("service", ""), **given)

    async def ask(self, address: str) -> bool:
        """Whether the service says in time that it serves."""
        target = f"{address}:{self.port}"
        async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
            request = health_pb2.HealthCheckRequest(service=self.service)
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    request, timeout=self.timeout, wait_for_ready=True
                )
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def run(self, address: str, is_over: Callable[[bool], bool]) -> bool:
        """Ask once a period, and have `is_over` judge each time that a threshold is reached.

        Thresholds that stay reached count again with each answer. Returns the verdict that was the
        last.
        """
        await asyncio.sleep(self.initial_delay)
        last, num_alike = False, 0
        while True:
            began = time.monotonic()
            is_good = await self.ask(address)
            num_alike = num_alike + 1 if is_good == last else 1
            last = is_good
            threshold = self.success_threshold if is_good else self.failure_threshold
            if num_alike >= threshold and is_over(is_good):
                return is_good
            await asyncio.sleep(max(0.0, began + self.period - time.monotonic()))
