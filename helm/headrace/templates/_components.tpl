{{/* Components as dicts {root, component, pool, name, values}: what every other helper is given. */}}

{{- define "headrace.workerName" -}}
{{ include "headrace.fullname" .root }}-worker-{{ .pool }}
{{- end -}}

{{/* Pools with the defaults filled in, a JSON list. */}}
{{- define "headrace.pools" -}}
{{- if not .Values.workers -}}
{{- fail "workers: name at least one pool, such as {name: main, model: SmolLM2-135M-Instruct}" -}}
{{- end -}}
{{- $pools := list -}}
{{- $names := list -}}
{{- range .Values.workers -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy .) -}}
{{- if has $pool.name $names -}}
{{- fail (printf "workers: two pools are named %s" $pool.name) -}}
{{- end -}}
{{- include "headrace.checkPool" $pool -}}
{{- $names = append $names $pool.name -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- $pools | toJson -}}
{{- end -}}

{{/* What the schema cannot say of a pool. */}}
{{- define "headrace.checkPool" -}}
{{- $gpus := int .gpus -}}
{{- if and (eq .engine "tensorrt_llm") (lt $gpus 1) -}}
{{- fail (printf "workers: pool %s has engine tensorrt_llm, which needs gpus" .name) -}}
{{- end -}}
{{- if and (ne .engine "tensorrt_llm") (gt $gpus 0) -}}
{{- fail (printf "workers: pool %s has %d gpus, which engine %s does not use" .name $gpus .engine) -}}
{{- end -}}
{{- if .download.enabled -}}
{{- if ne .engine "openvino" -}}
{{- fail (printf "workers: pool %s cannot download: models are pulled in OpenVINO's format" .name) -}}
{{- end -}}
{{- if not .download.reference -}}
{{- fail (printf "workers: pool %s has download.enabled without download.reference" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pods of a component at the least; of its values. */}}
{{- define "headrace.fewestPods" -}}
{{- ternary .autoscaling.minReplicas .replicas .autoscaling.enabled | int -}}
{{- end -}}

{{/* Seconds that a pod has from its deletion to its being killed; of its values. */}}
{{- define "headrace.grace" -}}
{{- $engine := 0 -}}
{{- if eq (default "" .engine) "tensorrt_llm" -}}
{{- $engine = dig "shutdown_seconds" 30 (default (dict) (get .settings "tensorrt_llm")) -}}
{{- end -}}
{{- add (int .preStopSeconds) (ceil (addf .drainDelaySeconds .drainSeconds) | int) (int .marginSeconds) (ceil $engine | int) -}}
{{- end -}}

{{/* The edge as a component, JSON without its root: callers set that. */}}
{{- define "headrace.edge" -}}
{{- dict "component" "edge" "name" (printf "%s-edge" (include "headrace.fullname" .)) "values" (merge (dict "gpus" 0 "tmpSize" "1Gi") (deepCopy .Values.edge)) "host" "HEADRACE_EDGE__SERVER__HOST" | toJson -}}
{{- end -}}

{{/* The tokenizer, likewise. */}}
{{- define "headrace.tokenizer" -}}
{{- dict "component" "tokenizer" "name" (printf "%s-tokenizer" (include "headrace.fullname" .)) "values" (merge (dict "gpus" 0 "tmpSize" "1Gi") (deepCopy .Values.tokenizer)) "host" "HEADRACE_TOKENIZER__HOST" "port" 50052 | toJson -}}
{{- end -}}

{{/* All pools, likewise; a JSON list. */}}
{{- define "headrace.workers" -}}
{{- $workers := list -}}
{{- range include "headrace.pools" . | fromJsonArray -}}
{{- $name := include "headrace.workerName" (dict "root" $ "pool" .name) -}}
{{- $workers = append $workers (dict "component" "worker" "pool" .name "name" $name "values" . "host" "HEADRACE_WORKER__HOST" "port" 50061) -}}
{{- end -}}
{{- $workers | toJson -}}
{{- end -}}
