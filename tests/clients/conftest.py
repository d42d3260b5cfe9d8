"""One stack with the default model and a key, and what each client's program told of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from edge.settings import EdgeSettings
from headrace.access.settings import GenerationKeysSettings
from tests.support.keys import KEY, entry, write_keys
from tests.support.stack import MODEL, ROOT, Stack, clean_environment
from worker.engine.openvino.settings import OpenVinoSettings
from worker.settings import WorkerSettings

Told: TypeAlias = dict[str, Any]
_NODE = Path(__file__).parent / "node"
# The environment that each program in python/ runs in; those of node/ have their package.json.
_ENVIRONMENTS = {
    "openai": "clients",
    "langchain": "clients",
    "litellm": "clients-openai2",
    "instructor": "clients-openai2",
    "pydantic_ai": "clients",
    "llm": "clients",
}
_RUN_SECONDS = 120.0
_INSTALL_SECONDS = 200.0


@pytest.fixture(scope="session")
def keyed_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default model as it is served by default, behind a key."""
    folder = tmp_path_factory.mktemp("clients")
    stack = Stack(folder)
    try:
        stack.start_backend([WorkerSettings(openvino=OpenVinoSettings(kv_cache_bytes=256 << 20))])
        keys = write_keys(folder / "keys.toml", entry(KEY))
        stack.add_edge(EdgeSettings(keys=GenerationKeysSettings(file=keys)))
        yield stack
    finally:
        stack.close()


def _run_program(command: list[str], folder: Path, home: Path) -> str:
    """Run a client's program; returns what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_SECONDS,
        # Nothing of whoever runs the tests: no keys, no proxies, no folders of theirs.
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            # It would look for prices elsewhere.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _python(environment: str) -> str:
    python = ROOT / ".venv-clients" / environment / "bin" / "python"
    assert python.exists(), f"{python} is missing: make clients"
    return str(python)


@pytest.fixture(scope="session")
def node_packages() -> None:
    """The packages of node/, as their lock file has them."""
    for tool in ("node", "npm"):
        assert shutil.which(tool), f"the Node clients need {tool}"
    installed = _NODE / "node_modules" / ".package-lock.json"
    lock = _NODE / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts"],
            cwd=_NODE,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_SECONDS,
            env=clean_environment(),
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def told_by(
    keyed_stack: Stack,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Callable[[str], Told]:
    """What a client's program told; it runs once, when first asked for."""
    known: dict[str, Told] = {}

    def run(name: str) -> Told:
        if name.startswith("node_"):
            request.getfixturevalue("node_packages")
            folder, command = _NODE, ["node", f"{name.removeprefix('node_')}_client.mjs"]
        else:
            program = f"tests.clients.python.{name}_client"
            folder, command = ROOT, [_python(_ENVIRONMENTS[name]), "-m", program]
        command += [f"{keyed_stack.edge.url}/v1", KEY, MODEL]
        lines = _run_program(command, folder, tmp_path_factory.mktemp(name)).splitlines()
        found: Told = json.loads(lines[-1])
        return found

    def told(name: str) -> Told:
        if name not in known:
            known[name] = run(name)
        return known[name]

    return told


@pytest.fixture
def run_snippet(
    keyed_stack: Stack, node_packages: None, tmp_path: Path
) -> Callable[[str, str], str]:
    """Runs a program in `python` or `js` that was written for a server without keys."""

    def run(language: str, program: str) -> str:
        program = program.replace("http://127.0.0.1:8000", keyed_stack.edge.url)
        program = program.replace('"none"', f'"{KEY}"')
        if language == "js":
            command = ["node", "--input-type=module", "--eval", program]
            return _run_program(command, _NODE, tmp_path)
        return _run_program([_python("clients"), "-c", program], tmp_path, tmp_path)

    return run
