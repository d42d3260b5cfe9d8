"""Values that turn on what the examples leave off; these and the examples must render well."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helm.chart import EXAMPLES, smallest

_KEYS = {
    "keys": {"existingSecret": "internal-keys"},
    "edgeKey": {"existingSecret": "edge-key", "key": "trusted"},
}
_DOWNLOAD = {
    "name": "qwen",
    "model": "Qwen2.5-0.5B-Instruct",
    "download": {"enabled": True, "reference": "OpenVINO/Qwen2.5-0.5B-Instruct-fp16-ov"},
}
_BEHIND_A_PROXY = {
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.test:3128"}],
    "extraVolumes": [{"name": "authority", "configMap": {"name": "proxy-authority"}}],
    "extraVolumeMounts": [{"name": "authority", "mountPath": "/etc/proxy", "readOnly": True}],
}

SCENES: Mapping[str, Path | Mapping[str, Any]] = {
    **{file.stem: file for file in EXAMPLES},
    "smallest": smallest(),
    "one-of-each": smallest(
        edge={"insecure": True, "replicas": 1},
        tokenizer={"replicas": 1},
        networkPolicy={"enabled": False},
        serviceAccount={"create": False},
        test={"enabled": False},
    ),
    "tls": smallest(
        edge={
            "keys": {"existingSecret": "keys", "key": "people.toml"},
            "tls": {"existingSecret": "edge-tls"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "example.com/edge", "operator": "Exists"}],
            "service": {"type": "LoadBalancer", "annotations": {"example.com/lb": "internal"}},
        },
        internal={**_KEYS, "tls": {"existingSecret": "internal-tls", "mutual": False}},
        image={"registry": "registry.example.com", "tag": "1", "pullSecrets": [{"name": "pull"}]},
        test={"apiKey": {"existingSecret": "test-key"}},
        observability={"serviceMonitors": {"enabled": True}},
    ),
    "keys-without-a-test-key": smallest(edge={"keys": {"existingSecret": "keys"}}),
    "a-collector-with-a-key": smallest(
        observability={
            "otlp": {
                "endpoint": "https://api.collector.example:443",
                "compression": "gzip",
                "headers": {"existingSecret": "collector-key", "key": "otlp.headers"},
                "tls": {"existingSecret": "collector-tls", "mutual": True},
            }
        },
    ),
    "a-collector-in-clear-text": smallest(
        observability={
            "otlp": {
                "endpoint": "http://otel-collector.monitoring:4317",
                "headers": {"existingSecret": "collector-key"},
                "headersInClearText": True,
            }
        },
    ),
    "downloads": smallest(
        models={"source": {"type": "emptyDir"}, "settings": {"hub_endpoint": "https://hub.test"}},
        workers=[_DOWNLOAD | _BEHIND_A_PROXY],
        tokenizer=_BEHIND_A_PROXY,
        networkPolicy={"egress": [{"ports": [{"protocol": "TCP", "port": 3128}]}]},
    ),
    "claims-of-their-own": smallest(
        models={"source": {"type": "claim", "subPath": "models"}},
        tokenizer={"modelSource": {"type": "claim", "claim": {"size": "5Gi"}}},
        workers=[
            {"name": "main", "model": "a", "modelSource": {"type": "claim"}},
            {"name": "other", "model": "b"},
        ],
    ),
    "everything-scales": smallest(
        edge={"insecure": True, "autoscaling": {"enabled": True}},
        tokenizer={"autoscaling": {"enabled": True}},
        workerDefaults={"autoscaling": {"enabled": True}},
        networkPolicy={"directCallers": [{"podSelector": {"matchLabels": {"may": "call"}}}]},
    ),
    "words-of-yaml": smallest(
        edge={"insecure": True, "ingress": {"enabled": True, "hosts": ["*.example.com", "2026"]}},
        models={"source": {"type": "existingClaim", "claimName": "123", "subPath": "no"}},
        image={"tag": "1", "pullSecrets": [{"name": "1"}]},
        serviceAccount={"create": False, "name": "2026"},
        workers=[
            {"name": "on", "model": "null", "priorityClassName": "1", "runtimeClassName": "true"}
        ],
    ),
    "openshift": smallest(
        podSecurityContext={"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        models={"source": {"type": "existingClaim", "claimName": "models"}},
    ),
    "extras": smallest(
        workerDefaults={
            "drainDelaySeconds": 30.5,
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "nodeSelector": {"e": "f"},
            "priorityClassName": "high",
            "runtimeClassName": "nvidia",
            "image": {"digest": "sha256:" + "0" * 64},
            "shmSize": "1Gi",
        },
    ),
}
"""By name."""
