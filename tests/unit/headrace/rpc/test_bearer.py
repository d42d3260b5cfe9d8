"""A process's own key: what calls carry, and a key file that is read again."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.rpc.bearer import OwnKey, OwnKeyFile, bearer_key
from headrace.runtime.errors import StartError


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(key: OwnKey) -> str:
    """The key that a call would carry."""
    ((name, value),) = key.metadata()
    assert name == "authorization"
    return bearer_key(value)


def test_without_a_key_calls_carry_nothing() -> None:
    """The default is none."""
    assert OwnKey().metadata() == ()
    assert shown(OwnKey("abc")) == "abc"


@pytest.mark.parametrize("text", ["", " \n", "two words", "two\nlines", "schlüssel"])
def test_what_metadata_cannot_carry_is_refused_by_the_files_name(tmp_path: Path, text: str) -> None:
    """The message shows nothing of what is in the file."""
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StartError) as caught:
        OwnKeyFile(file)

    assert str(file) in str(caught.value)
    assert not text.strip() or text not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A service that should show a key does not start without."""
    with pytest.raises(StartError, match="cannot be read: No such file"):
        OwnKeyFile(tmp_path / "none")


def test_the_newest_key_is_shown_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """Looked at once a second at most; a file at fault is named once, without its content."""
    file, clock = tmp_path / "key", Clock()
    file.write_text("first\n", encoding="utf-8")
    key = OwnKeyFile(file, clock)
    file.write_text("second", encoding="utf-8")

    assert shown(key) == "first"
    clock.now = 1.0
    assert shown(key) == "second"
    file.write_text("a broken key", encoding="utf-8")
    with capture_logs() as logs:
        for second in (2.0, 3.0):
            clock.now = second
            assert shown(key) == "second"
    assert [line["event"] for line in logs] == ["own_key_unusable"]
    assert "broken" not in repr(logs)
    file.write_text("third", encoding="utf-8")
    clock.now = 4.0
    assert shown(key) == "third"
