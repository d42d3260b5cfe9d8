"""What a request's body says once its compression is taken off: in small pieces, never all at once.

aiohttp would decompress too, but also what it reads only to throw it away, and without ever
letting other requests have a turn: a body of megabytes can hold up everybody for many seconds.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

PIECE_BYTES = 64 * 1024
_GZIP = zlib.MAX_WBITS | 16
_RAW_DEFLATE = -zlib.MAX_WBITS
_SHOWN_CHARACTERS = 64


class BodyDecoder(Protocol):
    """Takes a body as it arrives."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What more is known of the content now. Raises ServiceError: invalid_request."""

    def finish(self) -> None:
        """The body has ended. Raises ServiceError where it must not end here."""


def body_decoder(content_encoding: str) -> BodyDecoder:
    """The decoder for a Content-Encoding; empty for none. Raises ServiceError for others."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Inflater("gzip")
        case "deflate":
            return _Inflater("deflate")
        case other:
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"Content-Encoding '{other[:_SHOWN_CHARACTERS]}' is not supported: "
                "send the body as it is, or with gzip or deflate.",
            )


class _Identity:
    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Any end will do."""


class _Inflater:
    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inflate: zlib._Decompress | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        has_more = bool(data)
        while has_more:
            inflate = self._inflate = self._inflate or self._begin(data)
            try:
                piece = inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise self._malformed() from None
            if piece:
                yield piece
            data = inflate.unconsumed_tail
            # A full piece may have left something behind although all input was taken.
            has_more = bool(data) or len(piece) == PIECE_BYTES
            if inflate.eof:
                # A file of gzip may be several, one behind the other.
                data, self._inflate = inflate.unused_data, None
                has_more = bool(data)

    def _begin(self, data: bytes) -> "zlib._Decompress":
        if self._encoding == "gzip":
            return zlib.decompressobj(_GZIP)
        # Some senders leave out the frame that deflate has in HTTP.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0xF == 8 else _RAW_DEFLATE)

    def finish(self) -> None:
        if self._inflate is not None:
            raise self._malformed()

    def _malformed(self) -> ServiceError:
        return ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The request's body could not be read: it is no whole '{self._encoding}'.",
        )
