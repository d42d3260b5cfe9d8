"""Profiles as data, and the order in which one is chosen."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge import profile_data
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.profile_data import host_name, merge_own_profiles, shipped_profiles
from edge.profiles import ProfileBook
from edge.settings import EdgeSettings
from headrace.rpc.errors import ServiceError

V1, API_V1, BARE = "/v1/chat/completions", "/api/v1/chat/completions", "/chat/completions"
HOSTS = {"api.polargrid.ai": "polargrid"}
BOOK = ProfileBook({"mine": Profile(strict=False)}, HOSTS)


def test_shipped() -> None:
    """Six profiles are shipped; the first is the default of the type."""
    shipped = shipped_profiles()

    names = ["openai", "pinstripes", "polargrid", "openpipe", "premai", "lenient"]
    assert names == list(shipped)
    assert shipped["openai"] == Profile()
    assert {"openpipe", "lenient"} == {name for name in shipped if not shipped[name].strict}


@pytest.mark.parametrize(
    ("key", "host", "alias", "path", "expected"),
    [
        ("mine", "api.polargrid.ai", "premai", V1, "mine"),
        (None, "api.polargrid.ai", "premai", V1, "polargrid"),
        (None, "API.PolarGrid.ai:55111", "premai", V1, "polargrid"),
        (None, "elsewhere", "premai", V1, "premai"),
        (None, "elsewhere", None, V1, "openai"),
        (None, "elsewhere", None, API_V1, "lenient"),
        (None, "", None, BARE, "lenient"),
    ],
)
def test_order_of_choice(
    key: str | None, host: str, alias: str | None, path: str, expected: str
) -> None:
    """The key decides, else the Host, else the alias, else the path."""
    name, profile = BOOK.choose(key, host, alias, path)

    assert expected == name
    assert profile == {**shipped_profiles(), "mine": Profile(strict=False)}[name]


def test_key_of_a_profile_that_is_gone() -> None:
    """A key that names no profile fails by name; it is never served by another profile."""
    with pytest.raises(ServiceError, match="`gone`") as caught:
        BOOK.choose("gone", "", None, V1)

    assert 500 == caught.value.row.http_status


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("api.ymq-01.edge.polargrid.ai:55111", "api.ymq-01.edge.polargrid.ai"),
        ("Host.Example.", "host.example"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("host.example:", "host.example"),
        ("", ""),
    ],
)
def test_host_name(header: str, name: str) -> None:
    """A Host is compared without its port, in lower case."""
    assert name == host_name(header)


def own(**tables: Any) -> dict[str, Profile]:
    return EdgeSettings(profiles=tables).profiles


def test_own_profile() -> None:
    """An operator's profile has its base's values but for those that it gives."""
    lenient = shipped_profiles()["lenient"]

    profiles = own(
        mine={"base": "lenient", "default_max_tokens": 64},
        child={"base": "mine", "strict": True},
        plain={"model_echo": "resolved"},
    )

    assert lenient.model_copy(update={"default_max_tokens": 64}) == profiles["mine"]
    assert profiles["mine"].model_copy(update={"strict": True}) == profiles["child"]
    assert Profile(model_echo="resolved") == profiles["plain"]


@pytest.mark.parametrize("table", [{}, {"base": "polargrid"}])
def test_changed_profile(table: dict[str, Any]) -> None:
    """A table that is named like a shipped profile changes that one."""
    profiles = own(polargrid={"max_tokens": 100, **table})

    expected = shipped_profiles()["polargrid"].model_copy(update={"max_tokens": 100})
    assert expected == profiles["polargrid"]
    assert (expected, "polargrid") == (
        (choice := ProfileBook(profiles, HOSTS).choose(None, "api.polargrid.ai", None, V1))[1],
        choice[0],
    )


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"profiles": {"mine": {"temprature": 1}}}, "profiles.mine.temprature"),
        ({"profiles": {"mine": {"base": "nope"}}}, "mine.base names no profile: 'nope'"),
        ({"profiles": {"a": {"base": "b"}, "b": {"base": "a"}}}, "a.base leads back to itself"),
        ({"profiles": {"mine": {"default_top_p": 2}}}, "profiles.mine.default_top_p"),
        ({"profiles": {"mine": {"usage_extras": ["x"]}}}, "profiles.mine.usage_extras"),
        ({"profiles": {"mine": 3}}, "profiles.mine"),
        ({"hosts": {"x": "nope"}}, "hosts.x names no profile: 'nope'"),
        ({"hosts": {"x:80": "openai"}}, "'x:80'"),
        ({"hosts": {"X": "openai"}}, "'X'"),
        ({"aliases": {"a": {"model": "m", "profile": "nope"}}}, "aliases.a.profile names no"),
        ({"aliases": {"a": {"profile": "openai"}}}, "aliases.a.model"),
        ({"aliases": {"a": {"model": "m", "max_token": 1}}}, "aliases.a.max_token"),
        ({"limits": {"max_total_tokens": 0}}, "limits.max_total_tokens"),
    ],
)
def test_mistakes_in_settings(settings: dict[str, Any], part: str) -> None:
    """A key or a name that is unknown stops the start and is named."""
    with pytest.raises(ValidationError) as caught:
        EdgeSettings(**settings)

    assert part in str(caught.value)


def test_merging_leaves_what_is_no_table() -> None:
    """What is no table is left for validation to name."""
    assert {"mine": 3} == merge_own_profiles({"mine": 3})


def test_examples_of_the_page() -> None:
    """The settings that PROFILES.md shows are settings."""
    page = Path(profile_data.__file__).with_name("PROFILES.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    settings = [EdgeSettings(**tomllib.loads(block)["edge"]) for block in blocks]

    own, aliases = settings
    assert (300, False) == (own.profiles["shop"].default_max_tokens, own.profiles["shop"].strict)
    assert (8192, True) == (own.profiles["openai"].max_tokens, own.profiles["openai"].strict)
    assert "*" in aliases.aliases


def test_page_names_every_key() -> None:
    """PROFILES.md says what every key of a profile means."""
    page = Path(profile_data.__file__).with_name("PROFILES.md").read_text(encoding="utf-8")

    assert [] == [name for name in Profile.model_fields if f"`{name}`" not in page]
    assert [] == [name for name in RequestLimits.model_fields if f"`{name}`" not in page]
