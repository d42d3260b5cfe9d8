"""The benchmarks' pure parts: what they count, and what they judge."""
