"""The edge service: OpenAI's HTTP and SSE in front of tokenizer and workers."""
