"""Fetches a file over HTTPS: resumable, its size and hash checked where the server gives them.

A server gives a file's SHA-256 as the 64 digits of `x-linked-etag` (hubs, of files that they keep
apart) or of `etag`; 40 digits are Git's SHA-1 of it. Plain HTTP is for loopback only, and no
redirect leads from HTTPS to it.
"""

import hashlib
import http.client
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from headrace.models.receipt import file_sha256
from headrace.runtime.errors import StartError
from headrace.runtime.identity import Identity
from headrace.runtime.progress import Progress

_MAX_REDIRECTS = 5
_MAX_CUTS = 5
_CHUNK_BYTES = 1 << 20
_MAX_JSON_BYTES = 16 << 20
_MEGABYTE = 1_000_000
_HASH = re.compile(r'(?:W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?')
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HINTS = {
    401: ": it is private, gated or not there",
    403: ": it is private or gated",
    404: ": it is not there",
    429: ": too many requests, try again later",
}


class CutError(Exception):
    """The connection ended before the body did, or fell silent."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """What the server says of a file; `etag` tells whether a half one may be continued."""

    size: int | None
    digest: str | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetches files; `timeout_seconds` is how long a server may say nothing."""

    progress: Progress
    timeout_seconds: float

    def fetch(self, url: str, target: Path) -> None:
        """Bring the file at `url` to `target`; what an interrupted call left is continued.

        Raises StartError, one sentence with the address, for whatever prevents it.
        """
        if target.exists():
            return
        part = target.with_name(f"{target.name}.part")
        self.progress.begin(f"Downloading {target.name}")
        for _ in range(_MAX_CUTS):
            before = _size_of(part)
            try:
                promise = self._continue(url, part)
                break
            except CutError as error:
                # Only a connection that brings something is worth another.
                if _size_of(part) == before:
                    raise StartError(f"{url}: {error}") from error
        else:
            raise StartError(f"{url}: cut {_MAX_CUTS} times; run it again to go on where it ended")
        _check(url, part, promise)
        part.rename(target)
        _note_of(part).unlink(missing_ok=True)
        self.progress.end(f"{target.stat().st_size / _MEGABYTE:.1f} MB")

    def read_json(self, url: str) -> Any:
        """The JSON at `url`. Raises StartError."""
        with self._answer(url, {}) as (answer, _):
            _require(url, answer, HTTPStatus.OK)
            try:
                return json.loads(answer.read(_MAX_JSON_BYTES))
            except (ValueError, http.client.HTTPException, OSError) as error:
                raise StartError(f"{url} does not give JSON: {error}") from error

    def _continue(self, url: str, part: Path) -> _Promise:
        known = _read_note(part)
        begin = _size_of(part) if known and known.etag else 0
        headers = {}
        if begin and known and known.etag:
            headers = {"Range": f"bytes={begin}-", "If-Range": known.etag}
        with self._answer(url, headers) as (answer, fresh):
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # Either all of it is there, or it is of another file: the check tells.
                if known and begin == known.size:
                    return known
                part.unlink()
                raise CutError("the server has another file than before")
            is_rest = answer.status == HTTPStatus.PARTIAL_CONTENT and begin > 0
            _require(url, answer, HTTPStatus.PARTIAL_CONTENT if is_rest else HTTPStatus.OK)
            promise = known if is_rest and known else fresh
            begin = begin if is_rest else 0
            _note_of(part).write_text(json.dumps(asdict(promise)), encoding="utf-8")
            self._receive(answer, part, begin, promise.size)
        return promise

    def _receive(
        self, answer: http.client.HTTPResponse, part: Path, begin: int, size: int | None
    ) -> None:
        of = f" of {size / _MEGABYTE:.0f}" if size is not None else ""
        received = begin
        with part.open("ab" if begin else "wb") as sink:
            try:
                while chunk := answer.read(_CHUNK_BYTES):
                    sink.write(chunk)
                    received += len(chunk)
                    self.progress.tick(f"{received / _MEGABYTE:.0f}{of} MB")
            except http.client.IncompleteRead as error:
                sink.write(error.partial)
                raise CutError("the connection ended before the file did") from error
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise CutError(f"the connection was lost: {error}") from error
        if size is not None and received < size:
            raise CutError(f"the connection ended after {received} of {size} bytes")

    @contextmanager
    def _answer(
        self, url: str, headers: Mapping[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, _Promise]]:
        """The last answer of a chain of redirects, and what all of them say of the file."""
        first: http.client.HTTPMessage | None = None
        address = url
        for _ in range(_MAX_REDIRECTS):
            connection = _connection(address, self.timeout_seconds)
            try:
                answer = _asked(connection, address, headers)
                first = first or answer.headers
                if answer.status not in _REDIRECTS:
                    yield answer, _promise(first, answer)
                    return
                address = _redirected(address, answer.headers.get("Location", ""))
            finally:
                connection.close()
        raise StartError(f"{url} redirects more than {_MAX_REDIRECTS} times")


def check_address(url: str) -> SplitResult:
    """The parts of an address. Raises StartError unless it is https, or http on loopback."""
    parts = urlsplit(url)
    if parts.hostname and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    ):
        return parts
    raise StartError(f"{url}: only https:// addresses are fetched (http:// on loopback)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _connection(url: str, timeout_seconds: float) -> http.client.HTTPConnection:
    parts = check_address(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_seconds)


def _asked(
    connection: http.client.HTTPConnection, url: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {"User-Agent": Identity().build.replace(" ", "/"), "Accept-Encoding": "identity"}
    try:
        connection.request("GET", path, headers={**own, **headers})
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"{url} cannot be reached; is the network up? {error}") from error


def _redirected(url: str, location: str) -> str:
    if not location:
        raise StartError(f"{url} redirects to nowhere")
    address = urljoin(url, location)
    check_address(address)
    if urlsplit(url).scheme == "https" and urlsplit(address).scheme != "https":
        raise StartError(f"{url} redirects to {address}, which is not https")
    return address


def _promise(first: http.client.HTTPMessage, answer: http.client.HTTPResponse) -> _Promise:
    last = answer.headers
    linked = first.get("X-Linked-Size")
    size = linked or last.get("Content-Length")
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        size = linked
    given = first.get("X-Linked-Etag") or first.get("ETag") or last.get("ETag")
    match = _HASH.fullmatch(given or "")
    return _Promise(
        size=int(size) if size is not None and size.isdigit() else None,
        digest=match[1] if match else None,
        # If-Range goes to who sends the bytes, and weak ones do not promise them.
        etag=tag if (tag := last.get("ETag")) and not tag.startswith("W/") else None,
    )


def _require(url: str, answer: http.client.HTTPResponse, status: HTTPStatus) -> None:
    if answer.status != status:
        hint = _HINTS.get(answer.status, "")
        raise StartError(f"{url} answers {answer.status} {answer.reason}{hint}")


def _check(url: str, part: Path, promise: _Promise) -> None:
    """Throw a file away that is not the promised one. Raises StartError."""
    found = _size_of(part)
    if promise.size is not None and found != promise.size:
        part.unlink()
        raise StartError(f"{url} gave {found} bytes, promised were {promise.size}")
    if promise.digest is None:
        return
    digest = _git_sha1(part) if len(promise.digest) == 40 else file_sha256(part)
    if digest != promise.digest:
        part.unlink()
        kind = "SHA-256" if len(digest) == 64 else "Git SHA-1"
        raise StartError(f"{url} gave a file of {kind} {digest}, promised was {promise.digest}")


def _git_sha1(file: Path) -> str:
    """The name that Git gives to a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> _Promise | None:
    try:
        return _Promise(**json.loads(_note_of(part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
