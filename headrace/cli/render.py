"""`headrace render`: what a model gets to read of a request, without a model that answers."""

import asyncio
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge.settings import EdgeSettings
from headrace.cli.render_remote import connected_host
from headrace.cli.render_report import json_report, page
from headrace.cli.render_request import FileRequest, read_file_request
from headrace.cli.render_tokenizers import LocalHost, TokenizerHost
from headrace.cli.render_view import RenderedView, rendered_view
from headrace.cli.tables import load_models_settings, load_settings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.tokenizer.v1.render_pb2 import BlockDigestParams
from tokenizer_svc.settings import TokenizerSettings

_BLOCK_SIZE = 32
_MAX_BLOCK_SIZE = 2**32 - 1
_DESCRIPTION = """\
Shows what the model's template makes of a request: the prompt with its special tokens, how many
tokens it has and how many the context has left, the digests of its blocks, in which format the
answer will be read, the guide that it must follow, and the fields that had no effect.

REQUEST is a file with the JSON body that would be posted to /v1/chat/completions, - for stdin. It
goes the way of a request: the edge's validation by the profile, then the tokenizer's Render. What
the server would refuse is refused here, with the same sentence and the parameter's name. What only
a worker knows is not checked: which sampling fields it honours, and a context below the model's.
"""
_EPILOG = """\
examples:
  headrace render request.json
  headrace render request.json --ids                   every id with its text
  headrace render request.json --json | jq .guide
  echo '{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}' | headrace render -
  headrace render request.json --profile lenient --model ./my-model
  headrace render request.json --tokenizer 127.0.0.1:50052 --api-key-file edge.key

Aliases, profiles and limits are those of [edge] in --config, template bounds and the rule for
special tokens those of [tokenizer], TLS and key for --tokenizer those of [edge.backend].
"""


def main(argv: list[str]) -> int:
    """Run `headrace render`; returns the exit code. Raises StartError."""
    arguments = _parser().parse_args(argv)
    body = _read_body(arguments.request)
    try:
        view = asyncio.run(_view(arguments, body))
    except ServiceError as error:
        raise StartError(_sentence(error)) from error
    sys.stdout.write(json_report(view) if arguments.json else page(view))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="headrace render",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        usage="headrace render REQUEST [options]",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("request", metavar="REQUEST", help="a JSON file; - is stdin")
    add("--json", action="store_true", help="one JSON object, for programs")
    add("--ids", action="store_true", help="also every token's id with its text")
    add("--profile", metavar="NAME", help="the wire's profile (default: the alias's, else openai)")
    add(
        "--model",
        metavar="NAME",
        help="a model's name or folder (default: the request's where it is known, else the first)",
    )
    add("--config", type=Path, metavar="FILE", help="the settings file")
    add("--cache-dir", type=Path, metavar="FOLDER", help="the cache folder of models")
    blocks = parser.add_argument_group("block digests")
    blocks.add_argument(
        "--block-size",
        type=_block_size,
        default=_BLOCK_SIZE,
        metavar="N",
        help="tokens a block (default: %(default)s, the openvino engine's)",
    )
    blocks.add_argument("--block-model", default="", metavar="NAME", help="the worker's name of it")
    blocks.add_argument("--lora", default="", metavar="NAME", help="the adapter's name")
    blocks.add_argument("--cache-salt", default="", metavar="TEXT", help="the caller's salt")
    remote = parser.add_argument_group("a tokenizer service, in place of the model's files")
    remote.add_argument("--tokenizer", metavar="HOST:PORT", help="where it listens")
    remote.add_argument("--api-key-file", type=Path, metavar="FILE", help="the key shown to it")
    return parser


def _block_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_BLOCK_SIZE:
        raise ArgumentTypeError(f"{text!r} is not an integer from 1 to {_MAX_BLOCK_SIZE}")
    return int(text)


def _read_body(request: str) -> bytes:
    if request == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(request).read_bytes()
    except OSError as error:
        raise StartError(f"{request} cannot be read: {error.strerror}") from error


async def _view(arguments: Namespace, body: bytes) -> RenderedView:
    edge = load_settings("edge", EdgeSettings, arguments.config)
    blocks = BlockDigestParams(
        block_size=arguments.block_size,
        model=arguments.block_model,
        lora=arguments.lora,
        cache_salt=arguments.cache_salt,
    )
    async with _host(arguments, edge) as host:
        request = read_file_request(body, edge, arguments.profile, host.names)
        tokenizer = await host.open(_model_name(arguments.model, request, host))
        return await rendered_view(tokenizer, request, blocks, with_texts=arguments.ids)


@asynccontextmanager
async def _host(arguments: Namespace, edge: EdgeSettings) -> AsyncIterator[TokenizerHost]:
    if arguments.tokenizer is not None:
        async with connected_host(
            arguments.tokenizer, edge.backend, arguments.api_key_file
        ) as host:
            yield host
        return
    models = load_models_settings(arguments.config)
    settings = load_settings("tokenizer", TokenizerSettings, arguments.config)
    yield LocalHost(settings, arguments.cache_dir or models.cache_dir)


def _model_name(wanted: str | None, request: FileRequest, host: TokenizerHost) -> str:
    if wanted is not None:
        return wanted
    return request.target if host.knows(request.target) else host.names[0]


def _sentence(error: ServiceError) -> str:
    """The error as the client would get it, and by how much a prompt is too long."""
    param = "" if error.param is None else f", parameter {error.param}"
    sentence = f"{error.message} ({error.label}{param})"
    if error.reason == errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED:
        return sentence + _excess(error.message)
    return sentence


def _excess(message: str) -> str:
    """The difference of the two numbers in the message, which is all that crosses the wire."""
    numbers = [int(digits) for digits in re.findall(r"\d+", message)]
    if len(numbers) != 2:
        return ""
    least = "at least " if "at least" in message else ""
    return f": {least}{numbers[1] - numbers[0]} tokens too many"
