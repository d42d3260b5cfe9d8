"""The key file: what an entry says, and what is said of one at fault, without any value."""

from pathlib import Path

import pytest

from headrace.access.caller import Caller, Limits
from headrace.access.key_file import read_key_file
from headrace.access.keys import hash_key
from headrace.runtime.errors import StartError

SECRET = "hr-this-is-the-key-itself-and-must-not-be-shown"  # noqa: S105 (a test's)
DIGEST = hash_key(SECRET)
OTHER = hash_key("another")


def written(folder: Path, text: str) -> Path:
    """A key file."""
    file = folder / "keys.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_entry_says_who_calls_and_what_for(tmp_path: Path) -> None:
    """Every field arrives, and the hash may be written in capitals."""
    callers = read_key_file(
        written(
            tmp_path,
            f"""
            [[keys]]
            sha256 = "{DIGEST.upper()}"
            label = "ci"
            tenant = "acme"
            profile = "lenient"
            models = ["small", "owner/large"]
            requests_per_minute = 60
            tokens_per_minute = 90_000
            concurrent_requests = 4
            priority = -5
            [[keys]]
            sha256 = "{OTHER}"
            trusted = true
            """,
        )
    )

    assert callers == {
        DIGEST: Caller(
            tenant="acme",
            key_id=f"ci:{DIGEST[:12]}",
            profile="lenient",
            models=frozenset({"small", "owner/large"}),
            limits=Limits(60, 90_000, 4),
            priority=-5,
        ),
        OTHER: Caller(key_id=OTHER[:12], is_trusted=True),
    }


def test_a_tenants_salt_fits_what_workers_take(tmp_path: Path) -> None:
    """The longest name is within 256 bytes; tenants have salts of their own."""
    longest = "t" * 128
    entry = f'[[keys]]\nsha256 = "{DIGEST}"\ntenant = "{longest}"\n'
    caller = read_key_file(written(tmp_path, entry))[DIGEST]

    assert caller.cache_salt == f"tenant:{longest}"
    assert len(caller.cache_salt.encode()) <= 256


GOOD = f'[[keys]]\nsha256 = "{DIGEST}"\ntenant = "acme"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no [[keys]] entry"),
        ("keys = []", "has no [[keys]] entry"),
        ('keys = "' + SECRET + '"', "has no [[keys]] entry"),
        ("[other]\n", "only [[keys]] entries"),
        (f"[[keys]]\nsha256 = {SECRET}", "is not valid TOML (at line 2"),
        (f'[[keys]]\nsha256 = "{SECRET}"\ntenant = "a"', "entry 1 (line 1): sha256 must be the 64"),
        (f'[[keys]]\nsha256 = "{DIGEST}"', "entry 1 (line 1): tenant is missing"),
        (f'[[keys]]\ntenant = "{SECRET[:5]}"', "entry 1 (line 1): sha256: field required"),
        (GOOD + f'[[keys]]\nsha256 = "{DIGEST}"\ntenant = "b"', "entry 2 (line 4): sha256 is that"),
        (GOOD + f'{SECRET} = "x"', "entry 1 (line 1): unknown field; known are sha256"),
        (GOOD + 'requests_per_minute = "60"', "requests_per_minute: input should be a valid int"),
        (GOOD + "tokens_per_minute = 0", "tokens_per_minute: input should be greater than"),
        (GOOD + "concurrent_requests = true", "concurrent_requests: input should be a valid int"),
        (GOOD + "priority = 2000", "priority: input should be less than or equal to 1000"),
        (GOOD + "models = []", "models: list should have at least 1 item"),
        (GOOD + "models = [1]", "models.0: input should be a valid string"),
        (GOOD + 'label = "two words"', "label: string should match pattern"),
        (GOOD + "trusted = true", "tenant does not go with trusted"),
        (f'[[keys]]\nsha256 = "{OTHER}"\ntrusted = true\npriority = 1', "priority does not go"),
    ],
)
def test_a_fault_is_named_with_its_place_and_without_the_value(
    tmp_path: Path, text: str, said: str
) -> None:
    """Somebody may have written the key where its hash belongs: it must not come out in a log."""
    with pytest.raises(StartError) as caught:
        read_key_file(written(tmp_path, text))

    assert said in str(caught.value)
    assert "keys.toml" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is one that is not text."""
    with pytest.raises(StartError, match=r"none\.toml cannot be read: No such file"):
        read_key_file(tmp_path / "none.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(StartError, match="binary is not UTF-8"):
        read_key_file(tmp_path / "binary")
