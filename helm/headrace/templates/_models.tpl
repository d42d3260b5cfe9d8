{{/* Where a pod's models come from. */}}

{{/* The source of a component, JSON, with `claim name` filled in. Of a dict: root, own, suffix. */}}
{{- define "headrace.modelSource" -}}
{{- $source := mergeOverwrite (deepCopy .root.Values.models.source) (deepCopy .own) -}}
{{- if eq $source.type "claim" -}}
{{- $shared := printf "%s-models" (include "headrace.fullname" .root) -}}
{{- $_ := set $source "claimName" (ternary (printf "%s-%s" $shared .suffix) $shared (eq (default "" .own.type) "claim")) -}}
{{- else if and (eq $source.type "existingClaim") (not $source.claimName) -}}
{{- fail (printf "models of %s: type existingClaim needs claimName" .suffix) -}}
{{- else if and (eq $source.type "hostPath") (not $source.hostPath) -}}
{{- fail (printf "models of %s: type hostPath needs hostPath" .suffix) -}}
{{- end -}}
{{- $source | toJson -}}
{{- end -}}

{{/* Of a source. */}}
{{- define "headrace.modelVolume" -}}
- name: models
{{- if eq .type "hostPath" }}
  hostPath:
    path: {{ .hostPath | quote }}
    type: Directory
{{- else if eq .type "emptyDir" }}
  emptyDir: {}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ .claimName | quote }}
{{- end }}
{{- end -}}

{{/* Of a dict: source, readOnly. */}}
{{- define "headrace.modelMount" -}}
- name: models
  mountPath: /models
  readOnly: {{ .readOnly }}
  {{- with .source.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end -}}

{{/* Containers that pull models before the start. Of a dict: root, source, pools, and values
of the pod's component, whose variables and volumes they have too: proxies, authorities. */}}
{{- define "headrace.downloads" -}}
{{- $downloading := list -}}
{{- range .pools -}}
{{- if .download.enabled -}}
{{- $downloading = append $downloading . -}}
{{- end -}}
{{- end -}}
{{- if and (eq .source.type "emptyDir") (ne (len $downloading) (len .pools)) -}}
{{- fail "models: an emptyDir holds nothing but what download.enabled puts there" -}}
{{- end -}}
{{- range $downloading }}
- name: pull-{{ .name }}
  image: {{ include "headrace.image" (dict "root" $.root "image" .image "default" "headrace-worker-openvino") }}
  imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
  command: [headrace, model, pull, {{ .download.reference | quote }}, --name, {{ .model | quote }}, --config, /etc/headrace/config/headrace.toml]
  securityContext:
    {{- include "headrace.containerSecurity" $.root | nindent 4 }}
  {{- with $.values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    {{- include "headrace.modelMount" (dict "source" $.source "readOnly" false) | nindent 4 }}
    - name: config
      mountPath: /etc/headrace/config
      readOnly: true
    - name: tmp
      mountPath: /tmp
    {{- with $.values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}
