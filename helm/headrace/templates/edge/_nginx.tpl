{{/* What ingress-nginx must be told of streams: no buffers, and as much time as a request has. */}}
{{- define "headrace.nginxAnnotations" -}}
{{- /* null means the default. */ -}}
{{- $seconds := get (default (dict) .Values.edge.settings.backend) "request_timeout_seconds" | default 3600 | ceil | int -}}
{{- $bytes := get (default (dict) .Values.edge.settings.server) "max_body_bytes" | default 16777216 | int64 -}}
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-request-buffering: "off"
nginx.ingress.kubernetes.io/proxy-http-version: "1.1"
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-body-size: {{ $bytes | quote }}
{{- end -}}
