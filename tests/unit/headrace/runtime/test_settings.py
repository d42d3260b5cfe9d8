import os
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from headrace.runtime.errors import StartError
from headrace.runtime.settings import (
    FromEnvironment,
    SettingsGroup,
    SettingsLoader,
    render_settings,
)


class ServerGroup(SettingsGroup):
    """Where it listens."""

    port: int = Field(default=1, ge=0, le=65535)
    """Port."""
    host: str = "localhost"
    """Host."""
    key: SecretStr | None = None
    """Key."""


class ShopSettings(SettingsGroup):
    """One service."""

    server: ServerGroup = ServerGroup()
    """Listener."""
    names: tuple[str, ...] = ("a",)
    """Names."""
    open_all_day: bool = False
    """Whether."""


class BankSettings(SettingsGroup):
    """Another service."""

    rate: float = 1.5
    """Rate."""


TABLES = {"shop": ShopSettings, "bank": BankSettings}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)


def load(*argv: str, config: Path | None = None) -> ShopSettings:
    parser = ArgumentParser(prog="shop", allow_abbrev=False)
    loader = SettingsLoader("shop", ShopSettings, TABLES, parser)
    given = ["--config", str(config)] if config else []
    return loader.load(parser.parse_args([*given, *argv]))


def toml(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text)
    return file


def test_defaults_hold_without_any_source() -> None:
    """Nothing given: the class's own defaults."""
    assert load() == ShopSettings()


def test_later_sources_win_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags beat the environment, that beats the file, that beats defaults; others stay."""
    file = toml(tmp_path, '[shop.server]\nport = 2\nhost = "file"\n[shop]\nnames = ["f"]\n')
    monkeypatch.setenv("HEADRACE_SHOP__SERVER__PORT", "3")
    assert load(config=file).server == ServerGroup(port=3, host="file")

    settings = load("--server.port", "4", config=file)
    assert settings.server == ServerGroup(port=4, host="file")
    assert settings.names == ("f",)


def test_lists_are_json_or_repeated_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is JSON in the environment, and JSON or several flags on the command line."""
    monkeypatch.setenv("HEADRACE_SHOP__NAMES", '["x", "y"]')
    assert load().names == ("x", "y")
    assert load("--names", "p", "--names", "q").names == ("p", "q")
    assert load("--names", '["p", "q"]').names == ("p", "q")


def test_loaded_settings_are_of_the_service_s_class() -> None:
    """What a service gets is what its annotations say."""
    assert isinstance(load(), ShopSettings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[shop.server]\nprot = 1", r"unknown key shop\.server\.prot; did you mean port\?"),
        ("[bank]\nrote = 1", r"unknown key bank\.rote; did you mean rate\?"),
        ("[bnk]\nrate = 1", r"unknown table \[bnk\]; did you mean bank\?"),
        ("[zzz]\nrate = 1", r"unknown table \[zzz\]; known are shop, bank"),
        ("shop = 1", "shop must be a table"),
        ("[shop", "not valid TOML"),
    ],
)
def test_a_bad_file_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    """Unknown keys of any service's table, and anything that is no settings file, are refused."""
    with pytest.raises(StartError, match=message):
        load(config=toml(tmp_path, text))


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    """A file that was named and is not there is no empty file."""
    with pytest.raises(StartError, match=r"absent\.toml cannot be read: No such file"):
        load(config=tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "name",
    [
        "HEADRACE_SHOP__SERVER__PROT",
        "HEADRACE_SHOP__SERVER__PORT__X",
        "HEADRACE_SHOPS__NAMES",
        "HEADRACE_BANK__ROTE",
        "HEADRACE_BANK",
        "HEADRACE_X",
        "headrace_bank__rote",
    ],
)
def test_an_unknown_variable_stops_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with the prefix that names no setting of any service is refused by name."""
    monkeypatch.setenv(name, "1")

    with pytest.raises(StartError, match=f"environment variable {name} names no setting"):
        load()


def test_another_service_s_variable_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """All services may share one environment."""
    monkeypatch.setenv("HEADRACE_BANK__RATE", "2")

    assert load() == ShopSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server.port = 70000", r"shop\.server\.port: .*less than or equal to 65535 \(is 70000\)"),
        ("server = 3", r"shop\.server: "),
        ("open_all_day = 'perhaps'", r"shop\.open_all_day: .*\(is 'perhaps'\)"),
    ],
)
def test_a_bad_value_names_key_bound_and_value(tmp_path: Path, text: str, message: str) -> None:
    """A value out of range is one sentence with its key, the bound and the value."""
    with pytest.raises(StartError, match=message):
        load(config=toml(tmp_path, f"[shop]\n{text}"))


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is there but empty leaves the setting alone."""
    monkeypatch.setenv("HEADRACE_SHOP__SERVER__HOST", "")

    assert load() == ShopSettings()


def test_a_variable_that_is_no_json_names_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that cannot be read from the environment is one sentence."""
    monkeypatch.setenv("HEADRACE_SHOP__NAMES", "[x")

    with pytest.raises(StartError, match=r'settings of shop: .*"names"'):
        load()


def test_a_bad_secret_is_never_shown(tmp_path: Path) -> None:
    """An error about a secret names its key and keeps its value to itself."""
    with pytest.raises(StartError, match=r"shop\.server\.key") as caught:
        load(config=toml(tmp_path, "[shop.server]\nkey = 12345"))
    assert "12345" not in str(caught.value)


def test_rendered_settings_mask_secrets_and_read_back(tmp_path: Path) -> None:
    """What --print-config shows is TOML that gives the same settings, secrets apart."""
    shown = load("--server.host", 'a"\\\n', "--server.key", "hush", "--names", "é")
    text = render_settings("shop", shown)

    assert "hush" not in text
    again = load("--server.key", "hush", config=toml(tmp_path, text))
    assert again == shown


def test_rendered_settings_note_what_is_unset() -> None:
    """A key without a value is mentioned, so that the list is complete."""
    assert "# key is unset" in render_settings("shop", ShopSettings())


def _town(environment: Mapping[str, str]) -> str | None:
    if environment.get("TOWN") == "nowhere":
        raise ValueError("TOWN is no town")
    return environment.get("TOWN")


class MapSettings(SettingsGroup):
    """A service with a setting that a variable of others may say."""

    town: Annotated[str, FromEnvironment(_town)] = "here"
    """Town."""


class AtlasSettings(SettingsGroup):
    """Its group."""

    map: MapSettings = MapSettings()
    """Map."""


@pytest.mark.parametrize(
    ("variable", "argv", "expected"),
    [
        (None, [], "here"),
        ("there", [], "there"),
        ("there", ["--map.town", "flag"], "flag"),
        ("nowhere", ["--map.town", "flag"], "flag"),
    ],
)
def test_variables_of_others(
    variable: str | None, argv: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is not ours holds, and is read, only where no source says anything."""
    if variable is not None:
        monkeypatch.setenv("TOWN", variable)
    parser = ArgumentParser(prog="atlas", allow_abbrev=False)
    loader = SettingsLoader("atlas", AtlasSettings, {"atlas": AtlasSettings}, parser)
    assert loader.load(parser.parse_args(argv)).map.town == expected


def test_bad_variable_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be used stops the start."""
    monkeypatch.setenv("TOWN", "nowhere")
    parser = ArgumentParser(prog="atlas", allow_abbrev=False)
    loader = SettingsLoader("atlas", AtlasSettings, {"atlas": AtlasSettings}, parser)
    with pytest.raises(StartError, match="environment: TOWN is no town"):
        loader.load(parser.parse_args([]))
