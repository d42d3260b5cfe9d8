"""Send requests, so many at a time, each with a deadline."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from bench.fuzz.request import FuzzRequest
from bench.fuzz.verdicts import FuzzAnswer


class Sender:
    """Connections to one edge, kept alive."""

    def __init__(self, port: int, concurrency: int, deadline_seconds: float) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._places = asyncio.Semaphore(concurrency)
        self._seconds = deadline_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept-Encoding"),
            max_line_size=65536,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send_all(
        self, requests: Iterable[FuzzRequest]
    ) -> list[tuple[FuzzRequest, FuzzAnswer | str]]:
        """The answers in the order of the requests; a text says why there is none."""
        return list(await asyncio.gather(*map(self._send, requests)))

    async def _send(self, request: FuzzRequest) -> tuple[FuzzRequest, FuzzAnswer | str]:
        async with self._places:
            try:
                async with asyncio.timeout(self._seconds):
                    return request, await self._answer(request)
            except TimeoutError:
                return request, f"no whole answer within {self._seconds:g} s"
            except aiohttp.ClientError as error:
                return request, f"no answer: {type(error).__name__}: {error}"

    async def _answer(self, request: FuzzRequest) -> FuzzAnswer:
        async with self._session.request(
            request.method,
            URL(self._base + request.target, encoded=True),
            headers=list(request.headers),
            data=request.body,
            allow_redirects=False,
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return FuzzAnswer(response.status, headers, await response.read())
