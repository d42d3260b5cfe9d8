"""Settings of TLS that make no sense are refused by name."""

from pathlib import Path

import pytest

from headrace.runtime.tls_settings import ClientTlsSettings, ServerTlsSettings

FILE = Path("x.pem")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"certificate_file": FILE}, "set together"),
        ({"key_file": FILE}, "set together"),
        ({"client_ca_file": FILE}, "client_ca_file needs"),
    ],
)
def test_a_server_needs_a_pair(values: dict[str, Path], problem: str) -> None:
    """A certificate without a key, the reverse, and authorities alone."""
    with pytest.raises(ValueError, match=problem):
        ServerTlsSettings(**values)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ca_file": FILE, "key_file": FILE}, "set together"),
        ({"certificate_file": FILE, "key_file": FILE}, "certificate_file needs ca_file"),
        ({"server_name": "x"}, "server_name needs ca_file"),
    ],
)
def test_a_client_needs_authorities(values: dict[str, object], problem: str) -> None:
    """What is shown or compared means nothing without somebody to trust."""
    with pytest.raises(ValueError, match=problem):
        ClientTlsSettings(**values)


def test_nothing_set_is_no_tls() -> None:
    """The default is plain text, for loopback."""
    assert not ServerTlsSettings().is_on
    assert not ServerTlsSettings().checks_clients
    assert not ClientTlsSettings().is_on
