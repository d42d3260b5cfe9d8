"""One streamed answer of an edge, checked: `python -m headrace.cli.smoke BASE_URL --model NAME`.

What `helm test` runs. Needs nothing but the standard library. Exit codes: 0 the answer is whole and
its usage adds up, 1 a sentence on stderr says what is wrong, 2 wrong arguments.
"""

import http.client
import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.runtime.errors import StartError
from headrace.runtime.lifecycle import report_start_error

_QUESTION = "Say hello."
_SILENCE_SECONDS = 60.0
_WAIT_SECONDS = 1.0


class NotYetError(Exception):
    """Nobody answers yet, or the edge asks for patience."""


@dataclass
class Streamed:
    """What came of a stream."""

    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False

    def take(self, chunk: dict[str, Any]) -> None:
        """One chunk. Raises StartError for an error in the stream."""
        if "error" in chunk:
            raise StartError(f"the stream ended by an error: {chunk['error'].get('message')}")
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.finish_reason = choice["finish_reason"] or self.finish_reason

    def check(self) -> None:
        """Raises StartError, which says what is missing."""
        if not self.is_done or self.finish_reason is None:
            raise StartError("the stream ended before the answer did")
        if not self.text:
            raise StartError("the answer has no text")
        counts = [self.usage.get(f"{kind}_tokens", 0) for kind in ("prompt", "completion", "total")]
        if min(counts) < 1 or counts[0] + counts[1] != counts[2]:
            raise StartError(f"the usage does not add up: {json.dumps(self.usage)}")


def ask(base_url: str, model: str, key: str | None) -> Streamed:
    """Stream one answer of 16 tokens at most, unchecked. Raises NotYetError, StartError."""
    parts = urlsplit(base_url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise StartError(f"not an address such as http://127.0.0.1:8000/v1: {base_url}")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_SILENCE_SECONDS)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": 16,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    with closing(connection):
        try:
            path = f"{parts.path.rstrip('/')}/chat/completions"
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            if response.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise NotYetError(_refusal(response))
            if response.status != http.HTTPStatus.OK:
                raise StartError(f"refused with {response.status}: {_refusal(response)}")
            return _read(response)
        except (OSError, http.client.HTTPException) as error:
            raise NotYetError(f"{base_url} does not answer: {error}") from error


def _refusal(response: http.client.HTTPResponse) -> str:
    """The message of an error's envelope, or what came in its place."""
    text = response.read(10_000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return " ".join(text.split())


def _read(response: http.client.HTTPResponse) -> Streamed:
    streamed = Streamed()
    for data in _events(response):
        if data == "[DONE]":
            streamed.is_done = True
            return streamed
        streamed.take(json.loads(data))
    return streamed


def _events(response: http.client.HTTPResponse) -> Iterator[str]:
    for line in response:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "data":
            yield value


def ask_until_ready(
    once: Callable[[], Streamed], wait_seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Streamed:
    """Try until there is an answer or the time is over. Raises StartError."""
    until = time.monotonic() + wait_seconds
    while True:
        try:
            return once()
        except NotYetError as error:
            if time.monotonic() + _WAIT_SECONDS > until:
                raise StartError(f"no answer within {wait_seconds:g} s: {error}") from error
        sleep(_WAIT_SECONDS)


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m headrace.cli.smoke", allow_abbrev=False)
    parser.add_argument("base_url", metavar="BASE_URL", help="such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--api-key-file", type=Path, metavar="FILE")
    parser.add_argument("--wait-seconds", type=float, default=0.0, metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask once the edge is ready, check and tell; returns the exit code."""
    arguments = _arguments(argv)
    try:
        file = arguments.api_key_file
        key = None if file is None else file.read_text(encoding="utf-8").strip()
        streamed = ask_until_ready(
            lambda: ask(arguments.base_url, arguments.model, key), arguments.wait_seconds
        )
        streamed.check()
    except OSError as error:
        report_start_error(StartError(f"{arguments.api_key_file} cannot be read: {error.strerror}"))
        return 1
    except StartError as error:
        report_start_error(error)
        return 1
    usage = json.dumps({name: streamed.usage[name] for name in sorted(streamed.usage)})
    sys.stdout.write(f"{arguments.model} said {streamed.text!r}, usage {usage}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
