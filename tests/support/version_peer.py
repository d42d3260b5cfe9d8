"""One version's services, or its client, as a process: what runs against another version.

`serve FOLDER` writes a small model to FOLDER, prints its addresses as JSON and serves until its
input ends. `ask WORKER TOKENIZER` plays one client through the contract and prints what it saw.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import structlog

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage
from headrace.rpc.errors import ServiceError
from tests.support.in_process import in_process_stack, small_registry
from worker.engine.paced_settings import PacedSettings

MESSAGES = (ChatMessage("user", "Hello, world! " * 8),)


async def serve(folder: Path) -> None:
    """Serve until standard input ends."""
    settings = PacedSettings(script="echo", tokens_per_second=1000)
    async with in_process_stack(small_registry(folder), settings) as stack:
        addresses = {"worker": stack.worker_addresses, "tokenizer": stack.tokenizer_addresses}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        async with asyncio.timeout(10):
            await stack.idle()  # what the client left early is not running any more


async def ask(worker: str, tokenizer: str) -> dict[str, Any]:
    """A whole answer, one with a stop string, one cut short, one left early, one refused."""
    seen: dict[str, Any] = {}
    async with HeadraceClient([worker], [tokenizer]) as client:
        seen["models"] = client.models
        for name, options in (
            ("whole", {"max_tokens": 200}),
            ("stopped", {"max_tokens": 200, "stop": ["world"]}),
            ("cut", {"max_tokens": 3}),
        ):
            async with client.chat(MESSAGES, **options) as answer:
                text = await answer.text()
            usage = answer.usage
            seen[name] = [text, answer.finish_reason, usage.prompt_tokens, usage.completion_tokens]
        async with client.chat(MESSAGES) as answer:
            async for _ in answer:
                break
        try:
            async with client.chat(MESSAGES, max_tokens=10_000) as answer:
                await answer.text()
        except ServiceError as error:
            seen["refused"] = [error.label, error.param]
    return seen


def main() -> None:
    """Run one role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["serve", "ask"])
    parser.add_argument("arguments", nargs="+")
    arguments = parser.parse_args()
    if arguments.role == "serve":
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        asyncio.run(serve(Path(arguments.arguments[0])))
    else:
        sys.stdout.write(json.dumps(asyncio.run(ask(*arguments.arguments))) + "\n")


if __name__ == "__main__":
    main()
