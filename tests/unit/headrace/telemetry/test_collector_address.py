"""The collector's address, as an operator writes it."""

from argparse import ArgumentParser

import pytest

from edge.settings import EdgeSettings
from headrace.runtime.errors import StartError
from headrace.runtime.settings import SettingsLoader
from headrace.telemetry.collector_address import CollectorAddress


@pytest.mark.parametrize(
    ("endpoint", "target", "uses_tls"),
    [
        ("http://127.0.0.1:4317", "127.0.0.1:4317", False),
        ("http://otel.example/", "otel.example:4317", False),
        ("https://otel.example", "otel.example:4317", True),
        ("HTTPS://otel.example:443/", "otel.example:443", True),
        ("http://[::1]:4317", "[::1]:4317", False),
    ],
)
def test_addresses(endpoint: str, target: str, uses_tls: bool) -> None:
    """A scheme, a host, a port that is 4317 where none is named; TLS by the scheme."""
    assert CollectorAddress.parse(endpoint) == CollectorAddress(target, uses_tls)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("127.0.0.1:4317", "must begin with http://"),
        ("otel.example:4317", "must begin with http://"),
        ("grpc://otel.example:4317", "must begin with http://"),
        ("http://", "must be like http://host:4317"),
        ("http://:4317", "must be like http://host:4317"),
        ("http://key@otel.example", "must be like http://host:4317"),
        ("http://otel.example :4317", "must be like http://host:4317"),
        ("http://otel.example:4318/v1/traces", "has no path"),
        ("http://otel.example:4317?x=1", "has no path"),
        ("http://otel.example:99999", "is no address of a collector: Port out of range"),
        ("http://[::1", "is no address of a collector"),
    ],
)
def test_malformed(endpoint: str, why: str) -> None:
    """What is no address is refused, and why."""
    with pytest.raises(ValueError, match=why):
        CollectorAddress.parse(endpoint)


def test_start_names_the_setting() -> None:
    """A malformed endpoint stops the start, with the setting's name."""
    parser = ArgumentParser(prog="edge", allow_abbrev=False)
    loader = SettingsLoader("edge", EdgeSettings, {"edge": EdgeSettings}, parser)
    arguments = parser.parse_args(["--telemetry.tracing.endpoint", "localhost:4317"])
    with pytest.raises(StartError, match=r"setting edge\.telemetry\.tracing\.endpoint: .*http://"):
        loader.load(arguments)
