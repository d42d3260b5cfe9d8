"""OpenAI's wire, pure: no I/O, no grpc, no aiohttp, no await."""
