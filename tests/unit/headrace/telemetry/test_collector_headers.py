"""Headers for a collector: how they are spelt, what is refused, and that no value is shown."""

import pytest

from headrace.runtime.errors import StartError
from headrace.telemetry.collector_headers import CollectorHeaders

VALUE = "hr-5ecret-value"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api-key=abc", [("api-key", "abc")]),
        (" a = 1 ,\tb=2 ", [("a", "1"), ("b", "2")]),
        ("Authorization=Bearer%20a%2Cb%3D%25", [("authorization", "Bearer a,b=%")]),
        ("authorization=Basic YTpiYw==", [("authorization", "Basic YTpiYw==")]),
        ("a=b=c;d", [("a", "b=c;d")]),
        ("a=1+1", [("a", "1+1")]),
        ("x.scope_org-id=", [("x.scope_org-id", "")]),
        ("a=1,,b=2,", [("a", "1"), ("b", "2")]),
        ("a=1\r\nb=2\n", [("a", "1"), ("b", "2")]),
    ],
)
def test_spelling(text: str, expected: list[tuple[str, str]]) -> None:
    """As the specification has it; a value ends with a comma or a line, not with =."""
    assert CollectorHeaders.parse(text, "here").metadata == tuple(expected)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "here names no header"),
        (" ,\n", "here names no header"),
        (VALUE, "here, header 1 is not like name=value"),
        (f"={VALUE}", "here, header 1 is not like name=value"),
        (f"{VALUE}/x=y", "here, header 1 is not like name=value"),
        (f"a=1,api key={VALUE}", "here, header 2 is not like name=value"),
        (f":path={VALUE}", "here, header 1 is not like name=value"),
        (f"ключ={VALUE}", "here, header 1 is not like name=value"),
        (f"a={VALUE}é", "here, header 1: the value of a is not of visible ASCII"),
        (f"a={VALUE}%C3%A9", "here, header 1: the value of a is not of visible ASCII"),
        (f"a={VALUE}%0D%0Ab: c", "here, header 1: the value of a is not of visible ASCII"),
        (f"a={VALUE}%00", "here, header 1: the value of a is not of visible ASCII"),
        (f"User-Agent={VALUE}", "here, header 1: user-agent is gRPC's own"),
        (f"host={VALUE}", "here, header 1: host is gRPC's own"),
        (f"grpc-timeout={VALUE}", "here, header 1: grpc-timeout is gRPC's own"),
        (f"key-bin={VALUE}", "here, header 1: key-bin is gRPC's own"),
        (f"a=1,b=2,A={VALUE}", "here, header 3: a has been named before"),
    ],
)
def test_refused(text: str, told: str) -> None:
    """By the entry's number, and without its value."""
    with pytest.raises(StartError) as caught:
        CollectorHeaders.parse(text, "here")

    assert str(caught.value).startswith(told)
    assert VALUE not in str(caught.value)


def test_values_are_not_shown() -> None:
    """Names are all that a repr has."""
    headers = CollectorHeaders.parse(f"api-key={VALUE}", "here")

    assert repr(headers) == str(headers) == "CollectorHeaders(api-key)"


def test_values_that_come_back_are_masked() -> None:
    """A collector's sentence keeps its words; whole values and their parts are gone."""
    headers = CollectorHeaders.parse(f"authorization=Bearer {VALUE},x-org=7", "here")
    told = f"no key {VALUE} among 17 keys, got 'Bearer {VALUE}'"

    assert headers.masked(told) == "no key … among 17 keys, got '…'"
    assert CollectorHeaders().masked(told) == told
