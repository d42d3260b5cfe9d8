"""Settings of a service: frozen groups, checked, from four sources; unknown keys stop the start.

Later sources win: defaults, the TOML file's table of the service, the environment
(`HEADRACE_<SERVICE>__GROUP__FIELD`; empty is unset), flags (`--group.field`). The file serves all
services: each reads its own table, and the keys of every table are checked, so that a misspelt key
is found by whichever service starts first. Where no source says anything, a field's default may
come from variables that are not ours (`FromEnvironment`). This module is the only reader of
os.environ.
"""

import difflib
import os
import re
import tomllib
import types
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from headrace.runtime.errors import StartError

_PREFIX = "HEADRACE_"
_DELIMITER = "__"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class SettingsGroup(BaseModel):
    """A frozen group of settings; field docstrings are the reference documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """Annotates a field whose default may come from variables that are not Headrace's own."""

    read: Callable[[Mapping[str, str]], str | None]
    """The value by the whole environment; None for none. Raises ValueError, one sentence."""


SettingsT = TypeVar("SettingsT", bound=SettingsGroup)
Tables = Mapping[str, type[SettingsGroup]]
"""The settings class of every table of the file, by the table's name."""


class SettingsLoader(Generic[SettingsT]):
    """Reads one service's settings from all sources.

    Making one adds `--config` and a flag for every setting to `parser`; nothing else may add flags
    whose values should not reach the settings.
    """

    def __init__(
        self, service: str, settings: type[SettingsT], tables: Tables, parser: ArgumentParser
    ) -> None:
        self._service = service
        self._settings = settings
        self._tables = tables
        self._file_table: dict[str, Any] = {}
        self._standard: dict[str, Any] = {}
        self._class = _with_sources(service, settings, self._file_table, self._standard)
        parser.add_argument(
            "--config", type=Path, metavar="FILE", help="TOML file with the services' settings"
        )
        self._flags: CliSettingsSource[Any] = CliSettingsSource(
            self._class, root_parser=parser, cli_hide_none_type=True, cli_avoid_json=True
        )

    def load(self, arguments: Namespace) -> SettingsT:
        """All sources merged and checked.

        Raises StartError, one sentence, that names each key that is unknown or has a bad value.
        """
        flags = vars(arguments).copy()
        tables = read_settings_file(flags.pop("config"), self._tables)
        check_environment(self._tables)
        self._file_table.clear()
        self._file_table.update(tables.get(self._service, {}))
        self._standard.clear()
        self._standard.update(_standard_values(self._read(flags)))
        sourced = self._read(flags)
        # The sources' class is ours alone: callers get, and may compare, the class that they know.
        fields = {name: getattr(sourced, name) for name in self._settings.model_fields}
        return self._settings.model_validate(fields)

    def _read(self, flags: Mapping[str, Any]) -> BaseSettings:
        """All sources as they are now. Raises StartError."""
        try:
            source = self._flags(parsed_args=Namespace(**flags))
            return self._class(_cli_settings_source=source)
        except ValidationError as error:
            raise StartError(_sentence(error, self._service, self._class)) from error
        except SettingsError as error:
            detail = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
            raise StartError(f"settings of {self._service}: {detail}") from error


def read_settings_file(file: Path | None, tables: Tables) -> dict[str, dict[str, Any]]:
    """The file's tables by name; empty without a file. Raises StartError for an unknown key."""
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartError(f"settings file {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StartError(f"settings file {file} is not valid TOML: {error}") from error
    for name, table in content.items():
        if name not in tables:
            raise StartError(f"settings file {file}: unknown table [{name}]{_hint(name, tables)}")
        if not isinstance(table, dict):
            raise StartError(f"settings file {file}: {name} must be a table, [{name}]")
        for key, hint in _unknown_keys(tables[name], table):
            raise StartError(f"settings file {file}: unknown key {name}.{key}{hint}")
    return content


def check_environment(tables: Tables) -> None:
    """Raise StartError for a HEADRACE_* variable that names no setting of any service."""
    for variable in sorted(os.environ):
        if variable.upper().startswith(_PREFIX):
            service, *path = variable[len(_PREFIX) :].lower().split(_DELIMITER)
            group = tables.get(service)
            if group is None or not path or not _names_setting(group, path):
                raise StartError(
                    f"environment variable {variable} names no setting; they are spelt "
                    f"{_PREFIX}<{'|'.join(name.upper() for name in tables)}>__GROUP__FIELD"
                )


def allows_colours() -> bool:
    """Whether the user lets terminals be coloured: NO_COLOR is unset or empty (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def render_settings(service: str, settings: SettingsGroup) -> str:
    """The effective values as the TOML that would give them; secrets masked, unset keys noted."""
    return "\n".join(_render_table(service, settings.model_dump(mode="json")))


def _with_sources(
    service: str,
    settings: type[SettingsGroup],
    file_table: dict[str, Any],
    standard: dict[str, Any],
) -> type[BaseSettings]:
    """The settings class joined with the library's sources; an instance is one of both classes."""

    class Sourced(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=f"{_PREFIX}{service.upper()}{_DELIMITER}",
            env_nested_delimiter=_DELIMITER,
            env_ignore_empty=True,
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library's signature)
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (likewise)
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                env_settings,
                InitSettingsSource(settings_cls, file_table),
                InitSettingsSource(settings_cls, standard),
            )

    joined = types.new_class(settings.__name__, (settings, Sourced))
    joined.__doc__ = settings.__doc__
    return cast(type[BaseSettings], joined)


def _standard_values(group: BaseModel) -> dict[str, Any]:
    """What variables that are not ours say of the fields that nobody set, nested as the groups."""
    values: dict[str, Any] = {}
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        found: Any = _standard_values(value) if isinstance(value, SettingsGroup) else None
        sources = () if name in group.model_fields_set else field.metadata
        for source in sources:
            if isinstance(source, FromEnvironment):
                try:
                    found = source.read(os.environ)
                except ValueError as error:
                    raise StartError(f"environment: {error}") from error
        if found:
            values[name] = found
    return values


def _group_of(annotation: object) -> type[SettingsGroup] | None:
    """The group that a field holds, also where it is optional; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, SettingsGroup):
        return annotation
    options = [option for option in get_args(annotation) if option is not type(None)]
    return _group_of(options[0]) if len(options) == 1 else None


def _unknown_keys(
    group: type[SettingsGroup], table: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Dotted keys of `table` that name no field, each with a hint; lists are left to validation."""
    for key, value in table.items():
        field = group.model_fields.get(key)
        if field is None:
            yield prefix + key, _hint(key, group.model_fields)
            continue
        nested = _group_of(field.annotation)
        if nested is not None and isinstance(value, dict):
            yield from _unknown_keys(nested, value, f"{prefix}{key}.")


def _names_setting(group: type[SettingsGroup], path: list[str]) -> bool:
    field = group.model_fields.get(path[0])
    if field is None:
        return False
    nested = _group_of(field.annotation)
    return len(path) == 1 or (nested is not None and _names_setting(nested, path[1:]))


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _sentence(error: ValidationError, service: str, settings: type[BaseModel]) -> str:
    """Every bad value with its key; the value of a secret is never shown."""
    parts = []
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        shown = "" if item["type"] == "missing" or _is_secret(settings, path) else item["input"]
        value = "" if shown == "" else f" (is {shown!r})"
        message = item["msg"][:1].lower() + item["msg"][1:]
        parts.append(f"{'.'.join([service, *path])}: {message}{value}")
    return "setting " + "; ".join(parts)


def _is_secret(settings: type[BaseModel], path: list[str]) -> bool:
    """Whether the path leads to a secret; a group that fails as a whole counts as one."""
    for position, part in enumerate(path):
        field = settings.model_fields.get(part)
        if field is None:
            return False
        nested = _group_of(field.annotation)
        if nested is None:
            kinds = {field.annotation, *get_args(field.annotation)}
            return bool(kinds & {SecretStr, SecretBytes})
        if position == len(path) - 1:
            return True
        settings = nested
    return False


def _render_table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    tables = {key: value for key, value in values.items() if isinstance(value, dict) and value}
    for key, value in values.items():
        if key not in tables:
            yield f"# {key} is unset" if value is None else f"{_key(key)} = {render_value(value)}"
    for key, value in tables.items():
        yield ""
        yield from _render_table(f"{name}.{_key(key)}", value)


def _key(name: str) -> str:
    """A key as TOML spells it; those that somebody chose may need quotes."""
    return name if _BARE_KEY.fullmatch(name) else f'"{_escaped(name)}"'


def render_value(value: object) -> str:
    """A value as TOML has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list():
            return f"[{', '.join(render_value(item) for item in value)}]"
        case dict():
            pairs = (f"{_key(key)} = {render_value(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}"
        case _:
            return f'"{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    """TOML's basic string: quotes, backslashes and control characters escaped."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return "".join(
        escapes.get(char, char if char.isprintable() else f"\\U{ord(char):08x}") for char in text
    )
