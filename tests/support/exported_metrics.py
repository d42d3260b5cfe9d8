"""Every metric that the services export, from their own registries, wired as their mains do it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from edge.metrics import EdgeMetrics
from headrace.client.figures import ClientFigures, LinkFigures, peer_figures
from headrace.runtime.identity import Identity
from headrace.telemetry.metrics import ServiceMetrics
from tokenizer_svc.activity import Activity
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.metrics import TokenizerMetrics
from worker.active_requests import RequestTable
from worker.engine.seam import Engine, EngineLoad
from worker.load_figures import LoadFigures
from worker.metrics import WorkerMetrics

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


@dataclass(frozen=True, slots=True)
class ExportedMetric:
    """A metric as PromQL names it; `values` of labels are those that are there from the start."""

    labels: frozenset[str]
    values: Mapping[str, frozenset[str]]


def exported_metrics() -> dict[str, ExportedMetric]:
    """By name; where two services export the same, their values together."""
    found: dict[str, ExportedMetric] = {}
    for metrics in (_edge(), _worker(), _tokenizer()):
        labels = dict(_declared(metrics))
        for name, values in _values(metrics, labels).items():
            before = found.get(name, ExportedMetric(frozenset(), {}))
            union = {
                label: values.get(label, frozenset()) | before.values.get(label, frozenset())
                for label in {*values, *before.values}
            }
            found[name] = ExportedMetric(labels[name] | before.labels, union)
    return found


def _edge() -> ServiceMetrics:
    metrics = EdgeMetrics(Identity())
    metrics.watch_admission(num_running=int, num_queued=int)
    links = {
        "worker": LinkFigures("serving", 1, 1, "received", 1),
        "tokenizer": LinkFigures("serving", 1, 1, "sent", 1),
    }
    peers = {kind: peer_figures([link]) for kind, link in links.items()}
    metrics.watch_peers(lambda: ClientFigures(peers, {}))
    return metrics


def _worker() -> ServiceMetrics:
    metrics = WorkerMetrics(Identity())
    engine = cast(Engine, SimpleNamespace(load=EngineLoad()))
    metrics.registry.register(LoadFigures(engine, RequestTable()))
    return metrics


def _tokenizer() -> ServiceMetrics:
    metrics = TokenizerMetrics(Identity())
    metrics.watch(Activity(), EncodingPool(1, 1, 1))
    return metrics


def _declared(metrics: ServiceMetrics) -> dict[str, frozenset[str]]:
    """Labels by name, also of metrics that nothing has been counted of yet."""
    found = {}
    for family in metrics.registry.collect():
        seen = {label for sample in family.samples for label in sample.labels}
        labels = frozenset({*seen, *getattr(family, "_labelnames", ())} - {"le"})
        for suffix in _SUFFIXES.get(family.type, ("",)):
            found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    for collector in list(metrics.registry._collector_to_names):
        for family in _own(collector):
            for suffix in _SUFFIXES.get(family._type, ("",)):
                found[family._name + suffix] |= set(family._labelnames)
    return found


def _own(collector: Any) -> list[Any]:
    """The collector itself, if it is a metric and not a maker of metrics."""
    return [collector] if hasattr(collector, "_labelnames") else []


def _values(
    metrics: ServiceMetrics, labels: Mapping[str, frozenset[str]]
) -> dict[str, dict[str, frozenset[str]]]:
    """Labels' values in what is rendered, by metric and label."""
    found: dict[str, dict[str, frozenset[str]]] = {name: {} for name in labels}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            known = found.get(sample.name)
            if known is not None:
                for label, value in sample.labels.items():
                    known[label] = known.get(label, frozenset()) | {value}
    return found
