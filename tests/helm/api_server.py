"""As much of Kubernetes' API, over HTTP on loopback, as Helm needs: a stand-in, no cluster."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.helm.api_objects import KINDS, KUBERNETES, Key, Objects, RefusedError
from tests.helm.chart import NAMESPACE, RELEASE, ROOT
from tests.helm.secret_protobuf import MAGIC, decode_secret

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_OPENAPI = "/openapi/v3"
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The stand-in while it listens, and Helm's commands against it."""

    address: str
    folder: Path
    state: Objects = field(default_factory=Objects)

    async def helm(self, *arguments: str | Path) -> tuple[int, str]:
        """Run a command of Helm 4 for the release's namespace; exit code, and all that it said."""
        process = await asyncio.create_subprocess_exec(
            ROOT / ".tools" / "helm4",
            *arguments,
            *("--kube-apiserver", self.address, "--namespace", NAMESPACE),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.folder), "KUBECONFIG": os.devnull},
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[ApiServer]:
    """Listens on a free port; `folder` is where Helm keeps what it caches."""
    state = Objects()
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_route("*", "/{path:.*}", _Handler(state).handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield ApiServer(f"http://127.0.0.1:{port}", folder, state)
    finally:
        await runner.cleanup()


def release_objects(state: Objects) -> set[tuple[str, str]]:
    """Kind and name of all that the release has; not Helm's own records."""
    return {
        (kind, name)
        for (_, kind, name), item in state.objects.items()
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == RELEASE
    }


class _Handler:
    def __init__(self, state: Objects) -> None:
        self._state = state

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return _discovery(request.path) or await self._object(request)
        except RefusedError as error:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": error.code,
                "reason": error.reason,
                "message": str(error),
            }
            return web.json_response(status, status=error.code)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        version, key = _address(request.path)
        kind = KINDS[version][key[1]]
        if request.method == "GET" and not key[2]:
            if "watch" in request.query:
                return await self._watch(request, key)
            items = self._state.listed(key[0], key[1], _labels(request))
            revision = {"resourceVersion": str(len(self._state.history) + 1)}
            body = {"kind": f"{kind}List", "apiVersion": version, "metadata": revision}
            return web.json_response({**body, "items": items})
        if request.method == "GET":
            return web.json_response(self._state.get(key))
        if request.method == "DELETE":
            return web.json_response(await self._state.delete(key))
        item = _decoded(await request.read())
        key = (key[0], key[1], item["metadata"]["name"])
        item["metadata"]["namespace"] = key[0]
        is_new = request.method == "POST"
        if "dryRun" in request.query:
            return web.json_response(item)
        return web.json_response(await self._state.put(key, item, is_new=is_new))

    async def _watch(self, request: web.Request, key: Key) -> web.StreamResponse:
        """What is there, a bookmark, then what happens, until the client leaves."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        labels, name = _labels(request), _field_name(request)
        seen = len(self._state.history)
        found = self._state.listed(key[0], key[1], labels)
        for item in found:
            if name in (None, item["metadata"]["name"]):
                await _write(response, "ADDED", item)
        if "sendInitialEvents" in request.query:
            version = _address(request.path)[0]
            notes = {"resourceVersion": str(seen + 1), "annotations": {_INITIAL_EVENTS_END: "true"}}
            mark = {"kind": KINDS[version][key[1]], "apiVersion": version, "metadata": notes}
            await _write(response, "BOOKMARK", mark)
        while True:
            async with self._state.changed:
                await self._state.changed.wait_for(lambda: len(self._state.history) > seen)  # noqa: B023 (waited for at once)
            news, seen = self._state.history[seen:], len(self._state.history)
            for event, kind, item in news:
                if kind == key[1] and name in (None, item["metadata"]["name"]):
                    await _write(response, event, item)


async def _write(response: web.StreamResponse, event: str, item: dict[str, Any]) -> None:
    await response.write(json.dumps({"type": event, "object": item}).encode() + b"\n")


def _decoded(body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = (
        decode_secret(body) if body.startswith(MAGIC) else yaml.safe_load(body.decode())
    )
    return decoded


def _labels(request: web.Request) -> dict[str, str]:
    text = request.query.get("labelSelector", "")
    return dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)


def _field_name(request: web.Request) -> str | None:
    name, _, value = request.query.get("fieldSelector", "").partition("=")
    return value if name == "metadata.name" else None


def _address(path: str) -> tuple[str, Key]:
    """The apiVersion, and the key that a path names; its name is empty for a collection."""
    parts = path.strip("/").split("/")
    version, rest = (
        (parts[1], parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
    )
    if version in KINDS and len(rest) in (3, 4) and rest[2] in KINDS[version]:
        return version, (rest[1], rest[2], rest[3] if len(rest) == 4 else "")
    raise RefusedError(404, "NotFound", f"the stand-in has no {path}")


def _discovery(path: str) -> web.Response | None:
    """What the server says of itself; None for any other path."""
    if path == "/version":
        major, minor = KUBERNETES.split(".")
        version = {"major": major, "minor": minor, "gitVersion": f"v{KUBERNETES}.0"}
        return web.json_response(version)
    if path == "/api":
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
    if path == "/apis":
        groups = [_group(version) for version in KINDS if "/" in version]
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    for version, kinds in KINDS.items():
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if path == prefix:
            resources = [
                {"name": name, "kind": kind, "namespaced": True, "verbs": _VERBS}
                for name, kind in kinds.items()
            ]
            body = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
            return web.json_response(body)
    return _openapi(path) if path.startswith(_OPENAPI) else None


def _group(version: str) -> dict[str, Any]:
    name, number = version.split("/")
    entry = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _openapi(path: str) -> web.Response:
    """That every PATCH knows fieldValidation: for that alone Helm asks."""
    if path == _OPENAPI:
        names = [f"apis/{version}" if "/" in version else f"api/{version}" for version in KINDS]
        paths = {name: {"serverRelativeURL": f"{_OPENAPI}/{name}"} for name in names}
        return web.json_response({"paths": paths})
    prefix = path.removeprefix(_OPENAPI)
    version = prefix.removeprefix("/").partition("/")[2]
    group, _, number = version.rpartition("/")
    operations = {}
    for name, kind in KINDS.get(version, {}).items():
        of = {"group": group, "version": number, "kind": kind}
        operations[f"{prefix}/namespaces/{{namespace}}/{name}/{{name}}"] = {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": of,
            }
        }
    return web.json_response({"openapi": "3.0.0", "info": {}, "paths": operations})
