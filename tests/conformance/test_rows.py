"""Every row of the wire's specification is named by a test, and every name is a row."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.rows import ROWS

TESTS = Path(__file__).parents[1]


def _named_rows() -> Iterator[str]:
    """The arguments of all `pytest.mark.wire(...)` in the tests."""
    for file in TESTS.rglob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        if "mark.wire" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "wire"
            ):
                yield from (str(ast.literal_eval(argument)) for argument in node.args)


def test_every_row_has_a_test() -> None:
    """No row of the specification is left without a test that names it."""
    assert sorted(ROWS - set(_named_rows())) == []


def test_every_name_is_a_row() -> None:
    """A misspelt row would hide a missing test."""
    assert sorted(set(_named_rows()) - ROWS) == []
