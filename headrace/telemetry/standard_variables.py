"""OpenTelemetry's own environment variables, as far as they say what our settings say.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. They hold where
Headrace's own settings say nothing, since an operator sets them for all services of a cluster.
A protocol, compression or sampler that is none of ours stops the start by name; variables that are
not named here are not read, but for OTEL_RESOURCE_ATTRIBUTES, by the SDK's resource.
"""

from collections.abc import Mapping
from typing import Final

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_CA_FILES: Final = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
_CERTIFICATE_FILES: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
)
_KEY_FILES: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
)
_COMPRESSIONS: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
)
_SAMPLER: Final = "OTEL_TRACES_SAMPLER"
_SAMPLER_ARG: Final = "OTEL_TRACES_SAMPLER_ARG"
_RATIO_SAMPLERS: Final = ("parentbased_traceidratio", "traceidratio")
_FIXED_SAMPLERS: Final = {
    "parentbased_always_on": "1",
    "always_on": "1",
    "parentbased_always_off": "0",
    "always_off": "0",
}


def standard_endpoint(environment: Mapping[str, str]) -> str | None:
    """Where traces go by the standard variables; None where they do not say.

    Raises ValueError for another protocol than gRPC.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return None
    endpoint = _first(environment, _ENDPOINTS)
    protocol = _first(environment, _PROTOCOLS)
    if endpoint is not None and protocol not in (None, "grpc"):
        raise ValueError(
            f"{_ENDPOINTS[1]} is set and {_PROTOCOLS[1]} is {protocol!r}; Headrace sends spans "
            "over gRPC only: let it be grpc, or set telemetry.tracing.endpoint of each service"
        )
    return endpoint


def standard_headers(environment: Mapping[str, str]) -> str | None:
    """The headers of calls to the collector, as they are spelt; None where nothing says."""
    return _first(environment, _HEADERS)


def standard_ca_file(environment: Mapping[str, str]) -> str | None:
    """The file of the authorities that collectors are checked by; None where nothing says."""
    return _first(environment, _CA_FILES)


def standard_certificate_file(environment: Mapping[str, str]) -> str | None:
    """The file of the certificate that collectors are shown; None where nothing says."""
    return _first(environment, _CERTIFICATE_FILES)


def standard_key_file(environment: Mapping[str, str]) -> str | None:
    """The file of that certificate's key; None where nothing says."""
    return _first(environment, _KEY_FILES)


def standard_compression(environment: Mapping[str, str]) -> str | None:
    """How what is sent is compressed, gzip or none; None where nothing says.

    Raises ValueError for another.
    """
    compression = _first(environment, _COMPRESSIONS)
    if compression not in (None, "gzip", "none"):
        raise ValueError(
            f"{_COMPRESSIONS[1]} is {compression!r}; Headrace knows gzip and none; or set "
            "telemetry.tracing.compression of each service"
        )
    return compression


def standard_sample_ratio(environment: Mapping[str, str]) -> str | None:
    """The part of the requests to trace by the standard variables; None where they do not say.

    It is for requests whose caller has not decided: the caller's decision is kept under samplers
    that are not parent-based too. Raises ValueError for a sampler of another kind.
    """
    sampler = _first(environment, (_SAMPLER,))
    if sampler is None:
        # By the specification the argument counts with a sampler only; the default is all.
        return None
    if sampler in _RATIO_SAMPLERS:
        return _first(environment, (_SAMPLER_ARG,))
    if sampler not in _FIXED_SAMPLERS:
        known = ", ".join((*_RATIO_SAMPLERS, *_FIXED_SAMPLERS))
        raise ValueError(
            f"{_SAMPLER} is {sampler!r}; Headrace knows {known}; or set "
            "telemetry.tracing.sample_ratio of each service"
        )
    return _FIXED_SAMPLERS[sampler]


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first that is set; empty is unset, by the specification."""
    values = (environment.get(name, "").strip() for name in names)
    return next((value for value in values if value), None)
