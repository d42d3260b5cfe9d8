"""The two messages of grpc.health.v1, read and written by hand: no protobuf in the health process.

HealthCheckRequest has the service's name as field 1, HealthCheckResponse the status as field 1.
"""

import struct
from enum import IntEnum

_FRAME = struct.Struct(">BI")
"""gRPC's prefix of a message: whether it is compressed, its length."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ServingStatus(IntEnum):
    """HealthCheckResponse.ServingStatus."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def read_service(body: bytes) -> str:
    """The name that a framed HealthCheckRequest asks for. Raises ValueError for anything else."""
    if len(body) < _FRAME.size:
        raise ValueError("one message is expected")
    compressed, length = _FRAME.unpack_from(body)
    message = body[_FRAME.size :]
    if compressed or length != len(message):
        raise ValueError("one message is expected, not compressed")
    return _read_name(message)


def frame_status(status: ServingStatus) -> bytes:
    """A framed HealthCheckResponse."""
    message = bytes([1 << 3 | _VARINT, status])
    return _FRAME.pack(0, len(message)) + message


def _read_name(message: bytes) -> str:
    """Field 1, the last one if there are several; other fields are skipped."""
    name, position = "", 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        end = _end_of_value(message, position, kind)
        if number == 1:
            if kind != _BYTES:
                raise ValueError("field 1 is a text")
            _, begin = _read_varint(message, position)
            name = message[begin:end].decode()
        position = end
    return name


def _end_of_value(message: bytes, position: int, kind: int) -> int:
    """The position behind a value that begins at `position`."""
    if kind == _VARINT:
        end = _read_varint(message, position)[1]
    elif kind == _BYTES:
        length, begin = _read_varint(message, position)
        end = begin + length
    elif kind in (_FIXED64, _FIXED32):
        end = position + (8 if kind == _FIXED64 else 4)
    else:
        raise ValueError(f"wire type {kind} is not known")
    if end > len(message):
        raise ValueError("a value ends beyond the message")
    return end


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """A number of up to 64 bits and the position behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number does not end")
