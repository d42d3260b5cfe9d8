"""The tensorrt_llm engine against what its library does: each behaviour, and what handles it."""
