"""Waiting until a service is healthy: gRPC health for tokenizer and worker, /ready for the edge.

A probe returns when the service is ready and is cancelled by whoever waits no longer.
"""

import asyncio
import ssl

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.rpc.credentials import PeerCredentials
from headrace.runtime.errors import StartError
from headrace.runtime.listening import host_and_port

_PROBE_SECONDS = 0.1
_ANSWER_SECONDS = 2.0
# A service that is still loading refuses connections; gRPC's own back-off would start at a second.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.enable_http_proxy", 0),
)


async def grpc_healthy(host: str, port: int, credentials: PeerCredentials | None = None) -> None:
    """Return when the gRPC server at the address reports SERVING; asked as a link would ask."""
    credentials = credentials or PeerCredentials()
    async with credentials.open_channel(host_and_port(host, port), _CHANNEL_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while not await _watch_until_serving(stub):
            continue


async def _watch_until_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    """Follow the server's health; False when the connection was lost before it was SERVING."""
    call = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return True
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise StartError(
                f"health is not told: {error.code().name} {error.details()}"
            ) from error
    finally:
        call.cancel()
    return False


async def http_ready(host: str, port: int, *, tls: bool = False) -> None:
    """Return when GET /ready at the address answers 200."""
    while await http_status(host, port, "/ready", tls=tls) != 200:  # noqa: ASYNC110 (another process)
        await asyncio.sleep(_PROBE_SECONDS)


async def http_status(host: str, port: int, path: str, *, tls: bool = False) -> int | None:
    """The status of one GET; None where there is no answer within two seconds."""
    context = _unverified() if tls else None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                lines = f"Host: {host_and_port(host, port)}\r\nConnection: close\r\n"
                writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def _unverified() -> ssl.SSLContext:
    """The probe asks our own child on this machine: the certificate's name is no matter."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
