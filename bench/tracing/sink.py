"""A collector that throws all away: `python -m bench.tracing.sink PORT`."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def main() -> None:
    """Serve until the process is ended."""
    # An empty answer is the one of a collector that has taken everything.
    take = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"Export": take}),)
    )
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
