"""The previous version's client against this server, and the reverse.

`previous_version` holds the commit, or `self` as long as there is none: then the code runs against
itself. A commit's tree is taken from git into a temporary folder, with its own client, services and
this file's counterpart `tests/support/version_peer.py`.
"""

import asyncio
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DECLARED = (ROOT / "tests/contract/previous_version").read_text(encoding="utf-8").strip()


def tree_of(version: str, folder: Path) -> Path:
    """The root of a version's tree: this one for `self`, else extracted into `folder`."""
    if version == "self":
        return ROOT
    command = ["git", "-C", ROOT, "archive", "--format=tar", version]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


async def peer(tree: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start a version's peer with that version's code alone."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        str(tree / "tests/support/version_peer.py"),
        *arguments,
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def served(tree: Path, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """A version's services; on leaving they must end by themselves with nothing running."""
    process = await peer(tree, "serve", str(folder / "model"))
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            pytest.fail((await process.communicate())[1].decode())
        yield json.loads(line)
        _, errors = await process.communicate(b"")
        assert 0 == process.returncode, errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def asked(tree: Path, addresses: dict[str, Any]) -> dict[str, Any]:
    """What a version's client saw."""
    process = await peer(tree, "ask", *addresses["worker"], *addresses["tokenizer"])
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, errors.decode()
    seen: dict[str, Any] = json.loads(output)
    return seen


# The last one is there to try the way by which a commit is reached, also while `self` is declared.
@pytest.mark.parametrize(
    ("server", "version"),
    [
        ("this", DECLARED),
        ("previous", DECLARED),
        pytest.param("previous", "HEAD", marks=pytest.mark.slow),
    ],
)
async def test_each_versions_client_understands_the_others_services(
    server: str, version: str, tmp_path: Path
) -> None:
    """Text, stop strings, limits, leaving early and refusals mean the same across versions."""
    previous = tree_of(version, tmp_path / "tree")
    server_tree, client_tree = (ROOT, previous) if server == "this" else (previous, ROOT)
    async with served(server_tree, tmp_path) as addresses:
        seen = await asked(client_tree, addresses)
    text = "user\n" + "Hello, world! " * 8

    assert ["small"] == seen["models"]
    assert [text, "stop"] == seen["whole"][:2]
    assert ["user\nHello, ", "stop"] == seen["stopped"][:2]
    assert "length" == seen["cut"][1]
    assert [3] == seen["cut"][3]
    assert text.startswith(seen["cut"][0])
    assert seen["stopped"][3] < seen["whole"][3]
    assert ["context_length_exceeded", "max_tokens"] == seen["refused"]


def test_the_protos_break_nothing_of_the_previous_version(tmp_path: Path) -> None:
    """`v1` is additive: buf finds no incompatible change."""
    previous = tree_of(DECLARED, tmp_path / "tree")
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [buf, "breaking", "--against", previous / "protos"],
        check=False,
        cwd=ROOT / "protos",
        capture_output=True,
        text=True,
    )

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_an_incompatible_proto_would_be_found(tmp_path: Path) -> None:
    """The check can fail: a renumbered field is refused."""
    changed = tmp_path / "protos"
    for path in (ROOT / "protos").glob("**/*.proto"):
        target = changed / path.relative_to(ROOT / "protos")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace("string request_id = 1;", "string id = 99;"))
    (changed / "buf.yaml").write_text((ROOT / "protos/buf.yaml").read_text())
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [buf, "breaking", "--against", ROOT / "protos"],
        check=False,
        cwd=changed,
        capture_output=True,
        text=True,
    )

    assert 0 != done.returncode
    assert "request_id" in done.stdout
