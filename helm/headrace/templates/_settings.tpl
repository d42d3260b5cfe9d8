{{/* What each service's headrace.toml holds. Hosts are for any address here; the pods' environment
narrows them to the pod's own where `listen` says so. */}}

{{/* Tables that all services have; JSON. */}}
{{- define "headrace.telemetrySettings" -}}
{{- $telemetry := dict "health" (dict "host" "0.0.0.0" "port" .Values.healthPort) -}}
{{- with .Values.observability.otlp -}}
{{- include "headrace.checkCollector" . -}}
{{- if .endpoint -}}
{{- $tracing := dict "endpoint" .endpoint "sample_ratio" .sampleRatio -}}
{{- /* What is off is left out: services of before may read this file, and know less. */ -}}
{{- if ne .compression "none" -}}
{{- $_ := set $tracing "compression" .compression -}}
{{- end -}}
{{- if .headers.existingSecret -}}
{{- $_ := set $tracing "headers_file" (printf "/etc/headrace/otlp-headers/%s" .headers.key) -}}
{{- if .headersInClearText -}}
{{- $_ := set $tracing "headers_in_clear_text" true -}}
{{- end -}}
{{- end -}}
{{- if .tls.existingSecret -}}
{{- $tls := dict "ca_file" "/etc/headrace/otlp-tls/ca.crt" -}}
{{- if .tls.mutual -}}
{{- $_ := merge $tls (dict "certificate_file" "/etc/headrace/otlp-tls/tls.crt" "key_file" "/etc/headrace/otlp-tls/tls.key") -}}
{{- end -}}
{{- $_ := set $tracing "tls" $tls -}}
{{- end -}}
{{- $_ := set $telemetry "tracing" $tracing -}}
{{- end -}}
{{- end -}}
{{- $telemetry | toJson -}}
{{- end -}}

{{/* Fails for secrets of the collector that nothing would use, or that others could read along. */}}
{{- define "headrace.checkCollector" -}}
{{- $secret := or .headers.existingSecret .tls.existingSecret -}}
{{- if and $secret (not .endpoint) -}}
{{- fail (printf "observability.otlp: secret %s is for a collector, but there is no endpoint" $secret) -}}
{{- end -}}
{{- $isNear := regexMatch "^http://(localhost|127[.][0-9.]+|\\[::1\\])(:[0-9]+)?/?$" .endpoint -}}
{{- if and .headers.existingSecret (hasPrefix "http://" .endpoint) (not $isNear) (not .headersInClearText) -}}
{{- fail (printf "observability.otlp: others could read the headers along on their way to %s: use https://, or accept it by observability.otlp.headersInClearText" .endpoint) -}}
{{- end -}}
{{- if and .tls.existingSecret (hasPrefix "http://" .endpoint) -}}
{{- fail (printf "observability.otlp: tls needs an https:// endpoint, not %s" .endpoint) -}}
{{- end -}}
{{- if and .tls.mutual (not .tls.existingSecret) -}}
{{- fail "observability.otlp: tls.mutual needs tls.existingSecret" -}}
{{- end -}}
{{- end -}}

{{- define "headrace.modelsTable" -}}
{{- include "headrace.settingsTable" (dict "path" "models.settings" "table" "models" "given" .Values.models.settings "owned" (dict "cache_dir" "/models")) -}}
{{- end -}}

{{- define "headrace.edgeConfig" -}}
{{- $edge := .Values.edge -}}
{{- if not (or $edge.insecure $edge.keys.existingSecret) -}}
{{- fail "edge: set edge.keys.existingSecret, or accept callers without keys by edge.insecure" -}}
{{- end -}}
{{- $server := dict "host" "0.0.0.0" "port" 8000 "insecure" $edge.insecure "drain_delay_seconds" $edge.drainDelaySeconds "drain_grace_seconds" $edge.drainSeconds -}}
{{- if $edge.tls.existingSecret -}}
{{- $_ := merge $server (dict "tls_port" 8443 "tls_certificate_file" "/etc/headrace/tls/tls.crt" "tls_key_file" "/etc/headrace/tls/tls.key") -}}
{{- end -}}
{{- $owned := dict "server" $server "backend" (include "headrace.backendSettings" . | fromJson) "telemetry" (include "headrace.telemetrySettings" . | fromJson) -}}
{{- if $edge.keys.existingSecret -}}
{{- $_ := set $owned "keys" (dict "file" (printf "/etc/headrace/keys/%s" $edge.keys.key)) -}}
{{- end -}}
{{- include "headrace.settingsTable" (dict "path" "edge.settings" "table" "edge" "given" $edge.settings "owned" $owned) -}}
{{- end -}}

{{/* Where tokenizers and workers are, and what is shown to them; JSON. */}}
{{- define "headrace.backendSettings" -}}
{{- $fullname := include "headrace.fullname" . -}}
{{- $workers := list -}}
{{- range include "headrace.pools" . | fromJsonArray -}}
{{- $workers = append $workers (printf "%s-worker-%s.%s.svc:50061" $fullname .name $.Release.Namespace) -}}
{{- end -}}
{{- $backend := dict "worker_addresses" $workers "tokenizer_addresses" (list (printf "%s-tokenizer.%s.svc:50052" $fullname .Release.Namespace)) -}}
{{- with .Values.internal -}}
{{- if .edgeKey.existingSecret -}}
{{- $_ := set $backend "api_key_file" (printf "/etc/headrace/edge-key/%s" .edgeKey.key) -}}
{{- end -}}
{{- if .tls.existingSecret -}}
{{- $tls := dict "ca_file" "/etc/headrace/internal-tls/ca.crt" -}}
{{- if .tls.mutual -}}
{{- $_ := merge $tls (dict "certificate_file" "/etc/headrace/internal-tls/tls.crt" "key_file" "/etc/headrace/internal-tls/tls.key") -}}
{{- end -}}
{{- if .tls.serverName -}}
{{- $_ := set $tls "server_name" .tls.serverName -}}
{{- end -}}
{{- $_ := set $backend "tls" $tls -}}
{{- end -}}
{{- end -}}
{{- $backend | toJson -}}
{{- end -}}

{{/* What tokenizer and workers have in common; JSON. Of a dict: root, values, port. */}}
{{- define "headrace.internalSettings" -}}
{{- $internal := .root.Values.internal -}}
{{- $checked := or $internal.keys.existingSecret (and $internal.tls.existingSecret $internal.tls.mutual) -}}
{{- if not (or $internal.insecure $checked) -}}
{{- fail "internal: set internal.keys, or internal.tls with mutual, or accept callers unchecked by internal.insecure" -}}
{{- end -}}
{{- if and $internal.keys.existingSecret (not $internal.edgeKey.existingSecret) -}}
{{- fail "internal: internal.keys needs internal.edgeKey, the trusted key that the edge shows" -}}
{{- end -}}
{{- $owned := dict "host" "0.0.0.0" "port" .port "insecure" $internal.insecure "drain_delay_seconds" .values.drainDelaySeconds "drain_grace_seconds" .values.drainSeconds "telemetry" (include "headrace.telemetrySettings" .root | fromJson) -}}
{{- if $internal.keys.existingSecret -}}
{{- $_ := set $owned "keys" (dict "file" (printf "/etc/headrace/keys/%s" $internal.keys.key)) -}}
{{- end -}}
{{- if $internal.tls.existingSecret -}}
{{- $tls := dict "certificate_file" "/etc/headrace/internal-tls/tls.crt" "key_file" "/etc/headrace/internal-tls/tls.key" -}}
{{- if $internal.tls.mutual -}}
{{- $_ := set $tls "client_ca_file" "/etc/headrace/internal-tls/ca.crt" -}}
{{- end -}}
{{- $_ := set $owned "tls" $tls -}}
{{- end -}}
{{- $owned | toJson -}}
{{- end -}}

{{- define "headrace.tokenizerConfig" -}}
{{- $models := list -}}
{{- range include "headrace.pools" . | fromJsonArray -}}
{{- $models = append $models .model -}}
{{- end -}}
{{- $models = concat $models .Values.tokenizer.extraModels | uniq -}}
{{- $owned := include "headrace.internalSettings" (dict "root" . "values" .Values.tokenizer "port" 50052) | fromJson -}}
{{- $_ := set $owned "models" $models -}}
{{ include "headrace.settingsTable" (dict "path" "tokenizer.settings" "table" "tokenizer" "given" .Values.tokenizer.settings "owned" $owned) }}

{{ include "headrace.modelsTable" . }}
{{- end -}}

{{/* Of a dict: root, values (the pool). */}}
{{- define "headrace.workerConfig" -}}
{{- $pool := .values -}}
{{- $owned := include "headrace.internalSettings" (dict "root" .root "values" $pool "port" 50061) | fromJson -}}
{{- $_ := merge $owned (dict "model" $pool.model "engine" $pool.engine) -}}
{{- $given := deepCopy $pool.settings -}}
{{- if eq $pool.engine "tensorrt_llm" -}}
{{- $given = include "headrace.gpuSettings" $pool | fromJson -}}
{{- end -}}
{{ include "headrace.settingsTable" (dict "path" (printf "settings of pool %s" $pool.name) "table" "worker" "given" $given "owned" $owned) }}

{{ include "headrace.modelsTable" .root }}
{{- end -}}

{{/* A pool's own settings, its GPUs spread over tensor_parallel unless it says otherwise; JSON. */}}
{{- define "headrace.gpuSettings" -}}
{{- $given := deepCopy .settings -}}
{{- $engine := default (dict) (get $given "tensorrt_llm") -}}
{{- $stages := int (dig "pipeline_parallel" 1 $engine) -}}
{{- if not (hasKey $engine "tensor_parallel") -}}
{{- $_ := set $engine "tensor_parallel" (div (int .gpus) $stages) -}}
{{- end -}}
{{- if ne (int .gpus) (int (mul (int $engine.tensor_parallel) $stages)) -}}
{{- fail (printf "workers: pool %s has %d gpus, but tensor_parallel %d times pipeline_parallel %d" .name (int .gpus) (int $engine.tensor_parallel) $stages) -}}
{{- end -}}
{{- $_ := set $given "tensorrt_llm" $engine -}}
{{- $given | toJson -}}
{{- end -}}
