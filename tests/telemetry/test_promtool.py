"""Prometheus' own checker on the services' metrics, on the alert rules and on the dashboards."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edge.settings import EdgeSettings
from headrace.telemetry.settings import HealthSettings, TelemetrySettings
from tests.support.chat_client import CHAT_PATH, chat_body
from tests.support.promtool import promtool
from tests.support.shown_metrics import ADDED, DASHBOARDS, RULES, alerts, queries
from tests.support.stack import Service, Stack, wait_for
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

CASES = Path(__file__).with_name("alert_rules_test.yaml")
HEALTH = TelemetrySettings(health=HealthSettings(port=0))
GRAFANA_VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One service of each kind with a health port, and a request that has been answered."""
    stack = Stack(tmp_path_factory.mktemp("promtool"))
    try:
        worker = WorkerSettings(engine="paced", telemetry=HEALTH)
        stack.start_backend([worker], [TokenizerSettings(telemetry=HEALTH)])
        edge = stack.add_edge(EdgeSettings(telemetry=HEALTH))
        connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        body = json.dumps(chat_body(max_tokens=3))
        connection.request("POST", CHAT_PATH, body, headers)
        assert connection.getresponse().status == 200
        connection.close()
        yield stack
    finally:
        stack.close()


def health_metrics(service: Service) -> str:
    """What Prometheus would read, renewed since the start."""
    [line] = service.events("health_listening")
    connection = http.client.HTTPConnection("127.0.0.1", line["port"], timeout=10)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def check_rules(rules: list[dict[str, str]], folder: Path) -> None:
    """Promtool reads them all."""
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("kind", ["edge", "worker", "tokenizer"])
def test_metrics_are_as_prometheus_wants_them(stack: Stack, kind: str) -> None:
    """Names, units, texts and types of every metric that the health port shows."""
    [service] = [service for service in stack.services if service.kind == kind]
    text = wait_for(
        lambda: found if "headrace_build_info" in (found := health_metrics(service)) else None,
        f"{kind} shows its metrics",
        30,
    )

    assert promtool("check", "metrics", text=text.encode()) == ""
    assert all(f"\n{name} " in text for name in ADDED if name != "up")


def test_alert_rules_are_valid() -> None:
    """Every expression is PromQL, every template can be filled."""
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """Every alert has a case in which it fires."""
    text = CASES.read_text(encoding="utf-8")
    cases = [case for test in yaml.safe_load(text)["tests"] for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}
    (tmp_path / "cases.yaml").write_text(text.replace("- RULES", f"- {RULES}"))

    assert "SUCCESS" in promtool("test", "rules", tmp_path / "cases.yaml")


def test_a_rule_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    """The cases bite: of rules that never fire each is missed."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = f"({rule['expr']}) * 0 > 1"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    text = CASES.read_text(encoding="utf-8")
    (tmp_path / "cases.yaml").write_text(text.replace("- RULES", "- rules.yaml"))

    with pytest.raises(AssertionError) as error:
        promtool("test", "rules", tmp_path / "cases.yaml")
    assert all(f"alertname: {rule['alert']}," in str(error.value) for rule in alerts())


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_dashboards_ask_in_valid_promql(file: Path, tmp_path: Path) -> None:
    """Every panel's query, with Grafana's variables filled in."""
    rules = []
    for number, text in enumerate(queries(file)):
        for variable, value in GRAFANA_VARIABLES.items():
            text = text.replace(variable, value)  # noqa: PLW2901 (filled in step by step)
        rules.append({"record": f"query:{number}", "expr": text})

    check_rules(rules, tmp_path)
