import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from hypothesis import given
from hypothesis import strategies as st

from headrace.telemetry.health_message import ServingStatus, frame_status, read_service


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@given(st.text(max_size=300))
def test_reads_what_protobuf_writes(name: str) -> None:
    """Names of every length and script."""
    assert read_service(framed(HealthCheckRequest(service=name).SerializeToString())) == name


@pytest.mark.parametrize("status", list(ServingStatus))
def test_protobuf_reads_what_is_written(status: ServingStatus) -> None:
    """The status has the number that the protocol gives it."""
    frame = frame_status(status)
    response = HealthCheckResponse.FromString(frame[5:])

    assert frame == framed(response.SerializeToString())
    assert HealthCheckResponse.ServingStatus.Name(response.status) == status.name


def test_unknown_fields_are_skipped() -> None:
    """Of every wire type that is still in use; of a field that comes twice the last counts."""
    unknown = b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x22\x02ab" + b"\x2d" + bytes(4)
    message = b"\x0a\x01x" + unknown + b"\x0a\x01y" + unknown

    assert read_service(framed(message)) == HealthCheckRequest.FromString(message).service == "y"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\0",
        b"\1" + framed(b"")[1:],
        framed(b"")[:-1] + b"\1",
        framed(b"") + b"x",
        framed(b"") * 2,
        framed(b"\x0a"),
        framed(b"\x0a\x05abc"),
        framed(b"\x0a\x01\xff"),
        framed(b"\x08\x01"),
        framed(b"\x0f"),
        framed(b"\xff" * 11),
        framed(b"\x11\0\0"),
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    """Missing, cut, compressed, doubled or broken messages are errors."""
    with pytest.raises(ValueError, match=r".+"):
        read_service(body)


@given(st.binary(max_size=40))
def test_agrees_with_protobuf_on_random_bytes(message: bytes) -> None:
    """What is read is what protobuf reads; what protobuf refuses is refused."""
    try:
        name = read_service(framed(message))
    except ValueError:
        return
    try:
        assert HealthCheckRequest.FromString(message).service == name
    except DecodeError:
        # Field number 0 and numbers of more than 64 bits are skipped here, and no harm.
        assert name is not None
