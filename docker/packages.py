"""The packages of the interpreter that runs this, for install.sh.

packages.py list             name==version of each, by name
packages.py missing LOCK     the requirements of LOCK whose package is not installed
packages.py unchanged FILE   exits with 1 if a package of FILE, as listed, is gone or changed
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def installed() -> dict[str, str]:
    """Version of each package by its normalised name; of two of one name, the imported."""
    found: dict[str, str] = {}
    for distribution in distributions():
        found.setdefault(_normalised(distribution.name), distribution.version)
    return found


def requirements(lock: str) -> list[str]:
    """The lock file's requirements, each with the lines of its hashes."""
    lines = [
        line for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return "\n".join(lines).replace("\\\n ", "\\\0").splitlines()


def missing(lock: str) -> list[str]:
    """The requirements whose package is not installed, in whatever version."""
    have = installed()
    return [
        requirement.replace("\0", "\n ")
        for requirement in requirements(lock)
        if _normalised(_name(requirement)) not in have
    ]


def changes(listed: str) -> list[str]:
    """What is no longer as listed, a sentence each."""
    have = installed()
    before = [line.split("==", 1) for line in listed.splitlines()]
    return [
        f"{name} was {version} and is {have.get(name, 'gone')}"
        for name, version in before
        if have.get(name) != version
    ]


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    if match is None:
        raise ValueError(f"no package is named by {requirement!r}")
    return match[0]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(verb: str, *files: str) -> int:
    """Run one of the verbs above; returns the exit code."""
    texts = [Path(file).read_text(encoding="utf-8") for file in files]
    match verb, texts:
        case "list", []:
            lines = [f"{name}=={version}" for name, version in sorted(installed().items())]
        case "missing", [lock]:
            lines = missing(lock)
        case "unchanged", [listed]:
            lines = changes(listed)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if verb == "unchanged" and lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
