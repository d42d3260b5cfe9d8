"""Dashboards, rules and scrapes arrive as they are."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.helm.chart import Rendered, render, smallest
from tests.support.promtool import promtool
from tests.support.shown_metrics import DASHBOARDS, RULES


def test_dashboards(rendered: Callable[[str], Rendered]) -> None:
    """A ConfigMap each, with the label for Grafana's sidecar, and not one character else."""
    found = {
        name: text
        for item in rendered("eight-h100").of("ConfigMap")
        if item["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in item["data"].items()
    }

    assert {name: json.loads(text) for name, text in found.items()} == {
        file.name: json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS
    }


def test_rules(rendered: Callable[[str], Rendered], tmp_path: Path) -> None:
    """All of alerts/headrace.yaml, templates of its sentences unfilled; Prometheus reads it."""
    [rule] = rendered("eight-h100").of("PrometheusRule")

    assert rule["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    assert "SUCCESS" in promtool("check", "rules", tmp_path / "rules.yaml")


def test_rules_lead_to_the_runbook(tmp_path: Path) -> None:
    """Wherever that is published."""
    address = "https://example.com/RUNBOOK.md"
    rules = {"enabled": True, "runbookUrl": address, "labels": {"release": "prometheus"}}
    [rule] = render(smallest(observability={"rules": rules}), tmp_path).of("PrometheusRule")

    links = [
        item["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for item in group["rules"]
    ]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert all(link.startswith(f"{address}#headrace") for link in links)


def test_every_service_is_scraped(rendered: Callable[[str], Rendered]) -> None:
    """Edge, tokenizer and each pool."""
    names = [item["metadata"]["name"] for item in rendered("eight-h100").of("ServiceMonitor")]

    assert names == [
        "headrace-edge",
        "headrace-tokenizer",
        "headrace-worker-llama-70b",
        "headrace-worker-llama-8b",
    ]
