{{- define "exporter.selector" -}}
app.kubernetes.io/name: appliance-log-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
{{ include "exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "exporter.name" -}}
{{- if contains "appliance-log-exporter" .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "appliance-log-exporter-%s" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "exporter.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* The configuration of replicas that share a topic. */}}
{{- define "exporter.shards" -}}
{{- if hasKey .Values.config "sources" }}
{{- fail "config.sources: with kafka.enabled, the source is made from kafka" }}
{{- end }}
{{- $kafka := dict "brokers" .Values.kafka.brokers "topic" .Values.kafka.topic "state_topic" .Values.kafka.stateTopic "lease" .Values.kafka.lease }}
{{- $kafka = merge $kafka .Values.kafka.settings }}
{{- $source := dict "name" "fleet" "appliance" "key" "kafka" $kafka }}
{{- merge (dict "sources" (list $source)) .Values.config | toYaml }}
{{- end }}
