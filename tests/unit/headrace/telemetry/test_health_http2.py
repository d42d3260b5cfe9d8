from collections import defaultdict
from collections.abc import Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from headrace.telemetry.health_http2 import PREFACE, Http2
from headrace.telemetry.health_page import Phase
from tests.support.health_pages import ToldHealth, told_health

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture
def told() -> Iterator[ToldHealth]:
    with told_health() as told:
        yield told


class Peer:
    """A client on the other end of the bytes, and what it has got of each call."""

    def __init__(self, told: ToldHealth, window: int = 65535) -> None:
        self.server = Http2(told.view)
        self.client = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.headers: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.statuses: defaultdict[int, list[int]] = defaultdict(list)
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.is_sent_away = False
        self.exchange()

    def call(self, path: str, body: bytes = bytes(5), kind: str = "application/grpc") -> int:
        stream = self.begin(path, kind)
        self.client.send_data(stream, body, end_stream=True)
        self.exchange()
        return stream

    def begin(self, path: str, kind: str = "application/grpc") -> int:
        stream = self.client.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path)]
        self.client.send_headers(stream, [*headers, (":authority", "x"), ("content-type", kind)])
        return stream

    def exchange(self) -> None:
        self.take(self.server.receive(self.client.data_to_send()))

    def take(self, data: bytes) -> None:
        for event in self.client.receive_data(data):
            match event:
                case ResponseReceived() | TrailersReceived():
                    self.headers[event.stream_id].update(event.headers)
                case DataReceived():
                    self.statuses[event.stream_id].append(event.data[6])
                case StreamEnded():
                    self.ended.add(event.stream_id)
                case StreamReset():
                    self.reset.add(event.stream_id)
                case ConnectionTerminated():
                    self.is_sent_away = True


def request(name: str) -> bytes:
    message = b"\x0a" + bytes([len(name)]) + name.encode()
    return b"\0" + len(message).to_bytes(4, "big") + message


def test_check_tells_the_status(told: ToldHealth) -> None:
    """Of the whole and of a name, as it is at that moment."""
    peer = Peer(told)
    streams = [peer.call(CHECK), peer.call(CHECK, request("liveness"))]
    told.tell(Phase.SERVING)
    streams.append(peer.call(CHECK))

    assert [peer.statuses[stream] for stream in streams] == [[NOT_SERVING], [SERVING], [SERVING]]
    assert {peer.headers[stream]["grpc-status"] for stream in streams} == {"0"}
    assert peer.ended == set(streams)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (CHECK, request("unknown"), "5"),
        (CHECK, b"", "3"),
        (CHECK, request("x")[:-1], "3"),
        (CHECK, bytes(1025), "8"),
        ("/grpc.health.v1.Health/List", bytes(5), "12"),
        ("/a.B/C", bytes(5), "12"),
    ],
)
def test_refused_calls(told: ToldHealth, path: str, body: bytes, code: str) -> None:
    """Each has its gRPC status, and leaves the connection as it was."""
    peer = Peer(told)
    stream = peer.call(path, body)

    assert peer.headers[stream][":status"] == "200"
    assert peer.headers[stream]["grpc-status"] == code
    assert peer.headers[stream]["grpc-message"]
    assert stream in peer.ended
    assert peer.statuses[peer.call(CHECK)] == [NOT_SERVING]


def test_the_rest_of_a_refused_request_is_not_waited_for(told: ToldHealth) -> None:
    """The stream is given up on both sides, whatever the client still meant to send."""
    peer = Peer(told)
    long, unknown = peer.begin(CHECK), peer.begin("/a.B/C")
    peer.client.send_data(long, bytes(1025))
    peer.exchange()

    assert peer.reset == {long, unknown}
    assert not peer.server.is_waiting


def test_room_for_bodies_comes_back(told: ToldHealth) -> None:
    """A connection may carry more than its window, request after request."""
    peer = Peer(told)
    codes = {peer.headers[peer.call(CHECK, bytes(1000))]["grpc-status"] for _ in range(100)}

    assert codes == {"3"}


def test_what_is_no_grpc_is_no_media_type(told: ToldHealth) -> None:
    """Pages are HTTP/1.1's."""
    peer = Peer(told)
    stream = peer.call("/health", b"", "text/plain")

    assert peer.headers[stream][":status"] == "415"
    assert not peer.server.is_over


def test_watch_tells_every_change(told: ToldHealth) -> None:
    """First the status as it is, then each new one, until the caller leaves."""
    peer = Peer(told)
    whole, unknown = peer.call(WATCH), peer.call(WATCH, request("unknown"))
    for phase in (Phase.STARTING, Phase.SERVING, Phase.SERVING, Phase.DRAINING):
        told.tell(phase, "" if phase is Phase.SERVING else "no")
        peer.take(peer.server.tell_changes())

    assert peer.statuses[whole] == [NOT_SERVING, SERVING, NOT_SERVING]
    assert peer.statuses[unknown] == [SERVICE_UNKNOWN]
    assert peer.server.is_watched
    for stream in (whole, unknown):
        peer.client.reset_stream(stream)
    peer.exchange()
    assert not peer.server.is_watched


def test_a_peer_without_room_for_an_answer_loses_its_call(told: ToldHealth) -> None:
    """Nothing is kept for it."""
    peer = Peer(told, window=3)
    check, watch = peer.call(CHECK), peer.call(WATCH)

    assert peer.reset == {check, watch}
    assert not peer.server.is_watched
    assert not peer.server.is_over


def test_a_call_that_is_given_up_in_the_same_breath(told: ToldHealth) -> None:
    """It is forgotten; the others go on."""
    peer = Peer(told)
    for path in (CHECK, WATCH, "/a.B/C"):
        stream = peer.begin(path)
        peer.client.send_data(stream, bytes(5), end_stream=True)
        peer.client.reset_stream(stream)
    peer.exchange()

    assert not peer.server.is_watched
    assert not peer.server.is_waiting
    assert peer.statuses[peer.call(CHECK)] == [NOT_SERVING]


def test_half_a_request_is_waited_for(told: ToldHealth) -> None:
    """Who owns the connection can tell, and bounds it."""
    peer = Peer(told)
    stream = peer.begin(CHECK)
    peer.exchange()
    assert peer.server.is_waiting
    peer.client.send_data(stream, bytes(5), end_stream=True)
    peer.exchange()

    assert not peer.server.is_waiting


def test_too_many_calls_at_once_end_the_connection(told: ToldHealth) -> None:
    """The bound is announced; a client that ignores it is sent away."""
    peer = Peer(told)
    limit = peer.client.remote_settings.max_concurrent_streams
    assert limit == 32
    for _ in range(limit):
        peer.begin(CHECK)
    peer.exchange()
    assert not peer.server.is_over
    # The library would not send it.
    peer.client.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
    peer.client.remote_settings.acknowledge()
    peer.begin(CHECK)
    peer.exchange()

    assert peer.server.is_over
    assert peer.is_sent_away


def test_nonsense_ends_the_connection(told: ToldHealth) -> None:
    """With a frame that says so."""
    peer = Peer(told)
    peer.take(peer.server.receive(bytes(9)))

    assert peer.server.is_over
    assert peer.is_sent_away


def test_a_connection_ends_in_order_when_it_has_sent_enough(told: ToldHealth) -> None:
    """Pings without end reach a bound; the client hears that it may come back."""
    peer = Peer(told)
    num_pings = 0
    while not peer.server.is_over:
        peer.client.ping(bytes(8))
        peer.exchange()
        peer.server.tick()
        num_pings += 1

    assert peer.is_sent_away
    assert not peer.server.is_flooded
    assert 10_000 < num_pings < 20_000


PING = b"\0\0\10\6\0\0\0\0\0" + bytes(8)
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
WINDOW_UPDATE = b"\0\0\4\10\0\0\0\0\0\0\0\0\1"
PRIORITY = b"\0\0\5\2\0\0\0\0\1\0\0\0\0\1"
UNKNOWN = b"\0\0\0\xf0\0\0\0\0\0"


@pytest.mark.parametrize("frame", [PING, SETTINGS, WINDOW_UPDATE, PRIORITY, UNKNOWN])
def test_frames_that_ask_for_nothing_are_bounded(told: ToldHealth, frame: bytes) -> None:
    """A client that sends hundreds at once is asked to calm down; few of them are looked at."""
    peer = Peer(told)
    answered = peer.server.receive(frame * 200)
    frames = list(frames_of(answered))

    assert peer.server.is_flooded
    assert peer.server.is_over
    assert len(frames) < 64
    assert frames[-1][0] == GOAWAY
    assert int.from_bytes(frames[-1][1][4:8], "big") == ENHANCE_YOUR_CALM
    peer.server.tick()
    assert peer.server.is_flooded


def test_empty_parts_of_a_request_are_bounded_too(told: ToldHealth) -> None:
    """They ask for nothing, unless one is the request's end: some clients send that apart."""
    peer = Peer(told)
    for _ in range(40):
        stream = peer.begin(CHECK)
        peer.client.send_data(stream, bytes(5))
        peer.client.end_stream(stream)
        peer.exchange()
        assert stream in peer.ended
    stream = peer.begin(CHECK)
    for _ in range(200):
        peer.client.send_data(stream, b"")
    peer.exchange()

    assert peer.server.is_flooded
    assert peer.is_sent_away


def test_calls_between_them_change_nothing_and_time_does(told: ToldHealth) -> None:
    """A client that pings with each of its calls is served as long as it does not hurry."""
    peer = Peer(told)
    for _ in range(40):
        for _ in range(10):
            peer.client.ping(bytes(8))
            assert peer.call(CHECK) in peer.ended
        peer.server.tick()

    assert not peer.server.is_over


GOAWAY, ENHANCE_YOUR_CALM = 7, 11


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each frame (RFC 9113, 4.1)."""
    while data:
        length = int.from_bytes(data[:3], "big")
        yield data[3], data[9 : 9 + length]
        data = data[9 + length :]


def test_after_the_farewell_nothing_is_told(told: ToldHealth) -> None:
    """Who watches hears of no more changes on that connection."""
    peer = Peer(told)
    peer.call(WATCH)
    peer.take(peer.server.close())
    told.tell(Phase.SERVING)

    assert peer.is_sent_away
    assert peer.server.tell_changes() == b""


def test_a_client_that_says_farewell_and_stays_is_told_nothing(told: ToldHealth) -> None:
    """Its connection is over, watches and all, though it is the client's to close."""
    peer = Peer(told)
    peer.call(WATCH)
    peer.client.close_connection()
    peer.exchange()
    told.tell(Phase.SERVING)

    assert peer.server.tell_changes() == b""
    assert peer.server.is_over
    assert not peer.server.is_watched


def test_the_preface_is_the_protocols() -> None:
    """What a client library sends first begins with it."""
    client = H2Connection()
    client.initiate_connection()

    assert client.data_to_send().startswith(PREFACE)
