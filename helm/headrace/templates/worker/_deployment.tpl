{{/* The Deployment of one pool; of a component with config, secrets and source. */}}
{{- define "headrace.workerDeployment" -}}
{{- $pool := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  {{- include "headrace.rollout" . | nindent 2 }}
  template:
    metadata:
      {{- include "headrace.podMetadata" . | nindent 6 }}
    spec:
      {{- include "headrace.podSpec" . | nindent 6 }}
      {{- with $pool.runtimeClassName }}
      runtimeClassName: {{ . | quote }}
      {{- end }}
      {{- with include "headrace.workerTolerations" $pool | fromJsonArray }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with include "headrace.downloads" (dict "root" .root "source" .source "pools" (list $pool) "values" $pool) | trim }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: worker
          image: {{ include "headrace.image" (dict "root" .root "image" $pool.image "default" (printf "headrace-worker-%s" ($pool.engine | replace "_" "-"))) }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [headrace, worker, --config, /etc/headrace/config/headrace.toml, --log-format, json]
          env:
            {{- include "headrace.environment" . | trim | nindent 12 }}
            # The image's own would win over the file.
            - name: HEADRACE_WORKER__ENGINE
              value: {{ $pool.engine }}
          ports:
            - {name: grpc, containerPort: 50061}
            - {name: health, containerPort: {{ .root.Values.healthPort }}}
          {{- include "headrace.probes" . | nindent 10 }}
          resources:
            {{- include "headrace.workerResources" $pool | nindent 12 }}
          securityContext:
            {{- include "headrace.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            {{- include "headrace.volumeMounts" . | nindent 12 }}
            {{- include "headrace.modelMount" (dict "source" .source "readOnly" true) | nindent 12 }}
            {{- if include "headrace.shmSize" $pool }}
            - name: shm
              mountPath: /dev/shm
            {{- end }}
      volumes:
        {{- include "headrace.volumes" . | nindent 8 }}
        {{- include "headrace.modelVolume" .source | nindent 8 }}
        {{- with include "headrace.shmSize" $pool }}
        - name: shm
          emptyDir:
            medium: Memory
            sizeLimit: {{ . }}
        {{- end }}
{{- end -}}

{{/* Ranks of several GPUs talk through shared memory: a runtime's 64 MB would stop them. */}}
{{- define "headrace.shmSize" -}}
{{- default (ternary "16Gi" "" (gt (int .gpus) 0)) .shmSize -}}
{{- end -}}

{{- define "headrace.workerTolerations" -}}
{{- $tolerations := .tolerations -}}
{{- if gt (int .gpus) 0 -}}
{{- $tolerations = append $tolerations (dict "key" .gpuResource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- $tolerations | uniq | toJson -}}
{{- end -}}

{{- define "headrace.workerResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $limits := default (dict) $resources.limits -}}
{{- $_ := set $limits .gpuResource (toString .gpus) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
