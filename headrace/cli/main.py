"""The headrace command: finds the subcommand and runs it.

A subcommand's module, and the service behind it, is imported only when that subcommand runs.
Exit codes: 0 done or stopped in order, 1 a sentence on stderr says why not, 2 wrong arguments,
130 and 143 ended by SIGINT and SIGTERM before there was anything to stop in order.
"""

import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from headrace.runtime.errors import StartError
from headrace.runtime.identity import Identity
from headrace.runtime.lifecycle import report_start_error

_DESCRIPTION = """\
OpenAI-compatible chat completions over HTTP and SSE, from TensorRT-LLM and CPU workers over gRPC.

commands:
  serve       edge, tokenizer and worker on this machine, as one: the way to begin
  edge        the HTTP side alone: /v1/chat/completions, /v1/models, /health, /ready
  tokenizer   the tokenizer service alone: templates, encoding, detokenizing
  worker      one worker alone: an engine with a model
  model       pull | import | list | verify: the models in the cache folder
  key         new | hash: API keys for the key file
  render      the prompt that a request becomes: text, tokens, block digests, guide
  doctor      whether this machine can serve with TensorRT-LLM, and what to do if not
"""
_EPILOG = """\
examples:
  headrace serve                                 the default model on http://127.0.0.1:8000
  headrace serve --workers 2 --port 9000         two workers, another port
  headrace serve --engine paced                  tokens at a set rate without computing: for tests
  headrace worker --model ./my-model --port 50061
  headrace model import ./my-model.gguf          then: headrace serve --model my-model
  headrace key new --tenant acme                 a key, and its entry for [edge.keys] file
  headrace edge --config headrace.toml --print-config
  headrace render request.json --ids
  headrace doctor --model ./Llama-3.1-8B-Instruct   what is missing, then one request

Settings come from defaults, then the file given by --config (tables [edge], [tokenizer], [worker],
[models]), then HEADRACE_<SERVICE>__GROUP__FIELD in the environment, then flags; later ones win.
`headrace COMMAND --help` lists every flag.
"""
_COMMANDS = ("serve", "edge", "tokenizer", "worker", "model", "key", "render", "doctor")
# The extra of pyproject.toml that holds a command's libraries, where it is not the command's name.
_EXTRAS = {"worker": "openvino", "model": "openvino", "render": "serve", "doctor": "tensorrt-llm"}
_OWN_PACKAGES = ("", "headrace", "edge", "tokenizer_svc", "worker")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's); returns the exit code."""
    parser = ArgumentParser(
        prog="headrace",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        usage="headrace COMMAND [options]",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=Identity().build)
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="see above")
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(given[:1])
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        return _run(arguments.command, given[1:])
    except StartError as error:
        report_start_error(error)
        return 1
    except ModuleNotFoundError as error:
        report_start_error(_missing_extra(arguments.command, error))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nheadrace: interrupted\n")
        return 128 + signal.SIGINT


def _run(command: str, argv: list[str]) -> int:
    # Each command loads only what it needs: a worker no HTTP server, `model` no gRPC.
    if command == "serve":
        from headrace.cli.serve import main as serve  # noqa: PLC0415 (see above)

        return serve(argv)
    if command == "model":
        from headrace.cli.model import main as model  # noqa: PLC0415 (see above)

        return model(argv)
    if command == "key":
        from headrace.cli.key import main as key  # noqa: PLC0415 (see above)

        return key(argv)
    if command == "render":
        from headrace.cli.render import main as render  # noqa: PLC0415 (see above)

        return render(argv)
    if command == "doctor":
        from headrace.cli.doctor import main as doctor  # noqa: PLC0415 (see above)

        return doctor(argv)
    from headrace.cli.service import main as service  # noqa: PLC0415 (see above)

    return service(command, argv)


def _missing_extra(command: str, error: ModuleNotFoundError) -> StartError:
    """What to install; raises the error again where it is no library that is missing."""
    library = (error.name or "").partition(".")[0]
    if library in _OWN_PACKAGES:
        raise error
    extra = _EXTRAS.get(command, command)
    return StartError(
        f"`headrace {command}` needs {library}, which is not installed: install headrace[{extra}]"
    )


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """End as an exception would, so that child processes and locks are released."""
    sys.exit(128 + number)
