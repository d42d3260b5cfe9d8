"""What a collector is reached with, and where headers may go."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.runtime.errors import StartError
from headrace.runtime.settings import render_settings
from headrace.telemetry.collector_access import CollectorAccess
from headrace.telemetry.settings import TracingSettings
from tests.support.certificates import Authority

VALUE = "hr-5ecret-value"
HEADERS = f"api-key={VALUE}"
FAR = "http://collector.example:4317"


def access(endpoint: str, **given: object) -> CollectorAccess:
    """Of settings with that endpoint."""
    return CollectorAccess(TracingSettings.model_validate({"endpoint": endpoint, **given}))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:4317",
        "http://127.9.9.9:4317",
        "http://localhost:4317",
        "http://[::1]:4317",
        "https://collector.example",
    ],
)
def test_headers_go_out_unseen(endpoint: str) -> None:
    """To this machine, or encrypted."""
    with capture_logs() as logs:
        headers = access(endpoint, headers=HEADERS).headers()

    assert headers.metadata == (("api-key", VALUE),)
    assert logs == []


@pytest.mark.parametrize(
    "endpoint",
    [FAR, "http://10.0.0.7:4317", "http://[2001:db8::1]", "http://localhost.example", "http://0:1"],
)
def test_headers_in_clear_text_are_refused(endpoint: str, tmp_path: Path) -> None:
    """Wherever they come from, unless the settings accept it by name, and then with a warning."""
    file = tmp_path / "headers"
    file.write_text(HEADERS, encoding="utf-8")
    for given in ({"headers": HEADERS}, {"headers_file": file}):
        with pytest.raises(
            StartError, match=r"with telemetry\.tracing\.headers_in_clear"
        ) as caught:
            access(endpoint, **given)
        assert VALUE not in str(caught.value)
        with capture_logs() as logs:
            accepted = access(endpoint, headers_in_clear_text=True, **given)
        assert accepted.headers().metadata == (("api-key", VALUE),)
        assert [line["event"] for line in logs] == ["headers_in_clear_text"]
        assert VALUE not in repr(logs)


def test_without_headers_clear_text_is_nobodys_secret() -> None:
    """A collector of the cluster without a key is reached as before."""
    assert access(FAR).headers().metadata == ()


def test_the_file_wins(tmp_path: Path) -> None:
    """What the setting, or a standard variable, says is not mixed in."""
    file = tmp_path / "headers"
    file.write_text("b=2\nc=3\n", encoding="utf-8")

    found = access("https://c.example", headers="not even read", headers_file=file).headers()
    assert found.metadata == (("b", "2"), ("c", "3"))


def test_a_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """A file at fault is named in the log, without its content, and the headers stay."""
    file = tmp_path / "headers"
    file.write_text("a=1", encoding="utf-8")
    opened = access("https://c.example", headers_file=file)
    file.write_text("a=22", encoding="utf-8")
    assert opened.headers().metadata == (("a", "22"),)
    file.write_text(f"{VALUE} without a name", encoding="utf-8")
    with capture_logs() as logs:
        assert opened.headers().metadata == (("a", "22"),)
    assert [line["event"] for line in logs] == ["collector_headers_unusable"]
    assert str(file) in repr(logs)
    assert VALUE not in repr(logs)
    file.write_text("a=4444", encoding="utf-8")
    with capture_logs() as logs:
        assert opened.headers().metadata == (("a", "4444"),)
    assert [line["event"] for line in logs] == ["collector_headers_reloaded"]
    assert "4444" not in repr(logs)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff" + VALUE.encode(), "is not UTF-8"),
        (b"", "names no header"),
        (VALUE.encode(), "header 1 is not like name=value"),
        (b"a=" + VALUE.encode() * 5000, "has 75002 bytes; at most 65536 are read"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    """By its name; a service that should show a key does not start without."""
    file = tmp_path / "headers"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StartError, match=told) as caught:
        access("https://c.example", headers_file=file)

    assert str(file) in str(caught.value)
    assert VALUE not in repr(caught.value.__cause__) + str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Reading a pipe that nobody writes to would hold up the start, and later all spans."""
    pipe, file = tmp_path / "pipe", tmp_path / "headers"
    os.mkfifo(pipe)
    with pytest.raises(StartError, match=r"headers file .*/pipe is not a regular file"):
        access("https://c.example", headers_file=pipe)
    file.write_text("a=1", encoding="utf-8")
    opened = access("https://c.example", headers_file=file)
    pipe.replace(file)

    assert opened.headers().metadata == (("a", "1"),)


def test_certificates_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """So do files of TLS."""
    with pytest.raises(StartError, match=r"none\.pem cannot be read"):
        access("https://c.example", tls={"ca_file": tmp_path / "none.pem"})
    pair, other = (Authority(tmp_path, name).issue("c") for name in ("a", "b"))
    files = {"certificate_file": pair.certificate, "key_file": other.key}
    with pytest.raises(StartError, match="is not the key of the certificate"):
        access("https://c.example", tls=files)


def test_certificates_without_tls_are_refused(tmp_path: Path) -> None:
    """Whoever names an authority does not get clear text."""
    with pytest.raises(ValueError, match=r"endpoint HTTP://c\.example is not https://"):
        access("HTTP://c.example", tls={"ca_file": tmp_path / "ca.pem"})
    pair = {"certificate_file": tmp_path / "own.crt", "key_file": tmp_path / "own.key"}
    with pytest.raises(ValueError, match=r"endpoint http://127\.0\.0\.1 is not https://"):
        access("http://127.0.0.1", tls=pair)
    with pytest.raises(ValueError, match="certificate_file and key_file must be set together"):
        access("https://c.example", tls={"key_file": tmp_path / "key.pem"})


def test_settings_show_no_header() -> None:
    """Neither as TOML nor as a repr."""
    settings = TracingSettings(endpoint="https://c.example", headers=HEADERS)

    assert VALUE not in render_settings("edge", settings) + repr(settings)
    assert "headers" in render_settings("edge", settings)
