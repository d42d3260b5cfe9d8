"""What callers are told of their keys."""

import pytest

from headrace.access.keys import LEAST_CHARACTERS, hash_key, mint_key
from headrace.access.refusals import incorrect_key, masked, missing_key
from headrace.rpc.bearer import bearer_key, bearer_metadata


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-abcdefghijklmnopqrstuvwxyz", "sk-ab***yz"),
        ("0123456789abcdef", "01234***ef"),
        ("0123456789abcde", "***"),
        ("<token>", "***"),
        (
            b"\xffab\xed\xa0cdefghijklmnop\xc3\xbc\xfe".decode("utf-8", "surrogateescape"),
            "?ab??***ü?",
        ),
        ("", "***"),
    ],
)
def test_a_key_is_shown_by_its_ends_alone(key: str, shown: str) -> None:
    """At least nine characters stay hidden; a short key is hidden whole."""
    assert masked(key) == shown
    assert shown in incorrect_key(key).message


def test_a_wrong_key_and_none_have_codes_of_their_own() -> None:
    """A wrong key is invalid_api_key; for no key the code is null."""
    assert incorrect_key("k" * 40).row.openai_code == "invalid_api_key"
    assert incorrect_key("k" * 40).openai_code is None
    assert missing_key("a header").openai_code == ""
    assert missing_key("a header").message.startswith("You didn't provide an API key.")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
        ("Bearer ", ""),
        ("abc", ""),
        ("", ""),
    ],
)
def test_only_the_bearer_scheme_carries_a_key(value: str, key: str) -> None:
    """In any case, with any blanks; whatever else is there is no key."""
    assert bearer_key(value) == key


def test_metadata_is_read_as_it_is_written() -> None:
    """Both ends of a gRPC call agree."""
    ((name, value),) = bearer_metadata("abc")

    assert (name, bearer_key(value)) == ("authorization", "abc")


def test_minted_keys_are_long_and_differ() -> None:
    """256 random bits; the hash is of the whole key."""
    keys = {mint_key() for _ in range(20)}

    assert len(keys) == 20
    assert all(len(key) >= LEAST_CHARACTERS for key in keys)
    assert len({hash_key(key) for key in keys}) == 20
    assert hash_key("abc").startswith("ba7816bf8f01cfea")
