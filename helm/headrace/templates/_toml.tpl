{{/* A table of TOML. JSON's scalars and lists of scalars are TOML's too. Of a dict: path, table. */}}
{{- define "headrace.toml" -}}
[{{ .path }}]
{{- range $key, $value := .table }}
{{- if kindIs "slice" $value }}
{{- range $value }}
{{- if or (kindIs "map" .) (kindIs "slice" .) (kindIs "invalid" .) }}
{{- fail (printf "settings: %s.%s is a list of something else than plain values" $.path $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "headrace.tomlKey" $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}

{{ include "headrace.toml" (dict "path" (printf "%s.%s" $.path (include "headrace.tomlKey" $key)) "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "headrace.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ . | toJson }}{{- end -}}
{{- end -}}

{{/* Fails where `given` sets what the chart derives; of a dict: path, owned, given. */}}
{{- define "headrace.refuseOwned" -}}
{{- range $key, $value := .owned -}}
{{- if hasKey $.given $key -}}
{{- $path := printf "%s.%s" $.path $key -}}
{{- $given := index $.given $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $given) -}}
{{- include "headrace.refuseOwned" (dict "path" $path "owned" $value "given" $given) -}}
{{- else -}}
{{- fail (printf "%s is derived from other values of the chart and cannot be set here" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A service's table: the user's settings and the chart's; of a dict: path, table, owned, given. */}}
{{- define "headrace.settingsTable" -}}
{{- include "headrace.refuseOwned" . -}}
{{- if dig "telemetry" "tracing" "headers" "" .given -}}
{{- fail (printf "%s.telemetry.tracing.headers would be in a ConfigMap: observability.otlp.headers takes a secret" .path) -}}
{{- end -}}
{{- include "headrace.toml" (dict "path" .table "table" (mergeOverwrite (deepCopy .given) .owned)) -}}
{{- end -}}
