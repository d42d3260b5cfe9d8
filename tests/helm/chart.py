"""The chart as Helm's own commands render it; a missing one is a failure."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "headrace"
EXAMPLES = sorted((ROOT / "examples" / "helm").glob("*.yaml"))
HELMS = ("helm3", "helm4")
KUBERNETES = ("1.31", "1.34", "1.37")
NAMESPACE = "serving"
RELEASE = "headrace"
"""By the chart's own name: variables of its Services would begin with HEADRACE_."""

Object = Mapping[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


def helm(*arguments: str | Path, version: str = "helm4") -> str:
    """Run a command of Helm; returns what it wrote. Raises HelmError."""
    command = ROOT / ".tools" / version
    assert command.exists(), f"{command} is missing: `make tools` brings it"
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, check=False, timeout=50
    )
    if done.returncode != 0:
        raise HelmError(done.stdout + done.stderr)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Rendered:
    """All objects of a release, hooks included."""

    objects: Sequence[Object]

    def of(self, kind: str) -> Iterator[Object]:
        """All of one kind."""
        return (item for item in self.objects if item["kind"] == kind)

    def named(self, kind: str, name: str) -> Object:
        """One by kind and name."""
        [found] = [item for item in self.of(kind) if item["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every pod, also those of Deployments: what it is called here, metadata and spec."""
        for item in self.objects:
            name = f"{item['kind']} {item['metadata']['name']}"
            if item["kind"] == "Deployment":
                yield name, item["spec"]["template"]
            elif item["kind"] == "Pod":
                yield name, item

    def containers(self) -> Iterator[tuple[str, Object]]:
        """Every container, those of the start too."""
        for name, pod in self.pods():
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                yield f"{name}, container {container['name']}", container


def render(
    values: Path | Mapping[str, Any],
    folder: Path,
    *,
    chart: Path = CHART,
    kubernetes: str = KUBERNETES[-1],
    version: str = "helm4",
    release: str = RELEASE,
) -> Rendered:
    """Render the chart with a file of values, or with values by themselves. Raises HelmError."""
    if not isinstance(values, Path):
        file = folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        values = file
    text = helm(
        *("template", release, chart, "--values", values, "--namespace", NAMESPACE),
        *("--kube-version", kubernetes),
        version=version,
    )
    return Rendered([item for item in yaml.safe_load_all(text) if item is not None])


def smallest(**more: Any) -> dict[str, Any]:
    """Values that say no more than must be said, and `more`."""
    values: dict[str, Any] = {
        "edge": {"insecure": True},
        "internal": {"insecure": True},
        "models": {"source": {"type": "hostPath", "hostPath": "/srv/models"}},
        "workers": [{"name": "main", "model": "SmolLM2-135M-Instruct"}],
    }
    return values | more
