{{/* The name of everything that a release has once. */}}
{{- define "nearbench.operator" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Names in the cluster as a whole: two releases may not share them. */}}
{{- define "nearbench.clusterName" -}}
{{- printf "nearbench:%s:%s" .Release.Namespace .Release.Name }}
{{- end }}

{{- define "nearbench.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "nearbench.selectorLabels" -}}
app.kubernetes.io/name: nearbench
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "nearbench.labels" -}}
{{ include "nearbench.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What the restricted Pod Security Standard asks of a pod, and of a container. */}}
{{- define "nearbench.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "nearbench.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where the pods of the release may be, and what that takes: those of its fields that are given. */}}
{{- define "nearbench.placement" -}}
{{- $given := dict }}
{{- range $field, $value := pick .Values "imagePullSecrets" "nodeSelector" "tolerations" "priorityClassName" }}
{{- if $value }}{{ $_ := set $given $field $value }}{{ end }}
{{- end }}
{{- with $given }}{{ toYaml . }}{{ end }}
{{- end }}
