"""Charts broken on purpose: a patch of one template, and the invariant that must notice it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """`old` becomes `new` in a file of templates/, seen in a scene."""

    invariant: str
    what: str
    file: str
    old: str
    new: str
    scene: str = "laptop"


BREAKS: Sequence[Break] = (
    Break("names_are_good", "long", "_names.tpl", "{{- $joined -}}", "{{- repeat 9 $joined -}}"),
    Break(
        "names_are_good",
        "elsewhere",
        "_names.tpl",
        "{{ .root.Release.Namespace | quote }}",
        "default",
    ),
    Break(
        "texts_are_texts",
        "label",
        "_names.tpl",
        "headrace.dev/pool: {{ . | quote }}",
        "headrace.dev/pool: {{ . }}",
        "words-of-yaml",
    ),
    Break(
        "texts_are_texts",
        "host",
        "edge/ingress.yaml",
        "host: {{ . | quote }}",
        'host: {{ trimPrefix "*" . }}',
        "words-of-yaml",
    ),
    Break(
        "texts_are_texts",
        "claim",
        "_models.tpl",
        "{{ .claimName | quote }}",
        "{{ .claimName }}",
        "words-of-yaml",
    ),
    Break(
        "downloads_have_what_pods_have",
        "proxy",
        "tokenizer/deployment.yaml",
        '"values" .Values.tokenizer)',
        '"values" .Values.edge)',
        "downloads",
    ),
    Break("nodes_can_be_emptied", "shm", "_pod.tpl", ",shm", "", "one-h100"),
    Break("nodes_can_be_emptied", "models", "_pod.tpl", ",models", "", "downloads"),
    Break(
        "deployments_select_their_own_pods",
        "all-pools",
        "_names.tpl",
        "{{- with .pool }}\nheadrace.dev/pool: {{ . | quote }}\n{{- end }}\n",
        "",
        "eight-h100",
    ),
    Break(
        "services_lead_to_ports",
        "number",
        "edge/service.yaml",
        "targetPort: http\n",
        "targetPort: web\n",
    ),
    Break(
        "services_lead_to_ports",
        "selector",
        "edge/service.yaml",
        'include "headrace.selector" $edge',
        'include "headrace.labels" $edge',
    ),
    Break(
        "services_lead_to_ports",
        "health-for-all",
        "edge/service.yaml",
        'eq .Values.edge.service.type "ClusterIP"',
        "true",
        "tls",
    ),
    Break(
        "ingresses_lead_to_services",
        "port",
        "edge/ingress.yaml",
        "port: {name: http}",
        "port: {name: web}",
        "eight-h100",
    ),
    Break("edges_find_the_services_behind", "pinned", "_objects.tpl", "  clusterIP: None\n", ""),
    Break("edges_find_the_services_behind", "port", "_settings.tpl", ".svc:50061", ".svc:50062"),
    Break("probes_ask_the_health_port", "none", "_pod.tpl", "readinessProbe:", "x-readinessProbe:"),
    Break("probes_ask_the_health_port", "service", "_pod.tpl", "service: liveness", 'service: ""'),
    Break(
        "grace_is_long_enough", "without-pre-stop", "_components.tpl", "(int .preStopSeconds) ", ""
    ),
    Break(
        "grace_is_long_enough", "fixed", "_pod.tpl", '{{ include "headrace.grace" .values }}', "30"
    ),
    Break(
        "grace_is_long_enough",
        "without-the-delay",
        "_components.tpl",
        "(addf .drainDelaySeconds .drainSeconds)",
        ".drainSeconds",
        "extras",
    ),
    Break(
        "grace_is_long_enough",
        "without-the-engine",
        "_components.tpl",
        " (ceil $engine | int) -}}",
        " -}}",
        "one-h100",
    ),
    Break("rollouts_leave_somebody", "surge", "_pod.tpl", "maxSurge: 0", "maxSurge: 1", "one-h100"),
    Break("rollouts_leave_somebody", "gap", "_pod.tpl", "maxUnavailable: 0", "maxUnavailable: 1"),
    Break(
        "rollouts_leave_somebody",
        "impatience",
        "_pod.tpl",
        "progressDeadlineSeconds: {{ add $start",
        "progressDeadlineSeconds: {{ add 0",
    ),
    Break(
        "disruption_budgets_never_block",
        "least",
        "_objects.tpl",
        "maxUnavailable: 1",
        "minAvailable: 1",
    ),
    Break(
        "disruption_budgets_never_block",
        "alone",
        "_objects.tpl",
        '(include "headrace.fewestPods" .values | int) 1',
        "1 0",
        "one-of-each",
    ),
    Break(
        "disruption_budgets_never_block",
        "sick",
        "_objects.tpl",
        "  unhealthyPodEvictionPolicy: AlwaysAllow\n",
        "",
    ),
    Break(
        "autoscalers_own_the_replicas",
        "both",
        "_pod.tpl",
        "{{- if not .values.autoscaling.enabled }}",
        "{{- if true }}",
        "everything-scales",
    ),
    Break(
        "autoscalers_own_the_replicas",
        "target",
        "_objects.tpl",
        "name: {{ $.name | quote }}\n  minReplicas",
        "name: {{ $.name }}s\n  minReplicas",
        "everything-scales",
    ),
    Break(
        "autoscalers_own_the_replicas",
        "metric",
        "_objects.tpl",
        "{{ .metric | quote }}",
        "{{ .metric }}_total",
        "everything-scales",
    ),
    Break("pods_are_spread", "not", "_pod.tpl", "topologySpreadConstraints:", "x-spread:"),
    Break(
        "configurations_roll_pods", "name", "_pod.tpl", ".config | sha256sum", ".name | sha256sum"
    ),
    Break(
        "mounts_have_volumes",
        "missing",
        "_pod.tpl",
        "- name: tmp\n  emptyDir:",
        "- name: temp\n  emptyDir:",
    ),
    Break(
        "files_of_settings_are_mounted",
        "elsewhere",
        "_settings.tpl",
        "/etc/headrace/edge-key/",
        "/run/",
        "tls",
    ),
    Break(
        "files_of_settings_are_mounted",
        "sub-path",
        "_pod.tpl",
        "mountPath: /etc/headrace/{{ .name }}\n",
        "mountPath: /etc/headrace/{{ .name }}\n  subPath: x\n",
        "tls",
    ),
    Break(
        "secrets_are_files",
        "variable",
        "_pod.tpl",
        "fieldRef:\n      fieldPath: status.podIP",
        "secretKeyRef: {name: a, key: b}",
        "smallest",
    ),
    Break(
        "secrets_are_files",
        "argument",
        "edge/deployment.yaml",
        "--log-format, json]",
        '--log-format, json, "--api-key=x"]',
    ),
    Break("pods_are_restricted", "root", "_pod.tpl", "runAsNonRoot: true", "runAsNonRoot: false"),
    Break(
        "volumes_are_the_clusters",
        "node",
        "_pod.tpl",
        '- name: tmp\n  emptyDir:\n    sizeLimit: {{ default "1Gi" .values.tmpSize }}',
        "- name: tmp\n  hostPath: {path: /var/tmp}",
    ),
    Break(
        "volumes_are_the_clusters",
        "mode",
        "_pod.tpl",
        "defaultMode: 288",
        "defaultMode: 440",
        "tls",
    ),
    Break("pods_are_restricted", "links", "_pod.tpl", "enableServiceLinks: false\n", ""),
    Break("pods_are_restricted", "token", "_pod.tpl", "automountServiceAccountToken: false\n", ""),
    Break(
        "containers_are_restricted", "capabilities", "_pod.tpl", "drop: [ALL]", "add: [SYS_ADMIN]"
    ),
    Break(
        "containers_are_restricted", "writable", "_pod.tpl", "readOnlyRootFilesystem: true\n", ""
    ),
    Break(
        "images_are_pinned",
        "latest",
        "_names.tpl",
        "{{ coalesce .image.tag .root.Values.image.tag .root.Chart.AppVersion }}",
        "latest",
    ),
    Break(
        "resources_fit",
        "more-than-allowed",
        "edge/deployment.yaml",
        "{{- toYaml .Values.edge.resources | nindent 12 }}",
        "\n            requests: {cpu: 1, memory: 2Gi}\n            limits: {memory: 2000M}",
    ),
    Break(
        "resources_fit", "none", "tests/completion.yaml", "limits: {memory: 256Mi}", "limits: {}"
    ),
    Break(
        "gpu_pods_have_what_they_need",
        "toleration",
        "worker/_deployment.tpl",
        '"key" .gpuResource',
        '"key" "gpu"',
        "one-h100",
    ),
    Break(
        "gpu_pods_have_what_they_need",
        "disk",
        "worker/_deployment.tpl",
        "            medium: Memory\n",
        "",
        "eight-h100",
    ),
    Break(
        "networks_are_closed",
        "names",
        "_network.tpl",
        "range .root.Values.networkPolicy.dnsPorts",
        "range list 53",
    ),
    Break("networks_are_closed", "anybody", "_network.tpl", "      from:\n", "      x-from:\n"),
    Break(
        "networks_are_closed",
        "edge",
        "worker/networkpolicy.yaml",
        '"component" "edge"',
        '"component" "tokenizer"',
    ),
    Break(
        "monitors_find_services",
        "port",
        "_objects.tpl",
        "    - port: health\n      path",
        "    - port: metrics\n      path",
        "eight-h100",
    ),
    Break(
        "operators_take_their_objects",
        "version",
        "_objects.tpl",
        "monitoring.coreos.com/v1\nkind: ServiceMonitor",
        "monitoring.coreos.com/v2\nkind: ServiceMonitor",
        "eight-h100",
    ),
    Break(
        "operators_take_their_objects",
        "field",
        "_objects.tpl",
        "      interval: ",
        "      scrapeInterval: ",
        "eight-h100",
    ),
    Break(
        "operators_take_their_objects",
        "number",
        "_objects.tpl",
        "    - port: health\n      path",
        "    - port: 8081\n      path",
        "eight-h100",
    ),
    Break(
        "operators_take_their_objects",
        "time",
        "../alerts/headrace.yaml",
        "for: 5m\n",
        "for: 5 minutes\n",
        "eight-h100",
    ),
    Break(
        "operators_take_their_objects",
        "required",
        "../alerts/headrace.yaml",
        "        expr: ",
        "        expression: ",
        "eight-h100",
    ),
    Break(
        "monitors_find_services",
        "none",
        "edge/service.yaml",
        '{{ include "headrace.headlessService" $edge }}',
        "",
        "tls",
    ),
    Break(
        "tests_are_programs_of_ours",
        "nodes",
        "tests/completion.yaml",
        "{{- with .Values.edge.nodeSelector }}",
        "{{- with dict }}",
        "tls",
    ),
    Break(
        "tests_are_programs_of_ours",
        "module",
        "tests/completion.yaml",
        "headrace.cli.smoke",
        "headrace.smoke",
    ),
)
"""Every one must be noticed."""
