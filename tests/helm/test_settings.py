"""What the chart writes into headrace.toml is what the services read."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.settings import EdgeSettings
from headrace.cli.tables import load_models_settings, load_settings
from headrace.runtime.errors import StartError
from headrace.runtime.settings import SettingsGroup
from tests.helm.chart import HelmError, Object, Rendered, render, smallest
from tests.helm.invariants import INVARIANTS
from tests.helm.scenes import SCENES
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

SERVICES: Mapping[str, type[SettingsGroup]] = {
    "edge": EdgeSettings,
    "tokenizer": TokenizerSettings,
    "worker": WorkerSettings,
}
POD_ADDRESS = "10.1.2.3"


def environment(container: Object) -> dict[str, str]:
    """A container's variables, the pod's address filled in."""
    return {entry["name"]: entry.get("value", POD_ADDRESS) for entry in container.get("env", ())}


def loaded(
    rendered: Rendered, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, SettingsGroup]:
    """Every Deployment's settings as its process reads them, by its name."""
    found: dict[str, SettingsGroup] = {}
    for item in rendered.of("Deployment"):
        name = item["metadata"]["name"]
        [container] = item["spec"]["template"]["spec"]["containers"]
        _, service, flag, path, *_ = container["command"]
        assert (flag, path) == ("--config", "/etc/headrace/config/headrace.toml")
        file = folder / f"{name}.toml"
        file.write_text(rendered.named("ConfigMap", name)["data"]["headrace.toml"])
        with monkeypatch.context() as patch:
            for variable, value in environment(container).items():
                patch.setenv(variable, value)
            found[name] = load_settings(service, SERVICES[service], file)
        load_models_settings(file)
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_services_read_it(
    scene: str,
    rendered: Callable[[str], Rendered],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every key is a setting, every value in its bounds; nothing is lost on the way."""
    settings = loaded(rendered(scene), tmp_path, monkeypatch)

    assert len(settings) >= 3
    for name, group in settings.items():
        [service] = [kind for kind, known in SERVICES.items() if isinstance(group, known)]
        file = tomllib.loads((tmp_path / f"{name}.toml").read_text())[service]
        assert [key for key in file if key not in group.model_fields_set] == []


def test_values_arrive(
    rendered: Callable[[str], Rendered], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the example of eight GPUs says is in force: numbers, names, nested tables."""
    settings = loaded(rendered("eight-h100"), tmp_path, monkeypatch)
    edge, large = settings["headrace-edge"], settings["headrace-worker-llama-70b"]
    small, tokenizer = settings["headrace-worker-llama-8b"], settings["headrace-tokenizer"]
    assert isinstance(edge, EdgeSettings)
    assert isinstance(large, WorkerSettings)
    assert isinstance(small, WorkerSettings)
    assert isinstance(tokenizer, TokenizerSettings)

    assert large.tensorrt_llm.tensor_parallel == 4
    assert large.tensorrt_llm.kv_cache.free_memory_fraction == 0.9
    assert small.tensorrt_llm.tensor_parallel == 1
    assert small.host == small.telemetry.health.host == POD_ADDRESS
    assert (large.drain_grace_seconds, edge.server.drain_grace_seconds) == (300, 300)
    assert small.drain_delay_seconds == edge.server.drain_delay_seconds == 3
    assert tokenizer.models == ("Llama-3.3-70B-Instruct", "Llama-3.1-8B-Instruct")
    assert edge.backend.worker_addresses == (
        "headrace-worker-llama-70b.serving.svc:50061",
        "headrace-worker-llama-8b.serving.svc:50061",
    )
    assert edge.backend.tokenizer_addresses == ("headrace-tokenizer.serving.svc:50052",)
    assert edge.backend.tls.server_name == "headrace.internal"
    assert edge.backend.api_key_file == Path("/etc/headrace/edge-key/edge.key")
    assert edge.telemetry.tracing.endpoint == "http://otel-collector.monitoring:4317"
    assert edge.telemetry.tracing.sample_ratio == large.telemetry.tracing.sample_ratio == 0.1
    assert edge.aliases["chat"].model == "Llama-3.3-70B-Instruct"
    assert large.tls.client_ca_file == Path("/etc/headrace/internal-tls/ca.crt")
    assert not any((edge.server.insecure, large.insecure, tokenizer.insecure))


@pytest.mark.parametrize("name", ["headrace-edge", "headrace-tokenizer", "headrace-worker-main"])
def test_a_collectors_key_is_a_file(
    name: str,
    rendered: Callable[[str], Rendered],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every service reads headers and certificates from the secrets, which are mounted whole."""
    release = rendered("a-collector-with-a-key")
    group = loaded(release, tmp_path, monkeypatch)[name]
    assert isinstance(group, EdgeSettings | TokenizerSettings | WorkerSettings)
    tracing = group.telemetry.tracing
    pod = release.named("Deployment", name)["spec"]["template"]["spec"]
    secrets = {
        each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each
    }

    assert tracing.headers_file == Path("/etc/headrace/otlp-headers/otlp.headers")
    assert tracing.tls.ca_file == Path("/etc/headrace/otlp-tls/ca.crt")
    assert tracing.tls.certificate_file == Path("/etc/headrace/otlp-tls/tls.crt")
    assert tracing.tls.key_file == Path("/etc/headrace/otlp-tls/tls.key")
    assert (tracing.compression, tracing.headers_in_clear_text) == ("gzip", False)
    assert secrets == {"otlp-headers": "collector-key", "otlp-tls": "collector-tls"}


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:4317", "http://localhost:4317", "http://[::1]:4317", "https://c.example"],
)
def test_a_collectors_key_may_go_where_nobody_reads_along(endpoint: str, tmp_path: Path) -> None:
    """To a sidecar, or encrypted."""
    otlp = {"endpoint": endpoint, "headers": {"existingSecret": "k"}}
    assert render(smallest(observability={"otlp": otlp}), tmp_path).objects


def test_large_and_odd_values_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers beyond 32 bits, small fractions, quotes, backslashes, names that TOML must quote."""
    odd = 'a "b" \\ <c> & ü\t'
    values = smallest(
        edge={
            "insecure": True,
            "settings": {
                "hosts": {"api.example.com": "lenient"},
                "aliases": {"*": {"model": odd}},
                "admission": {"max_body_bytes_in_flight": 2**40},
            },
        },
        tokenizer={"settings": {"template": {"max_seconds": 0.0000125}}},
    )
    settings = loaded(render(values, tmp_path), tmp_path, monkeypatch)
    edge, tokenizer = settings["headrace-edge"], settings["headrace-tokenizer"]
    assert isinstance(edge, EdgeSettings)
    assert isinstance(tokenizer, TokenizerSettings)

    assert edge.hosts == {"api.example.com": "lenient"}
    assert edge.aliases["*"].model == odd
    assert edge.admission.max_body_bytes_in_flight == 2**40
    assert tokenizer.template.max_seconds == 0.0000125


def test_an_engines_table_may_be_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not there: GPUs and the grace are still reckoned with."""
    pool = {"name": "main", "model": "m", "engine": "tensorrt_llm", "gpus": 2}
    values = smallest(workers=[pool | {"settings": {"tensorrt_llm": None}}])
    rendered = render(values, tmp_path)
    worker = loaded(rendered, tmp_path, monkeypatch)["headrace-worker-main"]
    assert isinstance(worker, WorkerSettings)

    assert worker.tensorrt_llm.tensor_parallel == 2
    assert list(INVARIANTS["grace_is_long_enough"](rendered)) == []


def test_a_key_that_is_no_setting_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services are strict where the chart's schema is not."""
    rendered = render(smallest(tokenizer={"settings": {"thread": 4}}), tmp_path)

    with pytest.raises(StartError, match=r"unknown key tokenizer\.thread; did you mean threads"):
        loaded(rendered, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"edge": {"insecure": True, "settings": {"server": {"port": 1}}}},
            "edge.settings.server.port",
        ),
        ({"tokenizer": {"settings": {"models": ["x"]}}}, "tokenizer.settings.models"),
        ({"workerDefaults": {"settings": {"host": "::"}}}, "settings of pool main.host"),
        ({"models": {"source": {"type": "emptyDir"}}}, "holds nothing but what download.enabled"),
        ({"models": {"source": {"type": "hostPath"}}}, "hostPath needs hostPath"),
        ({"models": {"source": {"type": "existingClaim"}}}, "existingClaim needs claimName"),
        ({"workers": []}, "name at least one pool"),
        ({"workers": [{"name": "a", "model": "x"}] * 2}, "two pools are named a"),
        ({"workerDefaults": {"gpus": 1}}, "has 1 gpus, which engine openvino does not use"),
        ({"workerDefaults": {"engine": "tensorrt_llm"}}, "needs gpus"),
        (
            {
                "workerDefaults": {
                    "engine": "tensorrt_llm",
                    "gpus": 4,
                    "settings": {"tensorrt_llm": {"tensor_parallel": 2}},
                }
            },
            "has 4 gpus, but tensor_parallel 2 times pipeline_parallel 1",
        ),
        (
            {
                "workerDefaults": {
                    "engine": "tensorrt_llm",
                    "gpus": 1,
                    "download": {"enabled": True, "reference": "a/b"},
                }
            },
            "cannot download",
        ),
        ({"workerDefaults": {"download": {"enabled": True}}}, "without download.reference"),
        ({"edge": {}}, "accept callers without keys by edge.insecure"),
        ({"internal": {}}, "accept callers unchecked by internal.insecure"),
        ({"internal": {"keys": {"existingSecret": "k"}}}, "internal.keys needs internal.edgeKey"),
        (
            {"observability": {"otlp": {"headers": {"existingSecret": "k"}}}},
            "secret k is for a collector, but there is no endpoint",
        ),
        (
            {
                "observability": {
                    "otlp": {"endpoint": "http://127.0.0.1.c:1", "headers": {"existingSecret": "k"}}
                }
            },
            "accept it by observability.otlp.headersInClearText",
        ),
        (
            {"observability": {"otlp": {"endpoint": "http://c:1", "tls": {"existingSecret": "k"}}}},
            "tls needs an https:// endpoint, not http://c:1",
        ),
        (
            {"observability": {"otlp": {"endpoint": "https://c", "tls": {"mutual": True}}}},
            "tls.mutual needs tls.existingSecret",
        ),
        (
            {
                "edge": {
                    "insecure": True,
                    "settings": {"telemetry": {"tracing": {"headers": "api-key=x"}}},
                }
            },
            "edge.settings.telemetry.tracing.headers would be in a ConfigMap",
        ),
        (
            {"edge": {"insecure": True, "ingress": {"enabled": True}}},
            "edge.ingress.hosts: name at least one",
        ),
        (
            {
                "workerDefaults": {
                    "autoscaling": {"enabled": True, "maxReplicas": 1, "minReplicas": 2}
                }
            },
            "maxReplicas is less than minReplicas",
        ),
        (
            {"workerDefaults": {"settings": {"openvino": {"a": [1, None]}}}},
            "list of something else than plain values",
        ),
        (
            {
                "tokenizer": {"modelSource": {"type": "claim"}},
                "workers": [{"name": "tokenizer", "model": "x", "modelSource": {"type": "claim"}}],
            },
            "the claim of pool tokenizer would be the tokenizer's",
        ),
        (
            {"workerDefaults": {"settings": {"openvino": {"a": [[1]]}}}},
            "list of something else than plain values",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    more: Mapping[str, Any], told: str, tmp_path: Path
) -> None:
    """Settings that the chart derives, and values that contradict one another."""
    with pytest.raises(HelmError, match=told):
        render(smallest(**more), tmp_path)
