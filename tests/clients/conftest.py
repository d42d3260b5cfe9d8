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


def _run(command: list[str], folder: Path, home: Path, url: str) -> Told:
    done = subprocess.run(
        [*command, f"{url}/v1", KEY, MODEL],
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
    told: Told = json.loads(done.stdout.splitlines()[-1])
    return told


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
        home = tmp_path_factory.mktemp(name)
        if name.startswith("node_"):
            request.getfixturevalue("node_packages")
            program = f"{name.removeprefix('node_')}_client.mjs"
            return _run(["node", program], _NODE, home, keyed_stack.edge.url)
        python = ROOT / ".venv-clients" / _ENVIRONMENTS[name] / "bin" / "python"
        assert python.exists(), f"{python} is missing: make clients"
        command = [str(python), "-m", f"tests.clients.python.{name}_client"]
        return _run(command, ROOT, home, keyed_stack.edge.url)

    def told(name: str) -> Told:
        if name not in known:
            known[name] = run(name)
        return known[name]

    return told
