{{- define "dbrunner.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "dbrunner.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dbrunner.labels" -}}
{{ include "dbrunner.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "dbrunner.image" -}}
{{- if .Values.image.digest -}}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "dbrunner.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "dbrunner.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* Fails if a value of the configuration is a secret. Takes a dict of path and value. An SQLite file's name is none. */}}
{{- define "dbrunner.refuseSecrets" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
  {{- $sqlite := eq (toString (get .value "type")) "sqlite" -}}
  {{- range $key, $value := .value -}}
    {{- if and (has $key (list "connection_string" "direct_connection_string" "password" "token")) $value (not $sqlite) -}}
      {{- fail (printf "%s.%s is a secret, and a ConfigMap is not the place for it; put it in a Secret, list that under secretFiles, and set %s_file to its path in /run/secrets/dbrunner" $path $key $key) -}}
    {{- end -}}
    {{- include "dbrunner.refuseSecrets" (dict "path" (printf "%s.%s" $path $key) "value" $value) -}}
  {{- end -}}
{{- else if kindIs "slice" .value -}}
  {{- range $i, $value := .value -}}
    {{- include "dbrunner.refuseSecrets" (dict "path" (printf "%s[%d]" $path $i) "value" $value) -}}
  {{- end -}}
{{- else if and (kindIs "string" .value) (regexMatch "://[^/?#]*@" .value) -}}
  {{- fail (printf "%s contains a user or a password, and a ConfigMap is not the place for it; put it in a Secret and list that under secretFiles" $path) -}}
{{- end -}}
{{- end -}}

{{/* Whole seconds, rounded up, of a duration such as 1h30m, 90s, 1.5m or 500ms. Takes a dict of path and value. */}}
{{- define "dbrunner.seconds" -}}
{{- $text := toString .value -}}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]+)?(h|m|s|ms))+$" $text) -}}
  {{- fail (printf "%s: %q is no duration; write it with its unit, such as 30s" .path $text) -}}
{{- end -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(ms|h|m|s)" $text -1 -}}
  {{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" . | float64 -}}
  {{- $unit := regexFind "[a-z]+$" . -}}
  {{- $sum = addf $sum (mulf $number (get (dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001) $unit)) -}}
{{- end -}}
{{- ceil $sum | int -}}
{{- end -}}

{{/* Fails if the fleet could open more connections than a database's server has for it. */}}
{{- define "dbrunner.checkConnections" -}}
{{- $runners := ternary .Values.keda.maxReplicas .Values.replicas .Values.keda.enabled | int -}}
{{- $databases := .Values.config.databases | default dict -}}
{{- range $name, $limit := .Values.maxConnections -}}
  {{- if not (hasKey $databases $name) -}}
    {{- fail (printf "maxConnections.%s: config.databases has no %s" $name $name) -}}
  {{- end -}}
  {{- $default := dig "defaults" "pool" "max" 15 $.Values.config -}}
  {{- $pool := dig $name "pool" "max" $default $databases | int -}}
  {{- $settings := get $databases $name | default dict -}}
  {{- $more := 3 -}}
  {{- if dig "outbox" "targets" list $settings -}}{{- $more = add $more 1 -}}{{- end -}}
  {{- if or (hasKey $settings "direct_connection_string") (hasKey $settings "direct_connection_string_file") -}}{{- $more = add $more 4 -}}{{- end -}}
  {{- $need := mul $runners (add $pool $more) | int -}}
  {{- if gt $need (int $limit) -}}
    {{- fail (printf "maxConnections.%s is %d, but %d runners may open %d connections: %d × (pool.max %d + %d); lower pool.max or the number of runners" $name (int $limit) $runners $need $runners $pool (int $more)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* The consumers of a database's jobs that more runners drain faster: those of lane work, of calls, dry runs and approvals where the
database runs them, and of its queues. Takes a dict of settings, those of the database, and config. */}}
{{- define "dbrunner.consumers" -}}
{{- $settings := .settings | default dict -}}
{{- $consumers := list "work" -}}
{{- range $kind := dig "kinds" (dig "defaults" "kinds" list .config) $settings | default list -}}
  {{- if has $kind (list "call" "dry_run" "approve") -}}{{- $consumers = append $consumers "call" -}}{{- end -}}
{{- end -}}
{{- range $queue, $options := dig "queues" dict $settings | default dict -}}
  {{- if not (dig "ordered" false ($options | default dict)) -}}{{- $consumers = append $consumers (printf "queue_%s" $queue) -}}{{- end -}}
{{- end -}}
{{- $consumers | uniq | join " " -}}
{{- end -}}
