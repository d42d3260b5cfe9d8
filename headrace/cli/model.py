"""`headrace model`: what is in the cache folder, and the default model into it."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from headrace.cli.tables import load_models_settings
from headrace.models.cache import list_models
from headrace.models.default import DEFAULT_MODEL, prepare_default_model
from headrace.models.directory import ModelDirectory
from headrace.runtime.progress import Progress

_DESCRIPTION = f"""\
Models in the cache folder ([models] cache_dir in the settings file, HEADRACE_MODELS__CACHE_DIR in
the environment, --cache-dir here).

  pull    prepare the default model, {DEFAULT_MODEL.name}; nothing to do where it is there
  list    name, context length and folder of every model in the cache
"""


def main(argv: list[str]) -> int:
    """Run `headrace model`; returns the exit code. Raises StartError."""
    parser = ArgumentParser(
        prog="headrace model",
        description=_DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=("pull", "list"), help="see above")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the services' settings file")
    parser.add_argument("--cache-dir", type=Path, metavar="FOLDER", help="the cache folder")
    arguments = parser.parse_args(argv)
    cache_dir = arguments.cache_dir or load_models_settings(arguments.config).cache_dir
    if arguments.action == "pull":
        sys.stdout.write(f"{prepare_default_model(cache_dir, Progress())}\n")
        return 0
    return _list(cache_dir)


def _list(cache_dir: Path) -> int:
    """Healthy models on stdout, one a line; a sentence on stderr for each broken one, and 1."""
    broken = 0
    for entry in list_models(cache_dir):
        if isinstance(entry, ModelDirectory):
            sys.stdout.write(f"{entry.name}\t{entry.context_length} tokens\t{entry.path}\n")
        else:
            broken += 1
            sys.stderr.write(f"headrace: {entry}\n")
    return 1 if broken else 0
