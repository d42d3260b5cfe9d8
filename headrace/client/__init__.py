"""Clients of the gRPC services, for the edge and for internal callers."""
