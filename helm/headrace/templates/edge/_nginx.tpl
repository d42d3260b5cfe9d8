{{/* What ingress-nginx must be told of streams: no buffers, and as much time as a request has. */}}
{{- define "headrace.nginxAnnotations" -}}
{{- $seconds := dig "backend" "request_timeout_seconds" 3600 .Values.edge.settings | ceil | int -}}
{{- $bytes := dig "server" "max_body_bytes" 16777216 .Values.edge.settings | int64 -}}
nginx.ingress.kubernetes.io/proxy-buffering: "off"
nginx.ingress.kubernetes.io/proxy-request-buffering: "off"
nginx.ingress.kubernetes.io/proxy-http-version: "1.1"
nginx.ingress.kubernetes.io/proxy-read-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-send-timeout: {{ $seconds | quote }}
nginx.ingress.kubernetes.io/proxy-body-size: {{ $bytes | quote }}
{{- end -}}
