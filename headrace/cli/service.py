"""`headrace edge|tokenizer|worker`: one service in this process."""

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.cli.tables import load_models_settings, settings_tables
from headrace.runtime.frozen_start import freeze_start
from headrace.runtime.lifecycle import run_service
from headrace.runtime.logs import LOG_FORMATS, LOG_LEVELS, configure_logs
from headrace.runtime.parent_death import die_with_parent
from headrace.runtime.settings import SettingsLoader, render_settings

_DESCRIPTIONS = {
    "edge": "HTTP and SSE: OpenAI's chat completions, from workers and tokenizers over gRPC.",
    "tokenizer": "The tokenizer service: chat templates, encoding, incremental detokenizing.",
    "worker": "One worker: an engine with a model, behind gRPC.",
}
_PROCESS_FLAGS = ("print_config", "log_level", "log_format", "die_with_parent")
_EPILOG = """\
The same settings stand in the file's table [{service}] and in the environment as
HEADRACE_{upper}__GROUP__FIELD; flags win. SIGINT or SIGTERM drains and ends the service, a second
one ends it at once.
"""


def main(service: str, argv: list[str]) -> int:
    """Run the service until it is stopped; returns the exit code. Raises StartError."""
    parser = ArgumentParser(
        prog=f"headrace {service}",
        description=_DESCRIPTIONS[service],
        epilog=_EPILOG.format(service=service, upper=service.upper()),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    own = parser.add_argument_group("process")
    own.add_argument("--print-config", action="store_true", help="show the settings and exit")
    own.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    own.add_argument(
        "--log-format", choices=LOG_FORMATS, default="auto", help="auto: json unless a terminal"
    )
    own.add_argument("--die-with-parent", type=int, metavar="PID", help=SUPPRESS)
    tables = settings_tables()
    loader = SettingsLoader(service, tables[service], tables, parser)
    arguments = vars(parser.parse_args(argv))
    process = Namespace(**{name: arguments.pop(name) for name in _PROCESS_FLAGS})
    if process.die_with_parent is not None:
        die_with_parent(process.die_with_parent)
    settings = loader.load(Namespace(**arguments))
    if process.print_config:
        sys.stdout.write(render_settings(service, settings) + "\n")
        return 0
    configure_logs(process.log_level, service=service, style=process.log_format)
    run = _runner(service, arguments["config"])
    # All is imported; an in-process service, as in tests, leaves its host's objects alone.
    freeze_start()
    return run_service(run, settings)


def _runner(service: str, config: Any) -> Callable[..., Any]:
    """The service's `run`; services that read model directories are told where those are."""
    # Only the chosen service is imported: each brings libraries that the others do without.
    if service == "edge":
        from edge.main import run as run_edge  # noqa: PLC0415 (see above)

        return run_edge
    models = load_models_settings(config)
    if service == "tokenizer":
        from tokenizer_svc.main import run as run_tokenizer  # noqa: PLC0415 (see above)

        return partial(run_tokenizer, models=models)
    from worker.main import run as run_worker  # noqa: PLC0415 (see above)

    return partial(run_worker, models=models)
