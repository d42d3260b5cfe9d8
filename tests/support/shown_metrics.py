"""What alert rules and dashboards ask for, held against what the services export."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.rpc.errors import ERROR_TABLE, reason_label
from tests.support.exported_metrics import ExportedMetric
from tests.support.promql import Expression, read_promql

CHART = Path(__file__).parents[2] / "helm" / "headrace"
RULES = CHART / "alerts" / "headrace.yaml"
RUNBOOK = CHART / "RUNBOOK.md"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))

SCRAPE_LABELS = frozenset({"namespace", "job", "instance"})
"""What Prometheus adds to every series."""
ADDED = {
    "up": ExportedMetric(frozenset(), {}),
    "headrace_loop_heartbeat_age_seconds": ExportedMetric(frozenset(), {}),
    "headrace_metrics_age_seconds": ExportedMetric(frozenset(), {}),
}
"""Of Prometheus itself, and of the health port's process, which no registry of a service has."""
_CHAT_ROUTE = "/v1/chat/completions"
_REASONS = frozenset(reason_label(reason) for reason in ERROR_TABLE)


def alerts() -> list[dict[str, Any]]:
    """All rules, as they are written."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """A dashboard's panels but its rows."""
    document = json.loads(dashboard.read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def queries(dashboard: Path) -> list[str]:
    """Every query of a dashboard."""
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def unknown_parts(text: str, exported: Mapping[str, ExportedMetric]) -> list[str]:
    """What the expression asks for and nobody exports: metrics, labels, values of labels."""
    found = read_promql(text)
    return [*_unknown_matches(found, exported), *_unknown_groups(found, exported)]


def labels_of(text: str, exported: Mapping[str, ExportedMetric]) -> frozenset[str]:
    """Labels that the expression's result may have."""
    metrics = [exported[name].labels for name in read_promql(text).matched if name in exported]
    return SCRAPE_LABELS.union(*metrics)


def _unknown_matches(found: Expression, exported: Mapping[str, ExportedMetric]) -> Iterator[str]:
    for name, matched in found.matched.items():
        metric = exported.get(name)
        if metric is None:
            yield name
            continue
        for label, values in matched.items():
            if label in SCRAPE_LABELS:
                continue
            if label not in metric.labels:
                yield f"{name}{{{label}}}"
                continue
            for value in sorted(values - _known_values(metric, label)):
                yield f"{name}{{{label}={value}}}"


def _known_values(metric: ExportedMetric, label: str) -> frozenset[str]:
    """Values that the metric shows from its start; else those of the error table, or the route."""
    if label in metric.values:
        return metric.values[label]
    return {"reason": _REASONS, "route": frozenset({_CHAT_ROUTE})}.get(label, frozenset())


def _unknown_groups(found: Expression, exported: Mapping[str, ExportedMetric]) -> Iterator[str]:
    known = SCRAPE_LABELS.union(
        *(exported[name].labels for name in found.matched if name in exported)
    )
    for label in sorted(found.grouped - known):
        yield f"by ({label})"
