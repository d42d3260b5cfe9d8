"""Pods as a Deployment's template describes them: read once, and refused where not understood."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.kubelet.fields import RefusedError, require_known, require_value
from tests.kubelet.probes import Probe

_POD_WITHOUT_EFFECT = {"securityContext", "serviceAccountName", "topologySpreadConstraints"}
_CONTAINER_WITHOUT_EFFECT = {"imagePullPolicy", "resources", "securityContext"}
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_POD_IP = {"fieldRef": {"fieldPath": "status.podIP"}}
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (it is refused)


@dataclass(frozen=True, slots=True)
class Volume:
    """Where mounted files come from."""

    name: str
    kind: str
    """configMap, secret, emptyDir or hostPath."""
    source: str
    """The name of the ConfigMap or Secret, or the host's path."""

    @classmethod
    def read(cls, where: str, fields: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        [kind, *more] = [name for name in fields if name != "name"]
        known = {
            "configMap": ({"name"}, {"defaultMode"}, "name"),
            "secret": ({"secretName"}, {"defaultMode"}, "secretName"),
            "emptyDir": (set(), {"sizeLimit", "medium"}, ""),
            "hostPath": ({"path"}, {"type"}, "path"),
        }
        if kind not in known or more:
            raise RefusedError(f"{where}: the mini-kubelet does not know volumes of {kind}")
        used, without_effect, source = known[kind]
        content = fields[kind] or {}
        require_known(f"{where}.{kind}", content, used, without_effect)
        return cls(fields["name"], kind, content.get(source, ""))


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The one container of a pod."""

    name: str
    image_tag: str
    command: Sequence[str]
    """With its arguments."""
    environment: Mapping[str, str | None]
    """None stands for the pod's address."""
    ports: Mapping[str, int]
    mounts: Mapping[str, str]
    """Names of volumes by the paths at which they are."""
    startup: Probe | None
    liveness: Probe | None
    readiness: Probe | None
    pre_stop_seconds: float

    @classmethod
    def read(cls, where: str, fields: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        used = {"name", "image", "command", "args", "env", "ports", "lifecycle", "volumeMounts"}
        require_known(where, fields, used | set(_PROBES), _CONTAINER_WITHOUT_EFFECT)
        if "command" not in fields:
            raise RefusedError(f"{where}: the mini-kubelet knows no image's own command")
        probes = {name: Probe.read(f"{where}.{name}", fields[name]) for name in _has(fields)}
        return cls(
            name=fields["name"],
            image_tag=_image_tag(where, fields["image"]),
            command=[_plain(where, word) for word in (*fields["command"], *fields.get("args", ()))],
            environment=dict(_variable(where, item) for item in fields.get("env", ())),
            ports=dict(_port(where, item) for item in fields.get("ports", ())),
            mounts=dict(_mount(where, item) for item in fields.get("volumeMounts", ())),
            startup=probes.get("startupProbe"),
            liveness=probes.get("livenessProbe"),
            readiness=probes.get("readinessProbe"),
            pre_stop_seconds=_pre_stop(where, fields.get("lifecycle", {})),
        )


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What each pod of a ReplicaSet is made after."""

    labels: Mapping[str, str]
    container: ContainerSpec
    volumes: Sequence[Volume]
    grace_seconds: float
    revision: str
    """Of the whole template, annotations too: pods of another are rolled."""

    @classmethod
    def read(cls, where: str, template: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        require_known(where, template, {"metadata", "spec"})
        require_known(f"{where}.metadata", template["metadata"], {"labels", "annotations"})
        spec = template["spec"]
        used = {"containers", "volumes", "terminationGracePeriodSeconds"}
        fixed = {"enableServiceLinks": False, "automountServiceAccountToken": False}
        require_known(where, spec, used | set(fixed), _POD_WITHOUT_EFFECT)
        for name, value in fixed.items():
            require_value(where, spec, name, value)
        if len(spec["containers"]) != 1:
            raise RefusedError(f"{where}: the mini-kubelet knows pods of one container only")
        volumes = [Volume.read(f"{where}.volumes", item) for item in spec.get("volumes", ())]
        container = ContainerSpec.read(f"{where}.containers[0]", spec["containers"][0])
        for path, name in container.mounts.items():
            if name not in {volume.name for volume in volumes}:
                raise RefusedError(f"{where}: nothing declares the volume {name} of {path}")
        return cls(
            labels=template["metadata"]["labels"],
            container=container,
            volumes=volumes,
            grace_seconds=spec.get("terminationGracePeriodSeconds", 30.0),
            revision=_digest(template),
        )


def _has(container: Mapping[str, Any]) -> Sequence[str]:
    return [name for name in _PROBES if name in container]


def _digest(template: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]


def _image_tag(where: str, image: str) -> str:
    found = re.fullmatch(r"[^@]*:([\w.-]+)", image)
    if found is None:
        raise RefusedError(f"{where}: the mini-kubelet knows images by tag only, not {image}")
    return found[1]


def _plain(where: str, text: str) -> str:
    if "$(" in text:
        raise RefusedError(f"{where}: the mini-kubelet expands no $(…), as in {text!r}")
    return text


def _variable(where: str, item: Mapping[str, Any]) -> tuple[str, str | None]:
    name = item["name"]
    require_known(f"{where}.env {name}", item, {"name", "value", "valueFrom"})
    if "valueFrom" in item:
        require_value(f"{where}.env {name}", item, "valueFrom", _POD_IP)
        return name, None
    value = _plain(where, item.get("value", ""))
    if value == _EVERYWHERE:
        raise RefusedError(f"{where}: {name} is the whole machine's address; render podIP")
    return name, value


def _port(where: str, item: Mapping[str, Any]) -> tuple[str, int]:
    require_known(f"{where}.ports", item, {"name", "containerPort"})
    return item["name"], item["containerPort"]


def _mount(where: str, item: Mapping[str, Any]) -> tuple[str, str]:
    require_known(f"{where}.volumeMounts", item, {"name", "mountPath"}, {"readOnly"})
    return item["mountPath"], item["name"]


def _pre_stop(where: str, lifecycle: Mapping[str, Any]) -> float:
    require_known(f"{where}.lifecycle", lifecycle, {"preStop"})
    hook = lifecycle.get("preStop", {"sleep": {"seconds": 0}})
    require_known(f"{where}.lifecycle.preStop", hook, {"sleep"})
    seconds: float = hook["sleep"]["seconds"]
    return seconds
