"""A server of files on loopback that stands for a hub: ranges, hashes, redirects and failures."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

REVISION = "0123abcd"


@dataclass
class FileServer:
    """What the server has and how it behaves; tests change it while it runs.

    `files`: contents by path. `headers`: additions by path. `redirects`: locations by path, sent
    with the path's headers. `cuts`: how often a path's connection ends after half of what was
    asked for. `gives_etag`: whether a file's answer says its SHA-256.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    gives_etag: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def add_repository(self, name: str, files: Mapping[str, bytes]) -> None:
        """A hub's repository with one revision."""
        listing: dict[str, Any] = {"sha": REVISION}
        listing["siblings"] = [{"rfilename": file} for file in files]
        self.files[f"/api/models/{name}"] = json.dumps(listing).encode()
        for file, content in files.items():
            self.files[f"/{name}/resolve/{REVISION}/{file}"] = content


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A running server; every connection serves one request."""
    state = FileServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: http.server.BaseHTTPRequestHandler, state: FileServer) -> None:
    path, wanted = handler.path, handler.headers.get("Range")
    state.requests.append((path, wanted))
    content = state.files.get(path, b"")
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {"Content-Length": str(len(content))}
    if path in state.redirects:
        status, content = HTTPStatus.FOUND, b""
        headers = {"Location": state.redirects[path], "Content-Length": "0"}
    elif path in state.statuses or path not in state.files:
        status = HTTPStatus(state.statuses.get(path, HTTPStatus.NOT_FOUND))
    else:
        status = HTTPStatus.OK
        if state.gives_etag:
            headers["ETag"] = etag
        if wanted and handler.headers.get("If-Range") == etag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            content = content[begin:]
            headers["Content-Length"] = str(len(content))
    handler.send_response(status)
    for name, value in {**headers, **state.headers.get(path, {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if state.cuts.get(path, 0):
        state.cuts[path] -= 1
        content = content[: len(content) // 2]
    handler.wfile.write(content)
