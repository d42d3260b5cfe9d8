import hashlib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from headrace.models.download import Downloader
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress
from tests.support.file_server import FileServer, file_server

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        server.files["/file"] = CONTENT
        yield server


@pytest.fixture
def downloader() -> Downloader:
    return Downloader(Progress(StringIO()), 5)


def test_fetches_a_file_and_leaves_nothing_else(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """The file has its name only when it is whole; no part and no note stay."""
    downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [item.name for item in tmp_path.iterdir()] == ["f"]


def test_a_fetched_file_is_not_asked_for_again(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """What is there is there."""
    downloader.fetch(f"{server.address}/file", tmp_path / "f")
    downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert len(server.requests) == 1


def test_a_cut_connection_goes_on_where_it_ended(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """Two cuts cost two more requests, each for the rest."""
    server.cuts["/file"] = 2
    downloader.fetch(f"{server.address}/file", tmp_path / "f")

    half = len(CONTENT) // 2
    ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_the_next_run_goes_on_too(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """A file that was cut too often is a sentence; what came is used by the next call."""
    server.cuts["/file"] = 5
    with pytest.raises(StartError, match="cut 5 times; run it again"):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")
    assert not (tmp_path / "f").exists()

    downloader.fetch(f"{server.address}/file", tmp_path / "f")
    assert server.requests[-1][1] is not None
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_changed_file_begins_anew(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """Halves of two versions are never put together."""
    server.cuts["/file"] = 5
    with pytest.raises(StartError, match="cut 5 times"):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")
    server.files["/file"] = CONTENT[::-1]

    downloader.fetch(f"{server.address}/file", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT[::-1]


def test_without_an_etag_nothing_is_continued(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """What cannot be told to be the same file is fetched from the beginning."""
    server.gives_etag = False
    server.cuts["/file"] = 1
    downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert [wanted for _, wanted in server.requests] == [None, None]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_is_not_tried_again(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """An end before the first byte is told, with how far it got."""
    server.files["/file"] = b"x"
    server.cuts["/file"] = 5
    with pytest.raises(StartError, match="ended after 0 of 1 bytes"):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("ETag", f'"{"0" * 64}"', f"SHA-256 {SHA256}, promised was 0000"),
        ("X-Linked-Etag", f'"{"0" * 64}"', f"SHA-256 {SHA256}, promised was 0000"),
        ("ETag", f'"{"0" * 40}"', f"Git SHA-1 {GIT_SHA1}, promised was 0000"),
        ("X-Linked-Size", str(len(CONTENT) - 1), f"gave {len(CONTENT)} bytes, promised were"),
    ],
)
def test_another_content_is_refused_and_thrown_away(
    server: FileServer,
    downloader: Downloader,
    tmp_path: Path,
    header: str,
    value: str,
    message: str,
) -> None:
    """The size and the hash that the server gives are held to; a wrong file is not kept."""
    server.gives_etag = False
    server.headers["/file"] = {header: value}
    with pytest.raises(StartError, match=message):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert not any(item.name in ("f", "f.part") for item in tmp_path.iterdir())


@pytest.mark.parametrize("digest", [SHA256, GIT_SHA1])
def test_the_right_hash_is_taken(
    server: FileServer, downloader: Downloader, tmp_path: Path, digest: str
) -> None:
    """SHA-256 and the name that Git gives a file are both understood."""
    server.headers["/file"] = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(CONTENT))}
    downloader.fetch(f"{server.address}/file", tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == CONTENT


def test_the_hash_of_a_redirect_counts(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """A hub gives the hash and then leads elsewhere; the elsewhere is held to it."""
    server.redirects["/hub"] = "/file"
    server.headers["/hub"] = {"X-Linked-Etag": f'"{"0" * 64}"'}
    with pytest.raises(StartError, match="promised was 0000"):
        downloader.fetch(f"{server.address}/hub", tmp_path / "f")

    server.headers["/hub"] = {"X-Linked-Etag": f'"{SHA256}"'}
    server.cuts["/file"] = 1
    downloader.fetch(f"{server.address}/hub", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "answers 401 Unauthorized: it is private, gated or not there"),
        (404, "answers 404 Not Found: it is not there"),
        (503, "answers 503 Service Unavailable$"),
    ],
)
def test_a_refusal_of_the_server_is_told(
    server: FileServer, downloader: Downloader, tmp_path: Path, status: int, message: str
) -> None:
    """The sentence has the address, the status and what it means."""
    server.statuses["/file"] = status

    with pytest.raises(StartError, match=message):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")


@pytest.mark.parametrize("url", ["http://example.org/f", "ftp://127.0.0.1/f", "file:///etc/hosts"])
def test_only_https_is_fetched(downloader: Downloader, tmp_path: Path, url: str) -> None:
    """Plain HTTP beyond loopback and other schemes are refused without asking anybody."""
    with pytest.raises(StartError, match="only https:// addresses are fetched"):
        downloader.fetch(url, tmp_path / "f")


def test_a_redirect_is_held_to_the_same_rule(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """Nobody is led to where nobody may go, nor in a circle."""
    server.redirects["/file"] = "http://example.org/f"
    with pytest.raises(StartError, match="only https:// addresses are fetched"):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")

    server.redirects["/file"] = "/file"
    with pytest.raises(StartError, match="redirects more than 5 times"):
        downloader.fetch(f"{server.address}/file", tmp_path / "f")


def test_a_server_that_is_not_there_is_told(
    server: FileServer, downloader: Downloader, tmp_path: Path
) -> None:
    """A refused connection is one sentence."""
    with pytest.raises(StartError, match="cannot be reached; is the network up"):
        downloader.fetch("http://127.0.0.1:1/f", tmp_path / "f")


def test_what_is_no_json_is_told(server: FileServer, downloader: Downloader) -> None:
    """A page where a listing was expected is one sentence."""
    server.files["/list"] = b"<html>"

    with pytest.raises(StartError, match="does not give JSON"):
        downloader.read_json(f"{server.address}/list")
