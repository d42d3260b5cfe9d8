"""Sizes and times that both ends of every connection agree on; see protos/README.md."""

from dataclasses import dataclass

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest serialized message accepted, on shared streams and unary calls."""
MERGE_BYTES = 1024 * 1024
"""A writer stops merging entries into a frame at about this size."""
MAX_PENDING_TOKENS = 1_000_000
"""Tokens that may wait in a frame under construction before single requests are aborted."""


@dataclass(frozen=True, slots=True)
class FrameTiming:
    """When a shared stream speaks and when its peer is dead; seconds."""

    heartbeat_seconds: float = 5.0
    silence_seconds: float = 15.0
    hello_seconds: float = 5.0


CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Two processes on one port would share its connections without a word.
    ("grpc.so_reuseport", 0),
)
