"""PEM files: what is wrong with them, by name, and reading them again."""

import ssl
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.runtime.errors import StartError
from headrace.runtime.tls_files import (
    ReloadedFiles,
    read_authorities,
    read_key_pair,
    server_context,
)
from tests.support.certificates import Authority, PemPair, private_key_pem


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> PemPair:
    return authority.issue("localhost")


def reloaded(pair: PemPair) -> ReloadedFiles[bytes]:
    return ReloadedFiles(
        (pair.certificate, pair.key), lambda: read_key_pair(pair.certificate, pair.key).key
    )


def encrypted_key() -> bytes:
    return private_key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret")


def other_key() -> bytes:
    return private_key_pem(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no private key in PEM"),
        (b"\x30\x82", "holds no private key in PEM"),
        (encrypted_key(), "is encrypted"),
        (other_key(), "is not the key of the certificate in"),
        (b"-----BEGIN PRIVATE KEY-----\nMII", "cannot be used"),
    ],
)
def test_a_bad_key_is_named(pair: PemPair, content: bytes, problem: str) -> None:
    """The sentence has the file and what is wrong with it, and nothing of the key."""
    pair.key.write_bytes(content)
    with pytest.raises(StartError, match=problem) as caught:
        read_key_pair(pair.certificate, pair.key)

    assert str(pair.key) in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB", "cannot be used"),
    ],
)
def test_a_bad_certificate_is_named(pair: PemPair, content: bytes, problem: str) -> None:
    """Not PEM, and cut short."""
    pair.certificate.write_bytes(content)
    with pytest.raises(StartError, match=f"{pair.certificate}.*{problem}"):
        read_key_pair(pair.certificate, pair.key)


def test_a_client_shakes_hands_once(pair: PemPair) -> None:
    """It cannot ask for another handshake on the same connection, nor for an old protocol."""
    context = server_context(pair.certificate, pair.key)

    assert ssl.OP_NO_RENEGOTIATION in context.options
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_missing_file_is_named(pair: PemPair) -> None:
    """Certificate, key or authorities."""
    missing = Path("/nowhere/x.pem")
    for read in (
        lambda: read_key_pair(missing, pair.key),
        lambda: read_key_pair(pair.certificate, missing),
        lambda: read_authorities(missing),
    ):
        with pytest.raises(StartError, match=r"/nowhere/x\.pem cannot be read: No such file"):
            read()


def test_bad_authorities_are_named(authority: Authority) -> None:
    """Not PEM, and damaged."""
    good = authority.file.read_bytes()
    assert read_authorities(authority.file) == good
    for content, problem in ((b"x", "no certificate"), (good[:200], "broken certificate")):
        authority.file.write_bytes(content)
        with pytest.raises(StartError, match=f"{authority.file}.*{problem}"):
            read_authorities(authority.file)


def test_the_same_until_there_is_something_newer(authority: Authority, pair: PemPair) -> None:
    """Who keeps what was given can tell by identity whether it is still the newest."""
    files = reloaded(pair)
    first = files.current()
    assert files.current() is first
    newer = authority.issue("localhost")
    pair.replace(newer)

    assert files.current() == newer.key.read_bytes() != first


def test_half_a_pair_changes_nothing(authority: Authority, pair: PemPair) -> None:
    """A certificate whose key is not there yet is waited for, and named once."""
    files = reloaded(pair)
    first = files.current()
    newer = authority.issue("localhost")
    pair.certificate.write_bytes(newer.certificate.read_bytes())
    with structlog.testing.capture_logs() as logs:
        assert files.current() is first
        assert files.current() is first
        pair.key.write_bytes(newer.key.read_bytes())
        second = files.current()

    assert second == newer.key.read_bytes()
    assert [line["event"] for line in logs] == ["tls_files_unusable", "tls_files_reloaded"]
    assert str(pair.key) in logs[0]["problem"]
    assert "PRIVATE KEY" not in str(logs)


def test_files_at_fault_are_tried_again(monkeypatch: pytest.MonkeyPatch, pair: PemPair) -> None:
    """Also where nothing that is watched changes, as when a permission is repaired."""
    monkeypatch.setattr("headrace.runtime.tls_files._RETRY_SECONDS", 0)
    is_readable = True

    def load() -> object:
        if not is_readable:
            raise StartError("not permitted")
        return object()

    files = ReloadedFiles((pair.key,), load)
    first = files.current()
    is_readable = False
    pair.key.write_bytes(b"")
    kept = files.current()
    is_readable = True

    assert kept is first
    assert files.current() is not first
