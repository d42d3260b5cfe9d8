"""`headrace model`: what is in the cache folder, and how models come into it."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.cli.tables import load_models_settings
from headrace.models.cache import CachedModel, list_models, resolve_model
from headrace.models.child_program import run_module
from headrace.models.default import DEFAULT_MODEL, prepare_default_model
from headrace.models.directory import ModelDirectory
from headrace.models.importing import import_model
from headrace.models.pulling import pull_model
from headrace.models.receipt import find_faults
from headrace.models.settings import ModelsSettings
from headrace.runtime.progress import Progress

_DESCRIPTION = """\
Models in the cache folder ([models] cache_dir in the settings file, HEADRACE_MODELS__CACHE_DIR in
the environment, --cache-dir here). `headrace serve --model NAME` serves one.

  pull      fetch a model over HTTPS, check it, and put it into the cache
  import    the same with a GGUF file or an OpenVINO directory of this machine
  list      name, context, vocabulary, size, engine files and fingerprint of every model
  verify    compare every file with the size and SHA-256 recorded when it came
"""
_EPILOG = """\
examples:
  headrace model pull                                              the default model
  headrace model pull OpenVINO/Qwen2.5-0.5B-Instruct-fp16-ov       a hub id, OpenVINO's format
  headrace model pull https://host/folder/model-Q4_0.gguf --name small
  headrace model import ./Llama-3.2-1B-Instruct-Q8_0.gguf
  headrace model verify small
"""
_PULL = f"""\
MODEL is one of
  nothing        the default model, {DEFAULT_MODEL.name}; nothing is done where it is there
  owner/name     a repository of the hub ([models] hub_endpoint, Hugging Face's or one like it) that
                 is public and in OpenVINO's format: configuration, tokenizer, template, weights
  https://…      the address of one GGUF file

A download that was cut goes on where it stopped. Sizes and SHA-256 are checked where the server
gives them. Then the model is treated as `headrace model import` does.
"""
_IMPORT = """\
PATH is a GGUF file (llama, qwen2 and qwen3 families with a BPE tokenizer; F16, Q4_0, Q4_1, Q8_0,
Q4_K and Q6_K), which is converted, or a folder in Hugging Face's layout with openvino_model.xml and
.bin, which is copied. The model is tried out by one step of the CPU engine, in a process of its
own. What cannot be served is refused, saying why: another architecture, mixtures of experts,
sliding-window attention, a missing tokenizer or chat template, an unknown pre-tokenizer…
"""
_LIST = """\
One line a model: name, context in tokens, vocabulary, size on disk, engine files, the tokenizer's
fingerprint. A model that cannot be opened is marked `broken`, with the reason; exit code 1 then.
"""
_VERIFY = """\
One line a model: `ok`, or `broken` with what differs. Reads every byte. Exit code 1 where a model
is broken.
"""


def main(argv: list[str]) -> int:
    """Run `headrace model`; returns the exit code. Raises StartError."""
    arguments = _parser().parse_args(argv)
    settings = load_models_settings(arguments.config)
    if arguments.cache_dir is not None:
        settings = settings.model_copy(update={"cache_dir": arguments.cache_dir})
    actions: Mapping[str, Callable[[Namespace, ModelsSettings], int]] = {
        "pull": _pull,
        "import": _import,
        "list": _list,
        "verify": _verify,
    }
    return actions[arguments.action](arguments, settings)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="headrace model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Before and after the action's name; given twice, the later one counts.
    everywhere = ArgumentParser(add_help=False)
    for options, default in ((parser, None), (everywhere, SUPPRESS)):
        add = options.add_argument
        add("--config", type=Path, metavar="FILE", default=default, help="the settings file")
        add("--cache-dir", type=Path, metavar="FOLDER", default=default, help="the cache folder")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    texts = {"pull": _PULL, "import": _IMPORT, "list": _LIST, "verify": _VERIFY}
    pull, take, _, verify = (
        actions.add_parser(
            name,
            parents=[everywhere],
            description=text,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, text in texts.items()
    )
    pull.add_argument("model", nargs="?", metavar="MODEL", help="see above")
    take.add_argument("path", type=Path, metavar="PATH", help="see above")
    for parser_of_new in (pull, take):
        parser_of_new.add_argument("--name", help="its name in the cache (default: the source's)")
    verify.add_argument("name", nargs="?", metavar="NAME", help="one model (default: all)")
    return parser


def _pull(arguments: Namespace, settings: ModelsSettings) -> int:
    progress = Progress()
    if arguments.model is None:
        folder = prepare_default_model(settings.cache_dir, progress)
    else:
        folder = pull_model(arguments.model, settings, progress, _run_trial, arguments.name)
    sys.stdout.write(f"{folder}\n")
    return 0


def _import(arguments: Namespace, settings: ModelsSettings) -> int:
    folder = import_model(
        arguments.path, settings.cache_dir, Progress(), _run_trial, arguments.name
    )
    sys.stdout.write(f"{folder}\n")
    return 0


def _run_trial(folder: Path, progress: Progress) -> None:
    """One step in a child process: it loads the engine's libraries and the weights."""
    log = folder.parent / "trial.log"
    run_module("headrace.cli.model_trial", [str(folder)], log, progress, "the trial")


def _list(_arguments: Namespace, settings: ModelsSettings) -> int:
    entries = list_models(settings.cache_dir)
    rows = [_row(entry, entry.model) for entry in entries if entry.model is not None]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    broken = [entry for entry in entries if entry.model is None]
    for entry in broken:
        sys.stdout.write(f"{entry.path.name}  broken: {entry.fault}\n")
    return 1 if broken else 0


def _row(entry: CachedModel, model: ModelDirectory) -> tuple[str, ...]:
    return (
        entry.path.name,
        f"{model.context_length} tokens",
        f"{model.vocabulary_size} ids",
        f"{entry.size_bytes / 1e6:.1f} MB",
        ", ".join(entry.engine_files) or "no engine files",
        model.tokenizer_fingerprint,
    )


def _verify(arguments: Namespace, settings: ModelsSettings) -> int:
    if arguments.name is not None:
        folders = [resolve_model(arguments.name, settings.cache_dir)]
    else:
        folders = [entry.path for entry in list_models(settings.cache_dir)]
    num_broken = 0
    for folder in folders:
        faults = find_faults(folder)
        num_broken += bool(faults)
        verdict = f"broken: {'; '.join(faults)}" if faults else "ok"
        sys.stdout.write(f"{folder.name}  {verdict}\n")
        sys.stdout.flush()
    return 1 if num_broken else 0
