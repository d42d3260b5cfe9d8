{{/* Whether there is a test pod: where the edge has keys, it needs one. */}}
{{- define "headrace.hasTest" -}}
{{- if and .Values.test.enabled (or (not .Values.edge.keys.existingSecret) .Values.test.apiKey.existingSecret) -}}
yes
{{- end -}}
{{- end -}}
