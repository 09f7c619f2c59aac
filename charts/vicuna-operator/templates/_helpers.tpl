{{- define "vicuna-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vicuna-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "vicuna-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Names of cluster-wide objects carry the namespace, so that two releases of one name do not meet. */}}
{{- define "vicuna-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "vicuna-operator.fullname" .) }}
{{- end }}

{{- define "vicuna-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vicuna-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vicuna-operator.labels" -}}
{{ include "vicuna-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: vicuna-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vicuna-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "vicuna-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "vicuna-operator.leaseName" -}}
{{- default (include "vicuna-operator.fullname" .) .Values.leaseName }}
{{- end }}

{{- /* What managing models takes: the same rules cluster-wide or in each named namespace. Never Secrets, exec or nodes. */}}
{{- define "vicuna-operator.rules" -}}
- apiGroups: [vicuna.dev]
  resources: [vicunamodels]
  verbs: [get, list, watch]
- apiGroups: [vicuna.dev]
  resources: [vicunamodels/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Whether another autoscaler scales a model that has autoscaling of its own.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
# Whether another operator still works on the models that name it.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get]
{{- if .Values.mergeProgress.enabled }}
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
{{- end }}

{{- /* An image's name. `registry` and the release's digests are for the repositories of this project, which have no slash in them;
a stated tag is taken as it is. files/release.json is written when a release is made. */}}
{{- define "vicuna-operator.image" -}}
{{- $release := .root.Files.Get "files/release.json" | fromJson }}
{{- $registry := .root.Values.registry | default $release.registry }}
{{- $ours := not (contains "/" .image.repository) }}
{{- $suffix := ternary "-cuda" "" (default false .image.cuda) }}
{{- if and $ours $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}:
{{- if .image.tag }}{{ .image.tag }}
{{- else }}{{ .root.Chart.AppVersion }}{{ $suffix }}
{{- if $ours }}{{ with get $release.digests (print .key $suffix) }}@{{ . }}{{ end }}{{ end }}
{{- end }}
{{- end }}

{{- define "vicuna-operator.gatewayName" -}}
{{- printf "%s-gateway" (include "vicuna-operator.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- /* Whether helm itself installs this release, at a cluster, and for the first time: "true" or "". What renders without a cluster
(helm template, Argo CD) always gets "": it cannot look what is there. So does a release for some namespaces, whose installer
may have no right to look. */}}
{{- define "vicuna-operator.newInstall" -}}
{{- if and .Release.IsInstall (not .Values.watchNamespaces) (lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "view") }}
{{- if not (lookup "apps/v1" "Deployment" .Release.Namespace (include "vicuna-operator.fullname" .)) }}true{{ end }}
{{- end }}
{{- end }}

{{- /* Whether this release has the gateway: "true" or "". auto: new installs have it, and upgrades keep what there is. */}}
{{- define "vicuna-operator.gateway" -}}
{{- if ne (toString .Values.gateway.enabled) "auto" }}{{ if .Values.gateway.enabled }}true{{ end }}
{{- else if include "vicuna-operator.newInstall" . }}true
{{- else if lookup "apps/v1" "Deployment" .Release.Namespace (include "vicuna-operator.gatewayName" .) }}true
{{- end }}
{{- end }}

{{- define "vicuna-operator.firstKeySecret" -}}
{{- printf "%s-first-key" (include "vicuna-operator.gatewayName" . | trunc 53 | trimSuffix "-") }}
{{- end }}

{{- define "vicuna-operator.gatewaySelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-gateway" (include "vicuna-operator.name" .) }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vicuna-operator.gatewayLabels" -}}
{{ include "vicuna-operator.gatewaySelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: gateway
app.kubernetes.io/part-of: vicuna-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "vicuna-operator.gatewayKeysSecret" -}}
{{- default (printf "%s-keys" (include "vicuna-operator.gatewayName" .)) .Values.gateway.keys.secretName }}
{{- end }}

{{- /* What routing takes, cluster-wide or in each named namespace: to see models and where they answer. */}}
{{- define "vicuna-operator.gatewayRules" -}}
- apiGroups: [vicuna.dev]
  resources: [vicunamodels]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- end }}

{{- /* Whether this release began as a new install with the gateway, where nobody can have relied on reaching servers past it: "true" or "".
Only helm itself, at a cluster, can tell: there is a ClusterRole `view` then, and no VicunaModel yet. It is noted on the operator's
Deployment for the upgrades that follow. What renders without a cluster (helm template, Argo CD) always gets "". */}}
{{- define "vicuna-operator.beganShielded" -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "vicuna-operator.fullname" .) }}
{{- if $live }}
{{- get ($live.metadata.annotations | default dict) "vicuna.dev/began-shielded" }}
{{- else if and .Release.IsInstall (include "vicuna-operator.gateway" .) (not .Values.watchNamespaces) (not (.Capabilities.APIVersions.Has "vicuna.dev/v1alpha1")) }}
{{- if lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "view" }}true{{ end }}
{{- end }}
{{- end }}

{{- /* What true, false or auto comes to: "true" or "". */}}
{{- define "vicuna-operator.policy" -}}
{{- if eq (toString .stated) "auto" }}
{{- if include "vicuna-operator.gateway" .root }}{{ include "vicuna-operator.beganShielded" .root }}{{ end }}
{{- else if .stated }}true{{ end }}
{{- end }}

{{- define "vicuna-operator.serverPolicy" -}}
{{- include "vicuna-operator.policy" (dict "root" . "stated" .Values.networkPolicy.enabled) }}
{{- end }}

{{- define "vicuna-operator.gatewayPolicy" -}}
{{- if include "vicuna-operator.gateway" . }}{{ include "vicuna-operator.policy" (dict "root" . "stated" .Values.networkPolicy.gateway.enabled) }}{{ end }}
{{- end }}

{{- /* NetworkPolicyPeers of namespaces by their names, as a JSON list. */}}
{{- define "vicuna-operator.namespacePeers" -}}
{{- $peers := list }}
{{- with . }}
{{- $term := dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" . }}
{{- $peers = list (dict "namespaceSelector" (dict "matchExpressions" (list $term))) }}
{{- end }}
{{- toJson $peers }}
{{- end }}

{{- /* Who scrapes, and whoever networkPolicy.peers names, as a JSON list. */}}
{{- define "vicuna-operator.monitoringPeers" -}}
{{- $peers := .Values.networkPolicy.peers }}
{{- with .Values.networkPolicy.monitoring }}
{{- $peer := dict }}
{{- if .podLabels }}{{ $peer = set $peer "podSelector" (dict "matchLabels" .podLabels) }}{{ end }}
{{- if .namespaceLabels }}{{ $peer = set $peer "namespaceSelector" (dict "matchLabels" .namespaceLabels) }}{{ end }}
{{- if $peer }}{{ $peers = prepend $peers $peer }}{{ end }}
{{- end }}
{{- toJson $peers }}
{{- end }}

{{- /* Who may reach the models' servers: the gateway, and whoever networkPolicy names. */}}
{{- define "vicuna-operator.networkPeers" -}}
{{- $peers := concat (fromJsonArray (include "vicuna-operator.namespacePeers" .Values.networkPolicy.namespaces)) (fromJsonArray (include "vicuna-operator.monitoringPeers" .)) }}
{{- if include "vicuna-operator.gateway" . }}
{{- $namespace := dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace) }}
{{- $pods := dict "matchLabels" (fromYaml (include "vicuna-operator.gatewaySelectorLabels" .)) }}
{{- $peers = prepend $peers (dict "namespaceSelector" $namespace "podSelector" $pods) }}
{{- end }}
{{- toJson $peers }}
{{- end }}

{{- define "vicuna-operator.signingName" -}}
{{- printf "%s-signing" (include "vicuna-operator.gatewayName" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- define "vicuna-operator.signingSecret" -}}
{{- default (include "vicuna-operator.signingName" .) .Values.gateway.signing.existingSecret }}
{{- end }}

{{- /* Patterns as one regular expression, in a raw CEL string. An empty list matches nothing that could be named. */}}
{{- define "vicuna-operator.matches" -}}
{{- $parts := list }}
{{- range . }}
{{- $parts = append $parts (. | regexQuoteMeta | replace "\\*" ".*" | replace "\\?" ".") }}
{{- end }}
{{- printf "r'^(%s)$'" (join "|" $parts) | replace "\\" "\\\\" }}
{{- end }}
