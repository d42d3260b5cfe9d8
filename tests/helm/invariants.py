"""What holds of every release of the chart; each function yields a sentence for what does not.

Schemas of Kubernetes see none of this: they know types, not what belongs together.
"""

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from tests.helm import security
from tests.helm.chart import NAMESPACE, Object, Rendered
from tests.helm.custom_objects import operators_take_their_objects
from tests.helm.objects import (
    component,
    config_of,
    config_text,
    deployments,
    is_derived,
    is_selected,
    main_container,
    named_texts,
    own_table,
    port_numbers,
    scaled,
    selected_pods,
    strings,
)
from tests.helm.quantities import quantity
from tests.support.exported_metrics import exported_metrics

LEAST_MARGIN_SECONDS = 10
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where it is)
_LOSABLE = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
_MOUNTED_BY_THE_CHART = frozenset(
    {"config", "tmp", "models", "shm", "keys", "internal-tls", "otlp-headers", "otlp-tls"}
)
_CLUSTER_WIDE_KINDS = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})


def names_are_good(rendered: Rendered) -> Iterator[str]:
    """Objects have names of their own that Kubernetes takes, in the release's namespace."""
    names = Counter((item["kind"], item["metadata"]["name"]) for item in rendered.objects)
    for (kind, name), count in names.items():
        if count > 1 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield f"{kind} {name}: a bad name, or that of several"
        if kind in _CLUSTER_WIDE_KINDS:
            yield f"{kind} {name} is not the release's to make"
    for item in rendered.objects:
        if item["metadata"].get("namespace") != NAMESPACE:
            yield f"{item['kind']} {item['metadata']['name']} is not in the release's namespace"


def texts_are_texts(rendered: Rendered) -> Iterator[str]:
    """What YAML would take for a number or a truth is quoted: names, labels, selectors."""
    for item in rendered.objects:
        for path, value in named_texts(item, item["kind"]):
            if not isinstance(value, str):
                yield f"{path}: {value!r} is no text"


def deployments_select_their_own_pods(rendered: Rendered) -> Iterator[str]:
    """A Deployment finds its own pods, and nobody else's."""
    for name, item, pod in deployments(rendered):
        if selected_pods(rendered, item["spec"]["selector"]["matchLabels"]) != [pod]:
            yield f"Deployment {name} does not select exactly its own pods"


def services_lead_to_ports(rendered: Rendered) -> Iterator[str]:
    """A Service finds pods, and all of them have the port that it sends to."""
    for item in rendered.of("Service"):
        name = item["metadata"]["name"]
        pods = selected_pods(rendered, item["spec"]["selector"])
        if not pods:
            yield f"Service {name} selects no pod"
        for pod in pods:
            for port in item["spec"]["ports"]:
                if (
                    port["name"] == "health"
                    and item["spec"].get("type", "ClusterIP") != "ClusterIP"
                ):
                    yield f"Service {name}: who is outside the cluster may reach health"
                if port["targetPort"] not in port_numbers(pod):
                    yield f"Service {name}: no pod has port {port['targetPort']}"


def ingresses_lead_to_services(rendered: Rendered) -> Iterator[str]:
    """An Ingress's backend is a Service of the release with such a port."""
    ports = {
        (item["metadata"]["name"], port["name"])
        for item in rendered.of("Service")
        for port in item["spec"]["ports"]
    }
    for item in rendered.of("Ingress"):
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                if (service["name"], service["port"]["name"]) not in ports:
                    yield f"Ingress to {service}, which is not there"


def edges_find_the_services_behind(rendered: Rendered) -> Iterator[str]:
    """Every address of the edge is a headless Service's, at the port on which its pods listen."""
    headless = {
        f"{item['metadata']['name']}.{NAMESPACE}.svc:{port['port']}": (item, port)
        for item in rendered.of("Service")
        if item["spec"].get("clusterIP") == "None"
        for port in item["spec"]["ports"]
        if port["name"] == "grpc"
    }
    for name, _, pod in deployments(rendered):
        if component(pod) != "edge":
            continue
        backend = own_table(rendered, pod)["backend"]
        named = [*backend["worker_addresses"], *backend["tokenizer_addresses"]]
        if sorted(named) != sorted(headless):
            yield f"{name}: addresses {named}, headless Services {sorted(headless)}"
    for address, (service, port) in headless.items():
        for pod in selected_pods(rendered, service["spec"]["selector"]):
            listens = own_table(rendered, pod)["port"]
            if not listens == port["port"] == port_numbers(pod)[port["targetPort"]]:
                yield f"{address}: the pod listens on {listens}"


def probes_ask_the_health_port(rendered: Rendered) -> Iterator[str]:
    """Three probes, native ones, of the services' names, at the port of the settings."""
    wanted = {"startupProbe": "startup", "livenessProbe": "liveness", "readinessProbe": ""}
    for name, _, pod in deployments(rendered):
        container = main_container(pod)
        port = own_table(rendered, pod)["telemetry"]["health"]["port"]
        for probe, service in wanted.items():
            grpc = container.get(probe, {}).get("grpc")
            if grpc != {"port": port, "service": service}:
                yield f"{name}: {probe} asks {grpc}, health is at {port}"
        if port_numbers(pod).get("health") != port:
            yield f"{name}: port {port} is not declared"


def grace_is_long_enough(rendered: Rendered) -> Iterator[str]:
    """preStop, drain, the engine's end and a margin fit before the pod is killed."""
    for name, _, pod in deployments(rendered):
        table = own_table(rendered, pod)
        drain = table.get("server", table)
        needed = main_container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed += drain.get("drain_delay_seconds", 0) + drain["drain_grace_seconds"]
        if table.get("engine") == "tensorrt_llm":
            needed += table["tensorrt_llm"].get("shutdown_seconds", 30)
        given = pod["spec"]["terminationGracePeriodSeconds"]
        if given < needed + LEAST_MARGIN_SECONDS:
            yield f"{name}: {needed} s are needed, terminationGracePeriodSeconds is {given}"


def _start_seconds(pod: Object) -> int:
    probe = main_container(pod)["startupProbe"]
    seconds: int = probe["periodSeconds"] * probe["failureThreshold"]
    return seconds


def rollouts_leave_somebody(rendered: Rendered) -> Iterator[str]:
    """GPU pools need no spare GPU, others lose no pod; progress is given a start behind a drain."""
    starts = {name: _start_seconds(pod) for name, _, pod in deployments(rendered)}
    for name, item, pod in deployments(rendered):
        spec = item["spec"]
        rolling = spec["strategy"]["rollingUpdate"]
        has_gpu = any("gpu" in key for key in main_container(pod)["resources"].get("limits", {}))
        wanted = {"maxSurge": 0, "maxUnavailable": 1}
        if rolling != (wanted if has_gpu else {"maxSurge": 1, "maxUnavailable": 0}):
            yield f"{name}: rolls by {rolling}"
        # An edge is ready with the first model: on an install it waits for whoever loads one.
        is_edge = main_container(pod)["name"] == "edge"
        start = max(starts.values()) if is_edge else starts[name]
        longest = start + pod["spec"]["terminationGracePeriodSeconds"] + spec["minReadySeconds"]
        if spec["progressDeadlineSeconds"] <= longest:
            yield f"{name}: a rollout of {longest} s would be called failed"
        if spec["minReadySeconds"] < 1:
            yield f"{name}: nobody has heard of a new pod when the old one goes"


def disruption_budgets_never_block(rendered: Rendered) -> Iterator[str]:
    """A budget is there just where another pod is, and lets one go at a time, sick ones always."""
    budgets = list(rendered.of("PodDisruptionBudget"))
    for name, item, pod in deployments(rendered):
        labels = pod["metadata"]["labels"]
        own = [b for b in budgets if is_selected(b["spec"]["selector"]["matchLabels"], labels)]
        autoscaler = scaled(rendered).get(name)
        pods = autoscaler["spec"]["minReplicas"] if autoscaler else item["spec"]["replicas"]
        if len(own) != (1 if pods > 1 else 0):
            yield f"{name}: {len(own)} budgets for {pods} pods"
        for budget in own:
            spec = budget["spec"]
            if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
                yield f"{name}: the budget may block"
            if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                yield f"{name}: a pod that is not ready would block"


def autoscalers_own_the_replicas(rendered: Rendered) -> Iterator[str]:
    """Their target is there and says no `replicas`; their metric is one that the code exports."""
    names = {name: item for name, item, _ in deployments(rendered)}
    exported = exported_metrics()
    for target, item in scaled(rendered).items():
        if target not in names:
            yield f"an autoscaler of {target}, which is not there"
        elif "replicas" in names[target]["spec"]:
            yield f"{target}: an upgrade would reset the replicas"
        for metric in item["spec"]["metrics"]:
            if metric["pods"]["metric"]["name"] not in exported:
                yield f"{target}: scales on {metric['pods']['metric']['name']}"
    for name, item in names.items():
        if name not in scaled(rendered) and "replicas" not in item["spec"]:
            yield f"{name}: has no replicas"


def pods_are_spread(rendered: Rendered) -> Iterator[str]:
    """Over nodes, counting their own kind alone."""
    for name, item, pod in deployments(rendered):
        constraints = pod["spec"].get("topologySpreadConstraints", [])
        wanted = item["spec"]["selector"]
        if [constraint.get("labelSelector") for constraint in constraints] != [wanted]:
            yield f"{name}: spread by {constraints}"


def configurations_roll_pods(rendered: Rendered) -> Iterator[str]:
    """A pod's annotation is the checksum of the settings that it reads."""
    for name, _, pod in deployments(rendered):
        text = config_text(rendered, pod).rstrip("\n")
        found = pod["metadata"]["annotations"].get("checksum/config")
        if found != hashlib.sha256(text.encode()).hexdigest():
            yield f"{name}: other settings would not reach running pods"


def mounts_have_volumes(rendered: Rendered) -> Iterator[str]:
    """Every mount has its volume, every volume a mount, every path one mount."""
    for name, pod in rendered.pods():
        spec = pod["spec"]
        declared = {volume["name"] for volume in spec.get("volumes", ())}
        mounted: set[str] = set()
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            mounts = container.get("volumeMounts", ())
            mounted |= {mount["name"] for mount in mounts}
            paths = [mount["mountPath"] for mount in mounts]
            if len(paths) != len(set(paths)):
                yield f"{name}: two mounts at one path of {paths}"
        if mounted != declared:
            yield f"{name}: mounts {sorted(mounted)}, volumes {sorted(declared)}"


def files_of_settings_are_mounted(rendered: Rendered) -> Iterator[str]:
    """Every file that settings name lies in a volume; secrets are whole, so that they change."""
    for name, _, pod in deployments(rendered):
        mounts = main_container(pod)["volumeMounts"]
        paths = [mount["mountPath"] for mount in mounts]
        for text in strings(config_of(rendered, pod)):
            if text.startswith("/") and not any(f"{text}/".startswith(f"{p}/") for p in paths):
                yield f"{name}: {text} is in no volume"
        secret = {v["name"] for v in pod["spec"]["volumes"] if "secret" in v}
        if any("subPath" in mount for mount in mounts if mount["name"] in secret):
            yield f"{name}: a secret by subPath never changes"


def downloads_have_what_pods_have(rendered: Rendered) -> Iterator[str]:
    """Variables and volumes of the user's, such as a proxy and its authority."""
    for name, _, pod in deployments(rendered):
        service = main_container(pod)
        own = {entry["name"] for entry in service["env"] if not is_derived(entry["name"])}
        volumes = {m["name"] for m in service["volumeMounts"]} - _MOUNTED_BY_THE_CHART
        for pull in pod["spec"].get("initContainers", ()):
            given = {entry["name"] for entry in pull.get("env", ())}
            if given != own or not volumes <= {m["name"] for m in pull["volumeMounts"]}:
                yield f"{name}: {pull['name']} has {sorted(given)}, not {sorted(own)}, {volumes}"


def nodes_can_be_emptied(rendered: Rendered) -> Iterator[str]:
    """What pods keep in empty folders may be lost: no cluster autoscaler is stopped by it."""
    for name, _, pod in deployments(rendered):
        folders = {v["name"] for v in pod["spec"]["volumes"] if "emptyDir" in v}
        told = pod["metadata"]["annotations"].get(_LOSABLE, "").split(",")
        if set(told) != folders & {"tmp", "shm", "models"}:
            yield f"{name}: {told} may be lost, of {sorted(folders)}"


def resources_fit(rendered: Rendered) -> Iterator[str]:
    """Every container asks for processor and memory, bounds its memory, and asks within bounds."""
    for name, container in rendered.containers():
        requests = container["resources"].get("requests", {})
        limits = container["resources"].get("limits", {})
        if not requests.keys() >= {"cpu", "memory"} or "memory" not in limits:
            yield f"{name}: resources {container['resources']}"
        for key in requests.keys() & limits.keys():
            if quantity(requests[key]) > quantity(limits[key]):
                yield f"{name}: asks for more {key} than it may have"


def gpu_pods_have_what_they_need(rendered: Rendered) -> Iterator[str]:
    """As many GPUs as the engine spreads over, a toleration for them, shared memory in bounds."""
    for name, _, pod in deployments(rendered):
        table = own_table(rendered, pod)
        limits = main_container(pod)["resources"].get("limits", {})
        if table.get("engine") != "tensorrt_llm":
            continue
        engine = table["tensorrt_llm"]
        needed = engine["tensor_parallel"] * engine.get("pipeline_parallel", 1)
        if int(limits.get("nvidia.com/gpu", 0)) != needed:
            yield f"{name}: {limits} for {needed} GPUs"
        tolerated = [item.get("key") for item in pod["spec"].get("tolerations", ())]
        if "nvidia.com/gpu" not in tolerated:
            yield f"{name}: tolerates {tolerated}"
        [mount] = [
            m for m in main_container(pod)["volumeMounts"] if m["mountPath"] == SHARED_MEMORY
        ]
        [shm] = [v["emptyDir"] for v in pod["spec"]["volumes"] if v["name"] == mount["name"]]
        if shm.get("medium") != "Memory" or quantity(shm["sizeLimit"]) > quantity(limits["memory"]):
            yield f"{name}: shared memory {shm}"


def monitors_find_services(rendered: Rendered) -> Iterator[str]:
    """Of the Services that a ServiceMonitor selects, just one has the port."""
    for item in rendered.of("ServiceMonitor"):
        name, wanted = item["metadata"]["name"], item["spec"]["selector"]["matchLabels"]
        found = [s for s in rendered.of("Service") if is_selected(wanted, s["metadata"]["labels"])]
        ports = [port["name"] for service in found for port in service["spec"]["ports"]]
        if [ports.count(end["port"]) for end in item["spec"]["endpoints"]] != [1]:
            yield f"ServiceMonitor {name}: {len(found)} Services with {sorted(ports)}"


def tests_are_programs_of_ours(rendered: Rendered) -> Iterator[str]:
    """The pod of `helm test` is a hook that goes away, and runs a module that there is."""
    for item in rendered.of("Pod"):
        name, notes = item["metadata"]["name"], item["metadata"]["annotations"]
        if notes["helm.sh/hook"] != "test" or "before-hook-creation" not in str(notes):
            yield f"{name}: is no test that can run twice"
        interpreter, flag, module, *_ = main_container(item)["command"]
        if (interpreter, flag) != ("python", "-m") or importlib.util.find_spec(module) is None:
            yield f"{name}: runs {module}, which there is not"
        edge = next(pod["spec"] for _, _, pod in deployments(rendered) if component(pod) == "edge")
        if any(edge.get(key) != item["spec"].get(key) for key in ("nodeSelector", "tolerations")):
            yield f"{name}: may not run where edges do, whose image it has"


INVARIANTS: Mapping[str, Callable[[Rendered], Iterator[str]]] = {
    function.__name__: function
    for function in (
        names_are_good,
        texts_are_texts,
        deployments_select_their_own_pods,
        services_lead_to_ports,
        ingresses_lead_to_services,
        edges_find_the_services_behind,
        probes_ask_the_health_port,
        grace_is_long_enough,
        rollouts_leave_somebody,
        disruption_budgets_never_block,
        autoscalers_own_the_replicas,
        pods_are_spread,
        configurations_roll_pods,
        mounts_have_volumes,
        files_of_settings_are_mounted,
        security.secrets_are_files,
        security.pods_are_restricted,
        security.containers_are_restricted,
        security.volumes_are_the_clusters,
        security.images_are_pinned,
        downloads_have_what_pods_have,
        nodes_can_be_emptied,
        resources_fit,
        gpu_pods_have_what_they_need,
        security.networks_are_closed,
        monitors_find_services,
        operators_take_their_objects,
        tests_are_programs_of_ours,
    )
}
"""By name."""
