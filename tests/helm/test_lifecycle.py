"""The real Helm installs, upgrades, rolls back, tests and uninstalls, on a stand-in for the API."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.api_server import ApiServer, api_server, release_objects
from tests.helm.chart import CHART, NAMESPACE, RELEASE, render, smallest

_WAIT = ("--wait", "--timeout", "30s")
POOLS = [{"name": name, "model": name, "replicas": 2} for name in ("first", "second")]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API with nothing in it."""
    async with api_server(tmp_path) as running:
        yield running


async def apply(
    server: ApiServer, command: str, values: dict[str, Any], chart: Path = CHART
) -> tuple[int, str]:
    """`helm install` or `helm upgrade` with these values."""
    file = server.folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return await server.helm(command, RELEASE, chart, "--values", file, *_WAIT)


def checksums(server: ApiServer) -> dict[str, str]:
    """What tells each Deployment's pods from those of other settings."""
    return {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        for item in server.state.listed(NAMESPACE, "deployments", {})
    }


async def test_a_release_from_its_beginning_to_its_end(server: ApiServer, tmp_path: Path) -> None:
    """What is rendered is what is there; the claim alone outlives it."""
    values = smallest(workers=POOLS, models={"source": {"type": "claim"}})
    code, said = await apply(server, "install", values)
    assert code == 0, said
    expected = {
        item["metadata"]["name"]
        for item in render(values, tmp_path).objects
        if item["kind"] != "Pod"
    }
    assert {name for _, name in release_objects(server.state)} == expected
    first = checksums(server)

    one_pool = values | {"workers": POOLS[:1], "tokenizer": {"settings": {"threads": 4}}}
    code, said = await apply(server, "upgrade", one_pool)
    assert code == 0, said
    assert not [name for _, name in release_objects(server.state) if "second" in name]
    second = checksums(server)
    changed = {name for name in second if second[name] != first[name]}
    assert changed == {"headrace-edge", "headrace-tokenizer"}

    code, said = await server.helm("rollback", RELEASE, "1", *_WAIT)
    assert code == 0, said
    assert checksums(server) == first

    code, said = await server.helm("test", RELEASE, "--timeout", "30s")
    assert code == 0, said
    assert "Succeeded" in said

    code, said = await server.helm("uninstall", RELEASE, *_WAIT)
    assert code == 0, said
    left = {(kind, item["metadata"]["name"]) for (_, kind, _), item in server.state.objects.items()}
    assert left == {("persistentvolumeclaims", "headrace-models")}


async def test_values_of_an_older_chart_are_not_used_alone(server: ApiServer) -> None:
    """--reuse-values leaves out the defaults of what is new: it is named, and nothing changes."""
    older = server.folder / "older"
    shutil.copytree(CHART, older)
    (older / "values.schema.json").unlink()
    for file, old, new in (
        ("values.yaml", "  egress: []\n", ""),
        ("templates/_network.tpl", "concat .to .root.Values.networkPolicy.egress", ".to"),
    ):
        text = (older / file).read_text()
        assert text.count(old) == 1
        (older / file).write_text(text.replace(old, new))
    code, said = await apply(server, "install", smallest(tokenizer={"replicas": 4}), older)
    assert code == 0, said

    code, said = await server.helm("upgrade", RELEASE, CHART, "--reuse-values", *_WAIT)
    assert code != 0
    assert "missing property 'egress'" in said

    code, said = await server.helm("upgrade", RELEASE, CHART, "--reset-then-reuse-values", *_WAIT)
    assert code == 0, said
    tokenizer = server.state.get((NAMESPACE, "deployments", "headrace-tokenizer"))
    assert tokenizer["spec"]["replicas"] == 4


async def test_other_replicas_roll_nothing(server: ApiServer) -> None:
    """Pods stay as they are where their settings do."""
    await apply(server, "install", smallest())
    first = checksums(server)

    code, said = await apply(server, "upgrade", smallest(tokenizer={"replicas": 5}))

    assert code == 0, said
    assert checksums(server) == first
    tokenizer = server.state.get((NAMESPACE, "deployments", "headrace-tokenizer"))
    assert tokenizer["spec"]["replicas"] == 5


async def test_an_autoscaler_keeps_its_replicas_through_upgrades(server: ApiServer) -> None:
    """No upgrade says how many pods there are to be."""
    values = smallest(tokenizer={"autoscaling": {"enabled": True}})
    await apply(server, "install", values)

    code, said = await apply(server, "upgrade", values)

    assert code == 0, said
    kind = "deployments"
    applied = [item for _, name, item in server.state.history if name == kind]
    own = [item for item in applied if item["metadata"]["name"] == "headrace-tokenizer"]
    assert [item["spec"].get("replicas") for item in own] == [None, None]


async def test_a_test_that_fails_is_told(server: ApiServer) -> None:
    """By the exit code; the pod stays, to be looked at."""
    await apply(server, "install", smallest())
    server.state.test_phase = "Failed"

    code, said = await server.helm("test", RELEASE, "--timeout", "30s")

    assert code != 0
    assert "headrace-test failed" in said
    assert ("pods", "headrace-test") in release_objects(server.state)


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("_pod.tpl", "enableServiceLinks", "enableServiceLink", "strict decoding error"),
        (
            "_objects.tpl",
            "      interval:",
            "      every:",
            "every: there is no such field",
        ),
        ("_names.tpl", "app.kubernetes.io/name: headrace\n", "", "field is immutable"),
    ],
)
async def test_the_stand_in_refuses_what_kubernetes_would(
    server: ApiServer, file: str, old: str, new: str, told: str
) -> None:
    """A field that there is not, and other selectors for Deployments that are there."""
    values = smallest(observability={"serviceMonitors": {"enabled": True}})
    await apply(server, "install", values)
    chart = server.folder / "broken"
    shutil.copytree(CHART, chart)
    template = chart / "templates" / file
    template.write_text(template.read_text().replace(old, new))

    code, said = await apply(server, "upgrade", values, chart)

    assert code != 0
    assert told in said
