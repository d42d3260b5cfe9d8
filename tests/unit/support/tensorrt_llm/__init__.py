"""What the double of tensorrt_llm shows, behaviour by behaviour."""
