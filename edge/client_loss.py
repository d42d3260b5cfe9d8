"""Why a client did not get all of its answer: what its spans, figures and log line say alike."""

from aiohttp import web

from edge.protocol import EdgeProtocol
from headrace.client.span_ends import cancelled
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError


def client_loss(request: web.Request) -> ServiceError:
    """Of a client that is gone: whether it left, or was dropped since it read too slowly."""
    protocol = request.protocol
    if isinstance(protocol, EdgeProtocol) and protocol.was_dropped:
        return ServiceError(
            errors_pb2.ERROR_REASON_SLOW_READER, "The client read its answer too slowly."
        )
    return cancelled()
