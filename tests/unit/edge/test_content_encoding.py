"""Compressed bodies: what they say, in pieces, and what is refused."""

import asyncio
import gzip
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.content_encoding import PIECE_BYTES, body_decoder
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import HELLO, ask, running_edge
from tests.support.fake_backend import FakeBackend


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS = {
    ("", "plain"): lambda data: data,
    ("Identity", "plain"): lambda data: data,
    ("gzip", "one"): gzip.compress,
    (" GZIP ", "two"): lambda data: gzip.compress(data[:10]) + gzip.compress(data[10:]),
    ("deflate", "framed"): zlib.compress,
    ("deflate", "raw"): raw_deflate,
}


def decoded(encoding: str, chunks: list[bytes]) -> list[bytes]:
    decoder = body_decoder(encoding)
    pieces = [piece for chunk in chunks for piece in decoder.pieces(chunk)]
    decoder.finish()
    return pieces


@given(
    part=st.binary(max_size=300),
    times=st.sampled_from([1, 700]),
    form=st.sampled_from(sorted(PACKERS)),
    cut=st.integers(1, 400),
)
def test_any_cut_gives_the_content(
    part: bytes, times: int, form: tuple[str, str], cut: int
) -> None:
    """However the body arrives, the pieces put together are what was packed."""
    data = part * times
    packed = PACKERS[form](data)
    chunks = [packed[start : start + cut] for start in range(0, len(packed), cut)]

    assert b"".join(decoded(form[0], chunks)) == data


def test_pieces_are_small() -> None:
    """A body that grows a thousandfold comes in pieces of 64 KiB."""
    pieces = decoded("gzip", [gzip.compress(bytes(10_000_000))])

    assert sum(map(len, pieces)) == 10_000_000
    assert max(map(len, pieces)) == PIECE_BYTES


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"not packed at all"),
        ("gzip", gzip.compress(b"text")[:-1]),
        ("gzip", gzip.compress(b"text") + b"more"),
        ("deflate", zlib.compress(b"text" * 100)[:-2]),
        ("deflate", b"\xff" * 20),
    ],
)
def test_malformed(encoding: str, body: bytes) -> None:
    """What is not, or not all of, what its encoding says is refused by that name."""
    with pytest.raises(ServiceError, match=f"it is no whole '{encoding}'"):
        decoded(encoding, [body])


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 1000])
async def test_unknown_encoding(encoding: str) -> None:
    """An encoding that is not taken is refused by its name, or the beginning of it."""
    async with running_edge(FakeBackend()) as edge:
        response = await ask(edge.port, HELLO, headers={"Content-Encoding": encoding})

    assert response.status == 400
    assert f"Content-Encoding '{encoding[:64]}' is not supported" in response.error["message"]


async def test_bombs_hold_nobody_up() -> None:
    """Bodies that would unpack to gigabytes are refused; others are served meanwhile."""
    bomb = gzip.compress(bytes(300_000_000), compresslevel=6)
    async with running_edge(FakeBackend()) as edge:
        headers = {"Content-Encoding": "gzip"}
        bombs = asyncio.gather(*(ask(edge.port, bomb, headers=headers) for _ in range(8)))
        slowest = 0.0
        while not bombs.done():
            began = time.monotonic()
            assert (await ask(edge.port, HELLO)).status == 200
            slowest = max(slowest, time.monotonic() - began)

    assert {413} == {response.status for response in await bombs}
    assert slowest < 1
