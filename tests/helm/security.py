"""What holds of every release's pods, secrets and networks: who may do what.

Each function yields a sentence for what does not hold.
"""

import re
from collections.abc import Iterator, Mapping

from tests.helm.chart import Rendered
from tests.helm.objects import POLICED, component, deployments, is_selected, port_numbers

ALLOWED_VOLUMES = frozenset({"configMap", "emptyDir", "persistentVolumeClaim", "secret"})
SECRET_MODE = 0o440
"""For the user's group alone."""


def secrets_are_files(rendered: Rendered) -> Iterator[str]:
    """The chart makes no Secret, and puts none into a variable or an argument."""
    if list(rendered.of("Secret")):
        yield "a Secret is rendered"
    for name, container in rendered.containers():
        for entry in container.get("env", ()):
            if "secretKeyRef" in entry.get("valueFrom", {}):
                yield f"{name}: {entry['name']} holds a secret"
        words = [*container.get("command", ()), *container.get("args", ())]
        if any(re.search(r"(key|token|password)=|^hr-", word) for word in words):
            yield f"{name}: a secret among {words}"


def pods_are_restricted(rendered: Rendered) -> Iterator[str]:
    """Kubernetes' restricted profile, and no token or service links besides.

    Variables of service links would begin with HEADRACE_, which stops a service's start.
    """
    for name, pod in rendered.pods():
        spec, security = pod["spec"], pod["spec"].get("securityContext", {})
        # Whom a user is not given, OpenShift gives one.
        if security.get("runAsNonRoot") is not True or security.get("runAsUser", 1) < 1:
            yield f"{name}: may run as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: without seccomp"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token"
        if spec.get("enableServiceLinks") is not False:
            yield f"{name}: has variables of Services"
        if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares what is the node's"


def containers_are_restricted(rendered: Rendered) -> Iterator[str]:
    """So each container, whose root cannot be written either."""
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for name, container in rendered.containers():
        if container.get("securityContext") != wanted:
            yield f"{name}: {container.get('securityContext')}"


def volumes_are_the_clusters(rendered: Rendered) -> Iterator[str]:
    """No folder of a node, but for models where values ask for it."""
    for name, pod in rendered.pods():
        for volume in pod["spec"].get("volumes", ()):
            if not volume.keys() & ALLOWED_VOLUMES and volume["name"] != "models":
                yield f"{name}: volume {volume}"
            if volume.get("secret", {}).get("defaultMode", SECRET_MODE) != SECRET_MODE:
                yield f"{name}: who may read secret {volume['name']}"


def images_are_pinned(rendered: Rendered) -> Iterator[str]:
    """By a tag that says something, or by digest."""
    for name, container in rendered.containers():
        if not re.search(r"(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$", container["image"]):
            yield f"{name}: image {container['image']}"


def networks_are_closed(rendered: Rendered) -> Iterator[str]:
    """Each pod that takes calls has one policy; gRPC is the edge's, health the scrapers'."""
    policies = list(rendered.of("NetworkPolicy"))
    for name, _, pod in deployments(rendered) if policies else ():
        labels = pod["metadata"]["labels"]
        own = [
            item["spec"]
            for item in policies
            if is_selected(item["spec"]["podSelector"]["matchLabels"], labels)
        ]
        if len(own) != 1 or own[0]["policyTypes"] != ["Ingress", "Egress"]:
            yield f"{name}: {len(own)} policies"
            continue
        for rule in own[0]["ingress"]:
            ports = [port["port"] for port in rule["ports"]]
            if not set(ports) <= port_numbers(pod).keys():
                yield f"{name}: lets in to {ports}"
            if ports not in (["http"], ["http", "https"]) and not rule.get("from"):
                yield f"{name}: everybody may reach {ports}"
        names = {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)}
        anywhere = [rule["ports"] for rule in own[0]["egress"] if "to" not in rule]
        if not any(names <= {(p["protocol"], p["port"]) for p in ports} for ports in anywhere):
            yield f"{name}: DNS pods are out of reach, at 53 or at OpenShift's 5353"
        let_in = {component_of(peer) for rule in own[0]["ingress"] for peer in rule.get("from", ())}
        if component(pod) != "edge" and "edge" not in let_in:
            yield f"{name}: the edge is shut out"
        outwards = {component_of(peer) for rule in own[0]["egress"] for peer in rule.get("to", ())}
        if component(pod) == "edge" and not set(POLICED[1:]) <= outwards:
            yield f"{name}: may not call {POLICED[1:]}"


def component_of(peer: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """The component whose pods a peer of a policy is."""
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return labels.get("app.kubernetes.io/component", "")
