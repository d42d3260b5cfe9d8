"""`python -m headrace.cli.smoke`: what it takes for an answer, and what not."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from headrace.cli.smoke import NotYetError, Streamed, ask_until_ready, main
from headrace.runtime.errors import StartError
from tests.support.edge_server import running_edge
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.keys import KEY, entry, write_keys

_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    delta = {"content": text} if text else {}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def stream(*chunks: dict[str, Any], done: bool = True) -> bytes:
    """A whole response that streams them."""
    events = [json.dumps(item) for item in chunks] + ["[DONE]"] * done
    body = "".join(f"data: {event}\n\n" for event in events)
    return f"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}".encode()


def refusal(status: str, body: str) -> bytes:
    """A whole response that is no stream."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _read_request(request: BinaryIO) -> None:
    """All of it: who closes with something unread resets, and its answer may be lost."""
    length = 0
    while line := request.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    request.read(length)


@contextmanager
def answering(response: bytes) -> Iterator[str]:
    """A server that gives one connection this response; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as request:
                _read_request(request)
                connection.sendall(response)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join()


async def run(*arguments: str) -> int:
    """The program, beside the loop in which the edge runs."""
    return await asyncio.to_thread(main, arguments)


async def test_an_answer_of_the_edge(capsys: pytest.CaptureFixture[str]) -> None:
    """A real edge's stream is whole, and its usage adds up."""
    async with running_edge(FakeBackend()) as edge:
        code = await run(f"http://127.0.0.1:{edge.port}/v1", "--model", MODEL.name)

    assert (code, capsys.readouterr().out.split(" said ")[0]) == (0, MODEL.name)


async def test_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    """What the edge refuses is told in its words."""
    async with running_edge(FakeBackend()) as edge:
        code = await run(f"http://127.0.0.1:{edge.port}/v1", "--model", "nobody")

    assert code == 1
    assert "refused with 404: The model `nobody` does not exist" in capsys.readouterr().err


async def test_shows_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key of the file lets it in; without it there is no answer."""
    (tmp_path / "api.key").write_text(f"{KEY}\n")
    file = write_keys(tmp_path / "keys.toml", entry(KEY))
    async with running_edge(FakeBackend(), keys={"file": file}) as edge:
        arguments = (f"http://127.0.0.1:{edge.port}/v1", "--model", MODEL.name)
        with_key = await run(*arguments, "--api-key-file", str(tmp_path / "api.key"))
        without = await run(*arguments)

    assert (with_key, without) == (0, 1)
    assert "refused with 401" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (stream(chunk("hi", "stop"), {"choices": []}), "usage does not add up: {}"),
        (stream(chunk("hi", "stop", usage={**_USAGE, "total_tokens": 6})), "does not add up"),
        (stream(chunk("hi", usage=_USAGE)), "ended before the answer"),
        (stream(chunk("hi", "stop", usage=_USAGE), done=False), "ended before the answer"),
        (stream(chunk("", "stop", usage=_USAGE)), "has no text"),
        (stream(chunk("hi"), {"error": {"message": "lost"}}), "by an error: lost"),
        (refusal("503 No", '{"error": {"message": "busy"}}'), "no answer within 0 s: busy"),
        (refusal("401 No", '{"error": {"message": "no key"}}'), "refused with 401: no key"),
        (refusal("502 No", "<b>bad</b>"), "refused with 502: <b>bad</b>"),
        (b"", "does not answer"),
    ],
)
def test_what_is_no_answer(response: bytes, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told by name, and is exit code 1."""
    with answering(response) as base_url:
        assert main([base_url, "--model", "m"]) == 1

    assert told in capsys.readouterr().err


def test_wrong_address_and_missing_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither is tried again."""
    assert main(["ftp://host/v1", "--model", "m", "--wait-seconds", "60"]) == 1
    assert "not an address" in capsys.readouterr().err

    file = tmp_path / "missing"
    assert main(["http://127.0.0.1:1/v1", "--model", "m", "--api-key-file", str(file)]) == 1
    assert f"{file} cannot be read" in capsys.readouterr().err


def test_waits_for_the_edge() -> None:
    """It asks again, a second later each time, until there is an answer."""
    waits: list[float] = []

    def once() -> Streamed:
        if len(waits) < 3:
            raise NotYetError("starting")
        return Streamed(text="hi")

    assert ask_until_ready(once, 60, waits.append).text == "hi"
    assert waits == [1.0, 1.0, 1.0]


def test_gives_up() -> None:
    """Where the time does not suffice for another try it says what was told last."""

    def once() -> Streamed:
        raise NotYetError("starting")

    with pytest.raises(StartError, match=r"no answer within 0\.5 s: starting"):
        ask_until_ready(once, 0.5)
