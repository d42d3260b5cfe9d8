{{/* Parts of every pod. Components are dicts {root, component, pool, name, values}. */}}

{{/* Metadata of the pod; its config is a component's headrace.toml. No label that changes with the
chart alone: pods roll only where they differ. */}}
{{- define "headrace.podMetadata" -}}
labels:
  {{- include "headrace.selector" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ .config | sha256sum }}
  {{- $notes := dict "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" (include "headrace.emptyVolumes" .) }}
  {{- mergeOverwrite $notes .values.podAnnotations | toYaml | nindent 2 }}
{{- end -}}

{{/* Volumes that may be lost: for them alone no cluster autoscaler keeps a node. */}}
{{- define "headrace.emptyVolumes" -}}
tmp
{{- if include "headrace.shmSize" .values }},shm{{ end }}
{{- if eq (dig "type" "" (default (dict) .source)) "emptyDir" }},models{{ end }}
{{- end -}}

{{/* enableServiceLinks: variables of Services would be named HEADRACE_…, and be taken for settings. */}}
{{- define "headrace.podSpec" -}}
serviceAccountName: {{ include "headrace.serviceAccount" .root | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "headrace.grace" .values }}
securityContext:
  {{- include "headrace.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "headrace.selector" . | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end -}}

{{- define "headrace.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurityContext }}
{{ toYaml . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "headrace.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Native gRPC probes on the health port: liveness and readiness begin behind the start. */}}
{{- define "headrace.probes" -}}
{{- $port := .root.Values.healthPort -}}
startupProbe:
  grpc: {port: {{ $port }}, service: startup}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (add (int .values.startupSeconds) 4) 5 }}
livenessProbe:
  grpc: {port: {{ $port }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
  # Who is stuck drains nothing.
  terminationGracePeriodSeconds: 15
readinessProbe:
  grpc: {port: {{ $port }}, service: ""}
  periodSeconds: 3
  timeoutSeconds: 2
  failureThreshold: 2
lifecycle:
  preStop:
    sleep:
      seconds: {{ .values.preStopSeconds }}
{{- end -}}

{{/* The addresses to listen on, narrowed to the pod's own. Of a dict also: host, its variable. */}}
{{- define "headrace.environment" -}}
{{- $variables := list .host (printf "HEADRACE_%s__TELEMETRY__HEALTH__HOST" (upper .component)) -}}
{{- range $variables }}
- name: {{ . }}
{{- if eq $.root.Values.listen "podIP" }}
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- else }}
  value: "0.0.0.0"
{{- end }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of a dict also: secrets, those of headrace.secrets. */}}
{{- define "headrace.volumeMounts" -}}
- name: config
  mountPath: /etc/headrace/config
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- range .secrets }}
- name: {{ .name }}
  mountPath: /etc/headrace/{{ .name }}
  readOnly: true
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Secrets are mounted whole, never by subPath: so they change in running pods. */}}
{{- define "headrace.volumes" -}}
- name: config
  configMap:
    name: {{ .name | quote }}
- name: tmp
  emptyDir:
    sizeLimit: {{ default "1Gi" .values.tmpSize }}
{{- range .secrets }}
- name: {{ .name }}
  secret:
    secretName: {{ .secretName | quote }}
    defaultMode: 288 # 0440
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Secrets of a component, a JSON list of {name, secretName}. */}}
{{- define "headrace.secrets" -}}
{{- $all := dict "keys" .Values.internal.keys "internal-tls" .Values.internal.tls -}}
{{- if eq .component "edge" -}}
{{- $all = dict "keys" .Values.edge.keys "tls" .Values.edge.tls "edge-key" .Values.internal.edgeKey "internal-tls" .Values.internal.tls -}}
{{- end -}}
{{- with .Values.observability.otlp -}}
{{- $_ := merge $all (dict "otlp-headers" .headers "otlp-tls" .tls) -}}
{{- end -}}
{{- $used := list -}}
{{- range $name, $secret := $all -}}
{{- if $secret.existingSecret -}}
{{- $used = append $used (dict "name" $name "secretName" $secret.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- $used | toJson -}}
{{- end -}}

{{/* How pods follow one another, and what is told of progress: a start behind a whole grace. */}}
{{- define "headrace.rollout" -}}
{{- $start := int .values.startupSeconds -}}
{{- if eq .component "edge" -}}
{{- /* Ready with the first model: on the first install it waits for whoever loads one. */ -}}
{{- $start = max $start (int .root.Values.tokenizer.startupSeconds) -}}
{{- range include "headrace.pools" .root | fromJsonArray -}}
{{- $start = max $start (int .startupSeconds) -}}
{{- end -}}
{{- end -}}
minReadySeconds: {{ .values.minReadySeconds }}
progressDeadlineSeconds: {{ add $start (include "headrace.grace" .values | int) (int .values.minReadySeconds) 120 }}
revisionHistoryLimit: 5
{{- if not .values.autoscaling.enabled }}
replicas: {{ .values.replicas }}
{{- end }}
strategy:
  type: RollingUpdate
  rollingUpdate:
    {{- if gt (int .values.gpus) 0 }}
    # There may be no spare GPU.
    maxSurge: 0
    maxUnavailable: 1
    {{- else }}
    maxSurge: 1
    maxUnavailable: 0
    {{- end }}
selector:
  matchLabels:
    {{- include "headrace.selector" . | nindent 4 }}
{{- end -}}
