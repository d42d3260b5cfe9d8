"""Requests that no schema describes: broken bodies, strange encodings, paths and methods."""

import gzip
import random
import zlib
from collections.abc import Callable
from urllib.parse import quote

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
_JSON_PIECES = (
    b"NaN", b"Infinity", b"-0", b"1e999", b"1" * 400, b"\xff", b"\xc0\x80", b"\\ud800", b"\x00",
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"\xef\xbb\xbf", b"[" * 2000,
    b'{"a":' * 1500, b"\xf0\x9f\x98\x80", b"\xe2\x80\xa8", b"//", b"<|im_end|>", b"{{7*7}}",
)  # fmt: skip
_SEGMENTS = (
    "v1", "api", "chat", "completions", "models", "health", "ready", "metrics", "openapi.json",
    "..", ".", "", "%2e%2e", "%00", "%0a", "%0d%0aX:1", "%ff", "%2F", "a b", "é", "😀", "%", "%zz",
    "x" * 3000, "{name}", "*", ";", "~", "responses", "embeddings", "completions%20",
)  # fmt: skip
_SAFE = "%/{}*;~.:@!$&'()+,=-_"


def mangled_body(body: bytes, chance: random.Random) -> bytes:
    """A body that was well-formed, with bytes lost, doubled, exchanged or put in between."""
    for _ in range(chance.randint(1, 3)):
        body = chance.choice(_CHANGES)(body, chance)
    return body


def random_bytes(chance: random.Random) -> bytes:
    """Bytes without any structure."""
    return chance.randbytes(chance.choice((0, 1, 2, 16, 300, 5000)))


def _cut(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randint(0, len(body))]


def _lose(body: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(body))
    return body[:start] + body[start + chance.randint(1, 8) :]


def _insert(body: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + chance.choice(_JSON_PIECES) + body[at:]


def _flip(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body or b"0")
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _double(body: bytes, _chance: random.Random) -> bytes:
    return body + body


def _wrap(body: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"[%b]", b'"%b"', b" \n%b\t ", b"\xef\xbb\xbf%b", b"{}%b")) % body


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut, _lose, _insert, _insert, _flip, _double, _wrap,
)  # fmt: skip


def encoded(body: bytes, chance: random.Random) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """A body and its headers: mostly plain JSON, else packed, wrongly packed or mislabelled."""
    plain = ("Content-Type", "application/json")
    packed: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "identity": bytes,
        "br": bytes,
        "gzip, gzip": gzip.compress,
    }
    if chance.random() < 0.7:
        return body, (plain,)
    if chance.random() < 0.3:
        kind = chance.choice(("text/plain", "application/x-www-form-urlencoded", "a", "x/y; q=1"))
        return body, (("Content-Type", kind),)
    name = chance.choice(sorted(packed))
    content = packed[name](body) if chance.random() < 0.7 else body
    return content, (plain, ("Content-Encoding", name))


def random_target(chance: random.Random) -> tuple[str, str]:
    """A method and a path, some of them of ours."""
    count = chance.randint(0, 4)
    path = "/" + "/".join(chance.choice(_SEGMENTS) for _ in range(count))
    if chance.random() < 0.3:
        path = chance.choice(("/v1/models", "/v1/chat/completions", "/health", "/models/x"))
    query = chance.choice(("", "", "?", "?a=b", "?a=%ff&&=", "?" + "q" * 2000))
    return chance.choice(_METHODS), quote(path, safe=_SAFE) + query
