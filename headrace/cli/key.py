"""`headrace key`: makes API keys, and hashes those that there are already.

A key is printed once and kept nowhere; what the key file holds is its SHA-256. Keys are read from
stdin alone: arguments are seen by every process of the machine and kept by shells.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from headrace.access.key_file import check_entry
from headrace.access.keys import LEAST_CHARACTERS, hash_key, mint_key
from headrace.runtime.errors import StartError
from headrace.runtime.settings import render_value

_DESCRIPTION = """\
API keys of callers. A key file ([edge.keys] file, [worker.keys] file, [tokenizer.keys] file in the
settings) has one [[keys]] entry for each key, with the key's SHA-256 and never the key itself.

  new     make a key of 256 random bits; print it, once, and the entry to paste into the key file
  hash    read a key from stdin and print its SHA-256, for a key that is in use already
"""
_EPILOG = """\
examples:
  headrace key new --tenant acme --tokens-per-minute 90000 --requests-per-minute 60
  headrace key new --trusted --label edge        for [edge.backend] api_key_file
  headrace key hash < key.txt
"""
_STRINGS = ("label", "tenant", "profile")
_NUMBERS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests", "priority")


def main(argv: list[str]) -> int:
    """Run `headrace key`; returns the exit code. Raises StartError."""
    arguments = _parser().parse_args(argv)
    return _new(arguments) if arguments.action == "new" else _hash()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="headrace key",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key", allow_abbrev=False)
    for name in _STRINGS:
        new.add_argument(f"--{name}", metavar="NAME")
    new.add_argument("--model", action="append", dest="models", metavar="NAME", help="repeatable")
    for name in _NUMBERS:
        new.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    new.add_argument("--trusted", action="store_true", help="a service that speaks for others")
    actions.add_parser("hash", help="read a key from stdin", allow_abbrev=False)
    return parser


def _new(arguments: Namespace) -> int:
    key = mint_key()
    names = (*_STRINGS, "models", *_NUMBERS)
    given = {name: getattr(arguments, name) for name in names}
    fields = {name: value for name, value in given.items() if value is not None}
    if arguments.trusted:
        fields["trusted"] = True
    entry = {"sha256": hash_key(key), **fields}
    check_entry(entry)
    lines = [f"{name} = {render_value(value)}" for name, value in entry.items()]
    sys.stderr.write("The key, for whoever calls; it is shown this once:\n\n")
    sys.stdout.write(f"{key}\n")
    sys.stdout.flush()
    sys.stderr.write("\nIts entry in the key file, without the key itself:\n\n")
    sys.stderr.flush()
    sys.stdout.write("[[keys]]\n" + "\n".join(lines) + "\n")
    return 0


def _hash() -> int:
    text = sys.stdin.read()
    key = text.strip()
    if not key or len(key.split()) != 1:
        raise StartError("headrace key hash reads one key, in one line, from stdin")
    if len(key) < LEAST_CHARACTERS:
        sys.stderr.write(
            f"headrace: the key has {len(key)} characters; one below {LEAST_CHARACTERS} may be "
            "found by trying, its hash does not hide it: `headrace key new` makes a better one\n"
        )
    sys.stdout.write(f"{hash_key(key)}\n")
    return 0
