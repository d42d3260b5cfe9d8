{{/* Names, labels and images. */}}

{{/* 36 characters at most, of which a longer name's last eight tell it from others that begin alike. */}}
{{- define "headrace.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $joined := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $joined = default $joined .Values.fullnameOverride -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $joined) -}}
{{- fail (printf "fullnameOverride: Services cannot be named after %s: give a name of a-z, 0-9 and -, a letter first" $joined) -}}
{{- end -}}
{{- if gt (len $joined) 36 -}}
{{- $joined = printf "%s-%s" ($joined | trunc 27 | trimSuffix "-") ($joined | sha256sum | trunc 8) -}}
{{- end -}}
{{- $joined -}}
{{- end -}}

{{/* Labels that select; of a dict: root, component, and pool for workers. */}}
{{- define "headrace.selector" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
headrace.dev/pool: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "headrace.labels" -}}
{{ include "headrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "headrace.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
{{- end -}}

{{/* Of a dict: root, image (the component's group), default (repository where it names none). */}}
{{- define "headrace.image" -}}
{{- $repository := default .default .image.repository -}}
{{- $path := ternary (printf "%s/%s" .root.Values.image.registry $repository) $repository (ne .root.Values.image.registry "") -}}
{{- if .image.digest -}}
{{ $path }}@{{ .image.digest }}
{{- else -}}
{{ $path }}:{{ coalesce .image.tag .root.Values.image.tag .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "headrace.serviceAccount" -}}
{{- $own := ternary (include "headrace.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $own .Values.serviceAccount.name -}}
{{- end -}}
