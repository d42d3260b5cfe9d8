"""OpenTelemetry's own variables, where our settings say nothing."""

import os
from argparse import ArgumentParser
from pathlib import Path

import pytest

from edge.settings import EdgeSettings
from headrace.runtime.errors import StartError
from headrace.runtime.settings import SettingsLoader
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.standard_variables import (
    standard_compression,
    standard_endpoint,
    standard_sample_ratio,
)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("HEADRACE_", "OTEL_"))]:
        monkeypatch.delenv(name)


def load(*argv: str) -> TracingSettings:
    parser = ArgumentParser(prog="edge", allow_abbrev=False)
    loader = SettingsLoader("edge", EdgeSettings, {"edge": EdgeSettings}, parser)
    return loader.load(parser.parse_args(argv)).telemetry.tracing


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({ENDPOINT: ""}, None),
        ({ENDPOINT: "http://a:4317"}, "http://a:4317"),
        ({ENDPOINT: "http://a:4317", TRACES_ENDPOINT: "http://b"}, "http://b"),
        ({ENDPOINT: "http://a:4317", PROTOCOL: "grpc"}, "http://a:4317"),
        ({ENDPOINT: "http://a", PROTOCOL: "http/json", TRACES_PROTOCOL: "grpc"}, "http://a"),
        ({PROTOCOL: "http/protobuf"}, None),
        ({ENDPOINT: "http://a:4317", "OTEL_SDK_DISABLED": "true"}, None),
        ({ENDPOINT: "http://a:4317", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_endpoint(environment: dict[str, str], expected: str | None) -> None:
    """The variable of traces goes before that of all signals; switched off is no endpoint."""
    assert standard_endpoint(environment) == expected


def test_other_protocol() -> None:
    """An endpoint of another protocol than gRPC is refused by the variables' names."""
    with pytest.raises(ValueError, match=rf"{ENDPOINT} .* {PROTOCOL} is 'http/protobuf'"):
        standard_endpoint({ENDPOINT: "http://a:4318", PROTOCOL: "http/protobuf"})


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "0.5", None),
        ("parentbased_traceidratio", "0.5", "0.5"),
        ("parentbased_traceidratio", "", None),
        ("traceidratio", "0.5", "0.5"),
        ("parentbased_always_on", "0.5", "1"),
        ("always_off", "", "0"),
    ],
)
def test_sampler(sampler: str, argument: str, expected: str | None) -> None:
    """The argument counts with a sampler that takes one."""
    environment = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert standard_sample_ratio(environment) == expected


def test_unknown_sampler() -> None:
    """A sampler of another kind is refused by name."""
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER is 'jaeger_remote'"):
        standard_sample_ratio({"OTEL_TRACES_SAMPLER": "jaeger_remote"})


def test_settings_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service takes the standard variables where its own settings say nothing."""
    monkeypatch.setenv(ENDPOINT, "http://everybodys:4317")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    settings = load()
    assert (settings.endpoint, settings.sample_ratio) == ("http://everybodys:4317", 0.25)


def test_own_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each setting that is given the standard variable is not even read."""
    monkeypatch.setenv(ENDPOINT, "http://everybodys:4318")
    monkeypatch.setenv(PROTOCOL, "http/protobuf")
    monkeypatch.setenv("HEADRACE_EDGE__TELEMETRY__TRACING__ENDPOINT", "http://ours:4317")
    settings = load("--telemetry.tracing.sample_ratio", "0.5")
    assert (settings.endpoint, settings.sample_ratio) == ("http://ours:4317", 0.5)


def test_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard variables ask for and is not done stops the start."""
    monkeypatch.setenv(ENDPOINT, "http://everybodys:4318")
    monkeypatch.setenv(PROTOCOL, "http/protobuf")
    with pytest.raises(StartError, match=r"^environment: OTEL_EXPORTER_OTLP_ENDPOINT is set and"):
        load()


def test_access_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """So headers, certificates and compression; those of traces go before those of all signals."""
    for name, value in {
        "HEADERS": "api-key=everybodys",
        "TRACES_HEADERS": "api-key=traces",
        "CERTIFICATE": "/etc/ca.pem",
        "CLIENT_CERTIFICATE": "/etc/all.crt",
        "TRACES_CLIENT_CERTIFICATE": "/etc/traces.crt",
        "CLIENT_KEY": "/etc/all.key",
        "COMPRESSION": "gzip",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    settings = load("--telemetry.tracing.endpoint", "https://ours")
    assert settings.headers is not None
    assert settings.headers.get_secret_value() == "api-key=traces"
    assert settings.tls.ca_file == Path("/etc/ca.pem")
    assert settings.tls.certificate_file == Path("/etc/traces.crt")
    assert settings.tls.key_file == Path("/etc/all.key")
    assert settings.compression == "gzip"


def test_unknown_compression() -> None:
    """Another compression is refused by the variable's name."""
    with pytest.raises(ValueError, match=r"OTEL_EXPORTER_OTLP_COMPRESSION is 'zstd'"):
        standard_compression({"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "zstd"})
