"""The chart's values: what is refused, and that every one is described, checked and used."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, HELMS, HelmError, helm, render, smallest

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = CHART / "values.yaml"
FREE = frozenset({"global"})
"""Values that nothing of the chart reads."""
_LETTERS = "a" * 64


def worker(**fields: Any) -> dict[str, Any]:
    """Values with one pool, which says more."""
    return smallest(workers=[{"name": "main", "model": "m", **fields}])


NEGATIVES: Mapping[str, dict[str, Any]] = {
    "unknown at the top": smallest(worker=[]),
    "unknown in a group": smallest(networkPolicy={"enable": True}),
    "unknown in a pool": worker(gpu=1),
    "unknown in a defaults' group": smallest(workerDefaults={"autoscaling": {"min": 1}}),
    "a pool without model": smallest(workers=[{"name": "main"}]),
    "a pool without name": smallest(workers=[{"model": "m"}]),
    "a pool's name in capitals": worker(name="Main"),
    "a pool's name too long": worker(name="a" * 17),
    "no such engine": worker(engine="paced"),
    "replicas in words": worker(replicas="two"),
    "no replicas": worker(replicas=0),
    "half a GPU": worker(gpus=0.5),
    "tag latest": worker(image={"tag": "latest"}),
    "tag latest for all": smallest(image={"tag": "latest"}),
    "digest too short": worker(image={"digest": "sha256:12"}),
    "quantity with a wrong unit": worker(shmSize="12Gigs"),
    "resources of a wrong kind": worker(resources={"limit": {"memory": "1Gi"}}),
    "resources of a wrong unit": worker(resources={"limits": {"memory": "1GB"}}),
    "no sleep before the stop": worker(preStopSeconds=0),
    "no margin": worker(marginSeconds=0),
    "a drain of a day": worker(drainSeconds=86400),
    "a model source of a wrong type": smallest(models={"source": {"type": "image"}}),
    "a relative folder of the node": smallest(
        models={"source": {"type": "hostPath", "hostPath": "srv"}}
    ),
    "a user that is root": smallest(podSecurityContext={"runAsUser": 0}),
    "a health port below 1024": smallest(healthPort=80),
    "listening nowhere": smallest(listen="127.0.0.1"),
    "a secret's value": smallest(edge={"keys": {"value": "hr-secret"}}),
    "a secret's entry with a slash": smallest(edge={"keys": {"key": "../a"}}),
    "a wrong service": smallest(edge={"service": {"type": "ExternalName"}}),
    "a ratio above one": smallest(observability={"otlp": {"sampleRatio": 2}}),
    "an endpoint without scheme": smallest(observability={"otlp": {"endpoint": "collector:4317"}}),
    "a compression that is not known": smallest(observability={"otlp": {"compression": "zstd"}}),
    "a collector's key itself": smallest(observability={"otlp": {"headers": {"value": "a=b"}}}),
    "pull policy": smallest(image={"pullPolicy": "Sometimes"}),
    "a name that is too long": smallest(fullnameOverride=_LETTERS),
    "settings that are no table": worker(settings=["threads"]),
    "an annotation that is no text": worker(podAnnotations={"a": 1}),
    "a variable that is no text": worker(extraEnv=[{"name": "A", "value": 1}]),
    "a variable that the chart sets": worker(
        extraEnv=[{"name": "HEADRACE_WORKER__HOST", "value": "::"}]
    ),
    "a label that selects": worker(podLabels={"app.kubernetes.io/component": "edge"}),
    "a checksum of the user's": worker(podAnnotations={"checksum/config": "1"}),
    "no port of DNS": smallest(networkPolicy={"dnsPorts": []}),
}


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("wrong", NEGATIVES)
def test_the_schema_refuses(wrong: str, version: str, tmp_path: Path) -> None:
    """By both Helms, before anything is rendered."""
    with pytest.raises(HelmError, match="meet the specifications of the schema"):
        render(NEGATIVES[wrong], tmp_path, version=version)


def test_the_schema_takes_globals(tmp_path: Path) -> None:
    """A parent chart's values come along."""
    assert render(smallest(**{"global": {"imageRegistry": "x"}}), tmp_path).objects


def test_long_names_are_told_apart(tmp_path: Path) -> None:
    """Two releases in one namespace whose names end differently share no object."""
    long = "a-release-with-a-name-of-all-that-helm-allows-53-char"
    assert len(long) == 53
    one, two = (
        {
            (item["kind"], item["metadata"]["name"])
            for item in render(smallest(), tmp_path, release=f"{long[:-1]}{letter}").objects
        }
        for letter in "ab"
    )

    assert not one & two
    assert len(one) == len(two) > 8
    assert all(len(name) <= 63 for _, name in one)


@pytest.mark.parametrize("release", ["1st", "team.llm"])
def test_names_that_services_cannot_have_are_refused(release: str, tmp_path: Path) -> None:
    """Helm takes them for a release; another beginning of the names is asked for."""
    with pytest.raises(HelmError, match="fullnameOverride: Services cannot be named after"):
        render(smallest(), tmp_path, release=release)

    renamed = render(smallest(fullnameOverride="llm"), tmp_path, release=release)
    assert renamed.named("Service", "llm-edge")


def test_kubernetes_that_is_too_old_is_refused(tmp_path: Path) -> None:
    """The sleep before the stop is unknown to 1.29."""
    with pytest.raises(HelmError, match=r"incompatible with Kubernetes v1\.29"):
        render(smallest(), tmp_path, kubernetes="1.29")


def resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference within the schema leads to."""
    while "$ref" in schema:
        found: Mapping[str, Any] = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def checked(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names of all that a schema knows."""
    for name, part in resolve(schema).get("properties", {}).items():
        yield f"{path}{name}"
        yield from checked(part, f"{path}{name}.")


def given(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names of all that values.yaml has, down to what the schema knows by name."""
    for name, value in values.items():
        yield f"{path}{name}"
        part = resolve(schema)["properties"][name]
        if isinstance(value, Mapping) and "properties" in resolve(part):
            yield from given(value, part, f"{path}{name}.")


def test_every_value_has_a_default() -> None:
    """The schema knows no more than values.yaml shows, nor less."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    known = {
        name
        for name in checked(SCHEMA)
        # Empty there, meaning models.source; and resources, whose two halves are free of names.
        if not re.search(r"modelSource\.|resources\.(limits|requests)\.", name)
    }

    assert known - set(given(values, SCHEMA)) == set()


def groups(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every group of values that is described in its own place, whose defaults are always there."""
    if "properties" in schema:
        yield path, schema
        for name, part in schema["properties"].items():
            if path != "workerDefaults.":
                yield from groups(part, f"{path}{name}.")


def test_every_value_must_be_there() -> None:
    """So none is missing unnoticed where values of an older chart are used again."""
    optional = {"": {"global"}, "podSecurityContext.": {"runAsUser", "runAsGroup", "fsGroup"}}
    found = dict(groups(SCHEMA))

    assert len(found) > 15
    for path, group in found.items():
        needed = group["properties"].keys() - optional.get(path, set())
        assert set(group.get("required", ())) == needed, path


def test_every_object_of_the_schema_is_closed() -> None:
    """Wherever names are known, others are refused."""
    parts = [SCHEMA]
    seen = 0
    while parts:
        part = parts.pop()
        if "properties" in part:
            seen += 1
            assert part["additionalProperties"] is False
        parts += [item for item in part.values() if isinstance(item, dict)]
    assert seen > 20


def test_every_value_is_described() -> None:
    """Each key of values.yaml that holds something has a line of its own above it."""
    lines = VALUES.read_text(encoding="utf-8").splitlines()
    keys = 0
    for before, line in pairwise(lines):
        match = re.match(r"( *)[A-Za-z]+:(.*)", line)
        if match is None or re.match(r" *(requests|limits|matchLabels): ", line):
            continue
        keys += 1
        assert match[2] == "" or re.match(r" *# (-- )?\S", before), line
    assert keys > 100


def test_every_value_is_used() -> None:
    """A template names it."""
    templates = "".join(
        file.read_text(encoding="utf-8")
        for file in sorted((CHART / "templates").rglob("*"))
        if file.is_file()
    )
    unused = {
        name
        for name in checked(SCHEMA)
        if not re.search(rf"\.{name.rpartition('.')[2]}\b", templates)
    }
    # What is written as it is, with all that it holds.
    whole = r"podSecurityContext\.|resources\.(limits|requests)"
    assert {name for name in unused if not re.search(whole, name)} == FREE


def test_notes_tell_what_is_open(tmp_path: Path) -> None:
    """Where nobody is checked, the notes after an install say so."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(smallest(networkPolicy={"enabled": False})))
    said = helm(
        *("install", "headrace", CHART, "--values", file, "--namespace", "serving"),
        "--dry-run=client",
    )

    assert "http://headrace-edge.serving.svc:80/v1" in said
    assert "Everybody who reaches the Service is let in (edge.insecure)" in said
    assert "only the network policies keep others out, and those are off." in said
    assert "helm test headrace --namespace serving" in said
