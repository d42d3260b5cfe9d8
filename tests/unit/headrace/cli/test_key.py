"""`headrace key`: keys that are printed once, and entries that a key file takes."""

import io
from pathlib import Path

import pytest

from headrace.access.caller import Limits
from headrace.access.key_file import read_key_file
from headrace.access.keys import hash_key, mint_key
from headrace.cli.key import main
from headrace.cli.main import main as command
from headrace.runtime.errors import StartError
from tests.support.keys import trusted_entry, write_keys


def test_a_new_key_comes_with_an_entry_to_paste(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The entry is the key's, says what was asked for, and does not hold the key."""
    flags = ["--tenant", "acme", "--label", "ci", "--model", "a", "--model", "b/c", "--priority"]
    limits = ["--requests-per-minute", "6", "--tokens-per-minute", "7"]
    assert main(["new", *flags, "-3", *limits, "--concurrent-requests", "8"]) == 0
    key, _, entry = capsys.readouterr().out.partition("\n")
    file = tmp_path / "keys.toml"
    file.write_text(entry, encoding="utf-8")
    caller = read_key_file(file)[hash_key(key)]

    assert (caller.tenant, caller.priority, caller.models) == ("acme", -3, {"a", "b/c"})
    assert caller.limits == Limits(6, 7, 8)
    assert key not in entry
    assert len(key) >= 40


def test_a_trusted_key_has_no_tenant(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is an edge's own."""
    assert main(["new", "--trusted"]) == 0
    key, _, entry = capsys.readouterr().out.partition("\n")
    file = tmp_path / "keys.toml"
    file.write_text(entry, encoding="utf-8")

    assert read_key_file(file)[hash_key(key)].is_trusted


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "tenant is missing"),
        (["--tenant", "two words"], "tenant: string should match"),
        (["--tenant", "a", "--requests-per-minute", "0"], "requests_per_minute: input should be"),
        (["--tenant", "a", "--trusted"], "tenant does not go with trusted"),
    ],
)
def test_an_entry_that_no_file_would_take_is_not_made(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    """No key is printed for it."""
    with pytest.raises(StartError, match=said):
        main(["new", *flags])

    assert capsys.readouterr().out == ""


def test_a_key_is_hashed_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short one with a warning that it may be found by trying."""
    for key, warns in (("k" * 40, False), ("<token>", True)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
        assert main(["hash"]) == 0
        output = capsys.readouterr()

        assert output.out == f"{hash_key(key)}\n"
        assert ("found by trying" in output.err) == warns
        assert key not in output.err


def test_the_shown_settings_hold_no_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Only the names of the files in which keys are, of every service."""
    key = mint_key()
    (tmp_path / "edge.key").write_text(key, encoding="utf-8")
    write_keys(tmp_path / "keys.toml", trusted_entry(key))
    names = f'file = "{tmp_path}/keys.toml"'
    own = f'[edge.backend]\napi_key_file = "{tmp_path}/edge.key"'
    tables = "\n".join(f"[{name}.keys]\n{names}" for name in ("edge", "worker", "tokenizer"))
    (tmp_path / "headrace.toml").write_text(f"{tables}\n{own}\n", encoding="utf-8")
    for service in ("edge", "worker", "tokenizer"):
        config = ["--config", str(tmp_path / "headrace.toml"), "--print-config"]
        assert command([service, *config]) == 0
        shown = capsys.readouterr().out

        assert names in shown
        assert key not in shown
        assert hash_key(key) not in shown


@pytest.mark.parametrize("text", ["", "\n", "two keys", "one\ntwo"])
def test_anything_but_one_key_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A hash of the wrong thing would lock somebody out."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(StartError, match="one key"):
        main(["hash"])
