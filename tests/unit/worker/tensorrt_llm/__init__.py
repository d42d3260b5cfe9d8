"""The tensorrt_llm engine's parts, and the whole on the double of its library."""
