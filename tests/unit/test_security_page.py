"""SECURITY.md says what is so: the tests and settings that it names exist."""

import re
from pathlib import Path

from headrace.cli.tables import settings_tables
from headrace.runtime.settings import SettingsGroup

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]


def test_every_row_names_tests_that_exist() -> None:
    """A claim has a test file, or says that it has none."""
    threats = [row for row in ROWS if row[0].strip() != "threat"]
    assert len(threats) > 25
    for row in threats:
        assert len(row) == 5, row
        files = re.findall(r"`([^`]+)`", row[3])
        assert files or row[3].strip() == "none", row
        for file in files:
            assert (ROOT / file).is_file(), file


def test_every_setting_exists() -> None:
    """Dotted names that begin with a service lead to a field."""
    tables = settings_tables()
    names = re.findall(r"`((?:edge|worker|tokenizer)\.[a-z0-9_.]+)`", PAGE)
    assert len(names) > 15
    for name in names:
        service, *path = name.split(".")
        group: type[SettingsGroup] = tables[service]
        for index, part in enumerate(path):
            assert part in group.model_fields, name
            annotation = group.model_fields[part].annotation
            if index < len(path) - 1:
                assert isinstance(annotation, type), name
                group = annotation
