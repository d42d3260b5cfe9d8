"""Real processes on loopback, real gRPC, real HTTP."""
