{{/* Whole objects that several components have. Components are dicts {root, component, pool, name, values}. */}}

{{- define "headrace.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
data:
  headrace.toml: |
    {{- .config | nindent 4 }}
{{- end -}}

{{/* A name that resolves to every pod that is ready. */}}
{{- define "headrace.headlessService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "headrace.selector" . | nindent 4 }}
  ports:
    {{- with .port }}
    - name: grpc
      port: {{ . }}
      targetPort: grpc
      appProtocol: grpc
    {{- end }}
    - name: health
      port: {{ .root.Values.healthPort }}
      targetPort: health
{{- end -}}

{{/* Only where there is another pod to go on with, so that nodes can always be emptied. */}}
{{- define "headrace.disruptionBudget" -}}
{{- if gt (include "headrace.fewestPods" .values | int) 1 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "headrace.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{- define "headrace.autoscaler" -}}
{{- with .values.autoscaling -}}
{{- if .enabled -}}
{{- if lt (int .maxReplicas) (int .minReplicas) -}}
{{- fail (printf "%s: autoscaling.maxReplicas is less than minReplicas" $.name) -}}
{{- end -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "headrace.metadata" $ | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $.name | quote }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    - type: Pods
      pods:
        metric:
          name: {{ .metric | quote }}
        target:
          type: AverageValue
          averageValue: {{ .target | quote }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: {{ .scaleDownSeconds }}
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "headrace.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "headrace.metadata" . | nindent 2 }}
    {{- with .root.Values.observability.serviceMonitors.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "headrace.selector" . | nindent 6 }}
  endpoints:
    - port: health
      path: /metrics
      interval: {{ .root.Values.observability.serviceMonitors.interval }}
{{- end -}}
