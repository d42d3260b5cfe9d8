{{/* NetworkPolicies: who may call a component, and whom it may call. */}}

{{/* Of a dict: the component, and from (JSON list of peers, [] = everybody), ports, to (JSON list of rules). */}}
{{- define "headrace.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "headrace.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        {{- range .ports }}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
      {{- with .from }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with .root.Values.networkPolicy.scrapers }}
    - ports:
        - {protocol: TCP, port: health}
      from:
        {{- toYaml . | nindent 8 }}
    {{- end }}
  egress:
    # Policies see a DNS pod's own port, behind that of its Service.
    - ports:
        {{- range .root.Values.networkPolicy.dnsPorts }}
        - {protocol: UDP, port: {{ . }}}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
    {{- with .root.Values.observability.otlp.endpoint }}
    - ports:
        - {protocol: TCP, port: {{ include "headrace.otlpPort" . }}}
      {{- with $.root.Values.networkPolicy.collectors }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- with concat .to .root.Values.networkPolicy.egress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* The port of an address; 4317 where it names none. */}}
{{- define "headrace.otlpPort" -}}
{{- default "4317" (regexFind "[0-9]+$" (regexFind ":[0-9]+/?$" . | trimSuffix "/")) -}}
{{- end -}}

{{/* Pods of this release by component, a JSON list of one peer. */}}
{{- define "headrace.peer" -}}
{{- list (dict "podSelector" (dict "matchLabels" (include "headrace.selector" . | fromYaml))) | toJson -}}
{{- end -}}

{{/* Egress to where models are pulled from, a JSON list. */}}
{{- define "headrace.downloadEgress" -}}
{{- $rule := dict "ports" (list (dict "protocol" "TCP" "port" 443)) -}}
{{- with .Values.networkPolicy.downloads -}}
{{- $_ := set $rule "to" . -}}
{{- end -}}
{{- list $rule | toJson -}}
{{- end -}}
