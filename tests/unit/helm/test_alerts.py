import re

import pytest

from tests.support.exported_metrics import exported_metrics
from tests.support.shown_metrics import ADDED, RUNBOOK, alerts, labels_of, unknown_parts


def sections() -> dict[str, str]:
    """The runbook's sections by title."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_rules_ask_only_for_what_the_services_export() -> None:
    """Every metric, label and label's value of every expression exists."""
    exported = exported_metrics() | ADDED

    unknown = {rule["alert"]: unknown_parts(rule["expr"], exported) for rule in alerts()}
    assert {alert: parts for alert, parts in unknown.items() if parts} == {}


def test_sentences_name_only_labels_that_the_alert_has() -> None:
    """A template's label that is not there would be an empty word in somebody's night."""
    exported = exported_metrics() | ADDED

    for rule in alerts():
        told = " ".join(rule["annotations"].values())
        named = set(re.findall(r"\$labels\.(\w+)", told))
        grouped = re.match(r"\s*(?:\w+\([\d.]+, )?\w+ by \(([^)]*)\)", rule["expr"])
        has = set(re.findall(r"\w+", grouped[1])) if grouped else labels_of(rule["expr"], exported)
        assert named <= has, rule["alert"]


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    """Its link leads there, and the section says meaning, what to look at and what to do."""
    found = sections()

    assert [rule["alert"] for rule in alerts() if rule["alert"] not in found] == []
    assert found.keys() == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"RUNBOOK.md#{rule['alert'].lower()}"
        for word in ("Means", "Look at", "Do"):
            assert f"**{word}.**" in found[rule["alert"]], rule["alert"]


def test_alerts_have_a_severity_and_a_summary() -> None:
    """`critical` waits at most five minutes, and every alert has a name of its own."""
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        if rule["labels"]["severity"] == "critical":
            assert rule["for"] in {"1m", "2m", "5m"}
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(headrace_edge_request_total[5m])", ["headrace_edge_request_total"]),
        ('headrace_edge_peers{state="ready"}', ["headrace_edge_peers{state=ready}"]),
        ('headrace_edge_peers{status="away"}', ["headrace_edge_peers{status}"]),
        ("sum by (model) (headrace_edge_requests_queued)", ["by (model)"]),
        (
            'headrace_edge_failures_total{reason=~"engine_failure|lost"}',
            ["headrace_edge_failures_total{reason=lost}"],
        ),
        ("sum by (instance, le) (rate(headrace_loop_lag_seconds_bucket[5m]))", []),
    ],
)
def test_what_nobody_exports_is_noticed(expression: str, unknown: list[str]) -> None:
    """A misspelt metric, label, value or grouping; nothing of what is right."""
    assert unknown_parts(expression, exported_metrics()) == unknown
