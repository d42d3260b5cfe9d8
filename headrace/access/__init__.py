"""Who calls, what they may do and how much: keys, callers, limits; the same at HTTP and gRPC."""
