"""The page FIELDS.md, generated from `FIELDS`: request field → proto field → engine field.

`python -m edge.openai.fields_page` writes it; with `--check` it only says whether the file is what
it would write, by its exit code.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.openai.checks import NumberRange
from edge.openai.fields import FIELDS, FieldSpec, Use
from edge.openai.problems import number_text

PAGE = Path(__file__).parents[1] / "FIELDS.md"
_HEAD = """\
# Fields of a chat completion request

Generated from `edge/openai/fields.py` by `python -m edge.openai.fields_page`; do not edit.

Every field of OpenAI's chat completions and of the APIs that the profiles follow, and what becomes
of it. `null` is absent, and so is a value that says what is the case anyway. Fields that are not
listed are taken without effect and named in `x-headrace-ignored`, like those marked *hint*.

- **range**: strict profiles refuse what is outside; lenient ones take the nearest value, named in
  `x-headrace-clamped`.
- **lenient**: the use that lenient profiles make of it, if another.
- **model**: a *must* field is refused by name where the model's workers do not honour it; a *may*
  field is, too, by strict profiles; lenient ones leave it out, named in `x-headrace-ignored`.
- **proto field**: `RenderRequest` and `DetokenizeOpen` go to the tokenizer, `GenerationRequest` to
  the worker, whose engine sees it as the **engine field**.

| request field | range | use | lenient | model | proto field | engine field | remarks |
|---|---|---|---|---|---|---|---|
"""


def render_page() -> str:
    """The page's text."""
    return _HEAD + "".join(map(_row, FIELDS))


def _row(spec: FieldSpec) -> str:
    lenient = "" if spec.lenient is None else spec.lenient.value
    cells = (
        f"`{spec.name}`",
        _range(spec),
        spec.use.value,
        lenient,
        _model(spec),
        _code(spec.proto),
        _code(spec.engine),
        spec.note,
    )
    return f"| {' | '.join(cells)} |\n"


def _range(spec: FieldSpec) -> str:
    check = spec.check
    if not isinstance(check, NumberRange):
        return ""
    least = ("> " if check.above_least else "") + number_text(check.least)
    return f"{least} … {number_text(check.most)}"


def _model(spec: FieldSpec) -> str:
    if spec.use is not Use.CARRIED or not spec.is_optional:
        return ""
    return "may" if spec.is_droppable else "must"


def _code(name: str | None) -> str:
    return "" if name is None else f"`{name}`"


def main(argv: Sequence[str]) -> int:
    """Write the page, or with --check compare it; 1 = it differs."""
    parser = argparse.ArgumentParser(prog="python -m edge.openai.fields_page")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    page = render_page()
    if not parser.parse_args(argv).check:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page:
        return 0
    sys.stderr.write(f"{PAGE.name} differs: run python -m edge.openai.fields_page\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
