"""Ask a question over gRPC alone: no HTTP, no edge.

    python examples/grpc_chat.py "What is the capital of France?"

Needs a running `make serve` (or a tokenizer and a worker of your own: --tokenizer, --worker).
"""

import argparse
import asyncio
import sys

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import SamplingParams


async def ask(arguments: argparse.Namespace) -> None:
    """Print the answer as it comes, then what it cost."""
    async with HeadraceClient([arguments.worker], [arguments.tokenizer]) as client:
        question = [ChatMessage("user", arguments.question)]
        sampling = SamplingParams(temperature=arguments.temperature)
        async with client.chat(
            question, max_tokens=arguments.max_tokens, sampling=sampling
        ) as answer:
            async for text in answer:
                sys.stdout.write(text)
                sys.stdout.flush()
        usage = answer.usage
        sys.stdout.write(
            f"\n[{answer.finish_reason}: {usage.prompt_tokens} prompt tokens, "
            f"{usage.cached_prompt_tokens} of them cached, "
            f"{sum(usage.completion_tokens)} completion tokens]\n"
        )


def main() -> None:
    """Read the command line and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question")
    parser.add_argument("--worker", default="127.0.0.1:50061", help="default: %(default)s")
    parser.add_argument("--tokenizer", default="127.0.0.1:50052", help="default: %(default)s")
    parser.add_argument("--max-tokens", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--temperature", type=float, default=0.0, help="default: %(default)s")
    try:
        asyncio.run(ask(parser.parse_args()))
    except ServiceError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
