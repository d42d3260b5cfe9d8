"""HTTP/2 with prior knowledge on the health port: grpc.health.v1.Health, Check and Watch.

Bytes in, bytes out, no sockets. Requests are bounded in bytes and number, a connection in all that
it may ever send: behind that it is told to go away, and clients come back with another. Frames that
ask for nothing (settings, pings, empty data, …) are short and as dear as others: few are taken
between two ticks, since whoever is cut comes back. Nothing but gRPC is answered here; pages and
metrics are HTTP/1.1's.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from headrace.telemetry.health_message import ServingStatus, frame_status, read_service
from headrace.telemetry.health_view import HealthView

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names and values, pseudo-headers first."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of every such connection (RFC 9113, 3.4)."""
_CHECK = b"/grpc.health.v1.Health/Check"
_WATCH = b"/grpc.health.v1.Health/Watch"
_MAX_STREAMS = 32
_MAX_REQUEST_BYTES = 1024
_MAX_HEAD_BYTES = 8192
_MAX_CONNECTION_BYTES = 256 * 1024
_IDLE_FRAMES_A_TICK = 16
"""Frames that ask for nothing, between two ticks."""
_SLICE_BYTES = 128
"""Read at a time: what is beyond the bounds is not read."""
_OK, _INVALID_ARGUMENT, _NOT_FOUND, _EXHAUSTED, _UNIMPLEMENTED = 0, 3, 5, 8, 12
_GRPC_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]


@dataclass(slots=True)
class _Call:
    """A request that has begun: its method, and its body so far."""

    method: bytes
    body: bytearray = field(default_factory=bytearray)


class Http2:
    """One connection's calls."""

    def __init__(self, view: HealthView) -> None:
        self._view = view
        self._calls: dict[int, _Call] = {}
        self._watches: dict[int, tuple[str, ServingStatus]] = {}
        self._bytes_left = _MAX_CONNECTION_BYTES
        self._idle_frames_left = _IDLE_FRAMES_A_TICK
        self.is_over = False
        """Whether the connection closes behind what has been answered."""
        self._connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        limits = {
            SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEAD_BYTES,
        }
        self._connection.local_settings = Settings(client=False, initial_values=limits)
        self._connection.initiate_connection()

    @property
    def is_waiting(self) -> bool:
        """Whether part of a request has come, and the rest has not."""
        return bool(self._calls)

    @property
    def is_flooded(self) -> bool:
        """Whether the client has sent too much that asks for nothing: it is not waited for."""
        return self._idle_frames_left < 0

    @property
    def is_watched(self) -> bool:
        """Whether somebody waits for changes."""
        return bool(self._watches)

    def receive(self, data: bytes) -> bytes:
        """Take what has arrived; returns what is to be sent."""
        self._bytes_left -= len(data)
        for begin in range(0, len(data), _SLICE_BYTES):
            self._receive_slice(data[begin : begin + _SLICE_BYTES])
            if self.is_flooded:
                self._send_away(ErrorCodes.ENHANCE_YOUR_CALM)
                break
        if self._bytes_left < 0:
            self._send_away()
        return self._connection.data_to_send()

    def _receive_slice(self, data: bytes) -> None:
        try:
            events = self._connection.receive_data(data)
        except ProtocolError:
            # The library has put the reason into what is to be sent.
            self.is_over = True
            events = []
        for event in events:
            # Of all that arrived together the end is known already: a call may be gone by now.
            with suppress(ProtocolError):
                self._take(event)

    def tick(self) -> None:
        """Time has passed."""
        if not self.is_flooded:
            self._idle_frames_left = _IDLE_FRAMES_A_TICK

    def tell_changes(self) -> bytes:
        """What is to be sent to those who watch."""
        watches = [] if self.is_over else list(self._watches.items())
        for stream, (name, told) in watches:
            status = self._status(name)
            if status is not told:
                self._watches[stream] = (name, status)
                self._send_message(stream, status)
        return self._connection.data_to_send()

    def close(self) -> bytes:
        """Tell the client to go away, in order; returns what is to be sent."""
        self._send_away()
        return self._connection.data_to_send()

    def _send_away(self, why: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        if not self.is_over:
            self.is_over = True
            self._connection.close_connection(why)

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(stream), headers=headers):
                self._begin(stream, headers or [], is_whole=event.stream_ended is not None)
            case DataReceived(stream_id=int(stream), data=data):
                self._add(stream, data or b"", event.flow_controlled_length or 0)
                if not data and event.stream_ended is None:
                    self._idle_frames_left -= 1
            case StreamEnded(stream_id=int(stream)):
                self._answer(stream)
            case StreamReset(stream_id=int(stream)):
                self._calls.pop(stream, None)
                self._watches.pop(stream, None)
                self._idle_frames_left -= 1
            case ConnectionTerminated():
                # The library sends nothing more once the client has said farewell.
                self.is_over = True
                self._watches.clear()
            case _:
                # Settings, pings, windows: the library's own business.
                self._idle_frames_left -= 1

    def _begin(self, stream: int, headers: Headers, *, is_whole: bool) -> None:
        fields = dict(headers)
        path = fields.get(b":path", b"")
        if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self._end(stream, [(b":status", b"415")], is_whole=is_whole)
        elif path not in (_CHECK, _WATCH):
            known = "only Check and Watch of grpc.health.v1.Health"
            self._end(stream, _refusal(_UNIMPLEMENTED, known), is_whole=is_whole)
        else:
            self._calls[stream] = _Call(path)

    def _add(self, stream: int, data: bytes, taken: int) -> None:
        self._connection.acknowledge_received_data(taken, stream)
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += data
        if len(call.body) > _MAX_REQUEST_BYTES:
            del self._calls[stream]
            bound = f"a request has at most {_MAX_REQUEST_BYTES} bytes"
            self._end(stream, _refusal(_EXHAUSTED, bound), is_whole=False)

    def _answer(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is None:
            return
        try:
            name = read_service(bytes(call.body))
        except ValueError as error:
            self._end(stream, _refusal(_INVALID_ARGUMENT, str(error)))
            return
        status = self._status(name)
        if call.method == _WATCH:
            self._connection.send_headers(stream, _GRPC_HEADERS)
            self._watches[stream] = (name, status)
            self._send_message(stream, status)
        elif status is ServingStatus.SERVICE_UNKNOWN:
            self._end(stream, _refusal(_NOT_FOUND, "unknown service"))
        else:
            self._connection.send_headers(stream, _GRPC_HEADERS)
            if self._send_message(stream, status):
                self._end(stream, [_grpc_status(_OK)])

    def _status(self, name: str) -> ServingStatus:
        is_serving = self._view.grpc_health(name)
        if is_serving is None:
            return ServingStatus.SERVICE_UNKNOWN
        return ServingStatus.SERVING if is_serving else ServingStatus.NOT_SERVING

    def _send_message(self, stream: int, status: ServingStatus) -> bool:
        """Send a status; a peer that leaves no room even for that loses its call."""
        message = frame_status(status)
        if self._connection.local_flow_control_window(stream) < len(message):
            self._watches.pop(stream, None)
            self._connection.reset_stream(stream, ErrorCodes.FLOW_CONTROL_ERROR)
            return False
        self._connection.send_data(stream, message)
        return True

    def _end(self, stream: int, headers: Headers, *, is_whole: bool = True) -> None:
        """End a call; where the request is not whole, its rest is not wanted."""
        self._connection.send_headers(stream, headers, end_stream=True)
        if not is_whole:
            self._connection.reset_stream(stream, ErrorCodes.NO_ERROR)


def _refusal(code: int, message: str) -> list[tuple[bytes, bytes]]:
    """A response that is headers alone; `message` is plain ASCII without percent signs."""
    return [*_GRPC_HEADERS, _grpc_status(code), (b"grpc-message", message.encode())]


def _grpc_status(code: int) -> tuple[bytes, bytes]:
    return b"grpc-status", str(code).encode()
