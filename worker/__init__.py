"""The worker service: token ids in, token ids out, on one engine."""
