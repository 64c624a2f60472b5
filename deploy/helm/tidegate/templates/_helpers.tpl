{{- define "tidegate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "tidegate.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What the pods of the release have in common. */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tidegate.image" -}}
{{- $repository := required "image.repository is not set: there is no public image; build one with the Dockerfile and name it" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "tidegate.routerToken" -}}
{{- .Values.routerToken.existingSecret | default (printf "%s-router-token" (include "tidegate.fullname" .)) }}
{{- end }}

{{/* Where routers find the control plane, and Helm's notes and Ingresses the API. */}}
{{- define "tidegate.apiScheme" -}}
{{- if .Values.tls.api.secret }}https{{ else }}http{{ end }}
{{- end }}

{{- define "tidegate.apiURL" -}}
{{- .Values.router.apiURL | default (printf "%s://%s-jobs-api:%v" (include "tidegate.apiScheme" .) (include "tidegate.fullname" .) .Values.jobsApi.service.port) }}
{{- end }}

{{/* Flags of every role. */}}
{{- define "tidegate.args" -}}
- --ops-addr=:9464
{{- if .Values.tls.ops.secret }}
- --ops-tls-cert=/etc/tidegate/ops-tls/tls.crt
- --ops-tls-key=/etc/tidegate/ops-tls/tls.key
{{- end }}
- --log-format=json
- --log-level={{ .Values.logLevel }}
{{- if not .Values.kafka.brokers }}{{ fail "kafka.brokers is empty: the chart brings no Kafka; name the brokers of yours" }}{{ end }}
- --kafka={{ join "," .Values.kafka.brokers }}
- --topic-partitions={{ .Values.kafka.topic.partitions }}
- --topic-replication={{ .Values.kafka.topic.replication }}
{{- with .Values.kafka.tls }}
{{- if .enabled }}
- --kafka-tls
{{- if .caSecret }}
- --kafka-tls-ca-file=/etc/tidegate/kafka-ca/ca.crt
{{- end }}
{{- if .clientSecret }}
- --kafka-tls-cert-file=/etc/tidegate/kafka-client/tls.crt
- --kafka-tls-key-file=/etc/tidegate/kafka-client/tls.key
{{- end }}
{{- if .serverName }}
- --kafka-tls-server-name={{ .serverName }}
{{- end }}
{{- else if or .caSecret .clientSecret .serverName }}
{{- fail "kafka.tls.enabled is false, and other values of kafka.tls are set: they would be ignored" }}
{{- end }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
- --kafka-sasl-mechanism={{ .mechanism }}
- --kafka-sasl-username={{ required "kafka.sasl.username is not set: kafka.sasl.mechanism needs it" .username }}
{{- if not .existingSecret }}{{ fail "kafka.sasl.existingSecret is not set: kafka.sasl.mechanism needs a Secret with the password" }}{{ end }}
- --kafka-sasl-password-file=/etc/tidegate/kafka-sasl/{{ .passwordKey }}
{{- end }}
{{- end }}
{{- end }}

{{/* Flags of the roles that use ClickHouse and the database. */}}
{{- define "tidegate.storeArgs" -}}
{{- with .Values.clickhouse }}
{{- if .cluster }}
- --clickhouse-cluster={{ .cluster }}
{{- end }}
- --retention-events-days={{ .retentionDays.events }}
- --retention-quarantine-days={{ .retentionDays.quarantine }}
- --retention-1s-days={{ .retentionDays.rates1s }}
- --retention-1m-days={{ .retentionDays.rates1m }}
- --retention-1h-days={{ .retentionDays.rates1h }}
{{- end }}
- --secrets-key-file=/etc/tidegate/secrets-key/{{ .Values.secretsKey.key }}
{{- if .Values.destinations.allowHTTP }}
- --logpush-allow-http
{{- end }}
{{- if .Values.destinations.allowPrivate }}
- --logpush-allow-private
{{- end }}
{{- with .Values.destinations.refuse }}
- --logpush-refuse={{ join "," . }}
{{- end }}
{{- end }}

{{/* Addresses that hold passwords: in the environment, where no list of processes shows them. */}}
{{- define "tidegate.databaseEnv" -}}
- name: TIDEGATE_DATABASE
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret is not set: the chart brings no PostgreSQL; name a Secret with the address of yours" .Values.database.existingSecret }}
      key: {{ .Values.database.urlKey }}
{{- end }}

{{- define "tidegate.storeEnv" -}}
{{ include "tidegate.databaseEnv" . }}
- name: TIDEGATE_CLICKHOUSE
  valueFrom:
    secretKeyRef:
      name: {{ required "clickhouse.existingSecret is not set: the chart brings no ClickHouse; name a Secret with the address of yours" .Values.clickhouse.existingSecret }}
      key: {{ .Values.clickhouse.urlKey }}
{{- end }}

{{/* A Secret as a folder. The argument is a list of the volume's name and the Secret's. */}}
{{- define "tidegate.secretVolume" -}}
- name: {{ first . }}
  secret:
    secretName: {{ last . }}
    defaultMode: 0440
{{- end }}

{{/* The authority of a Secret alone, which may have a key beside it, too. */}}
{{- define "tidegate.caVolume" -}}
{{ include "tidegate.secretVolume" . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}

{{- define "tidegate.secretMount" -}}
- name: {{ . }}
  mountPath: /etc/tidegate/{{ . }}
  readOnly: true
{{- end }}

{{/* Files of every role. */}}
{{- define "tidegate.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .Values.tls.ops.secret }}
{{ include "tidegate.secretVolume" (list "ops-tls" .) }}
{{- end }}
{{- with .Values.kafka.tls.caSecret }}
{{ include "tidegate.secretVolume" (list "kafka-ca" .) }}
{{- end }}
{{- with .Values.kafka.tls.clientSecret }}
{{ include "tidegate.secretVolume" (list "kafka-client" .) }}
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
{{ include "tidegate.secretVolume" (list "kafka-sasl" .Values.kafka.sasl.existingSecret) }}
{{- end }}
{{- end }}

{{- define "tidegate.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.tls.ops.secret }}
{{ include "tidegate.secretMount" "ops-tls" }}
{{- end }}
{{- if .Values.kafka.tls.caSecret }}
{{ include "tidegate.secretMount" "kafka-ca" }}
{{- end }}
{{- if .Values.kafka.tls.clientSecret }}
{{ include "tidegate.secretMount" "kafka-client" }}
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
{{ include "tidegate.secretMount" "kafka-sasl" }}
{{- end }}
{{- end }}

{{/* What every pod, and every container, may do. */}}
{{- define "tidegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tidegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The pod of a role. The argument has root, component, role (its values), command, and texts of YAML:
     args, env, ports, volumes and mounts of that role alone, and grace, in seconds. */}}
{{- define "tidegate.pod" -}}
{{- $scheme := ternary ", scheme: HTTPS" "" (ne .root.Values.tls.ops.secret "") -}}
metadata:
  labels:
    {{- include "tidegate.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with .role.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with .role.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "tidegate.fullname" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "tidegate.podSecurity" . | nindent 4 }}
  {{- with .role.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .role.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .role.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .role.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
  {{- if .role.topologySpreadConstraints }}
    {{- toYaml .role.topologySpreadConstraints | nindent 4 }}
  {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tidegate.selector" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "tidegate.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [{{ .component }}]
      args:
        {{- include "tidegate.args" .root | trim | nindent 8 }}
        {{- with .args }}{{ . | trim | nindent 8 }}{{ end }}
        {{- with .role.extraArgs }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if or .env .role.extraEnv }}
      env:
        {{- with .env }}{{ . | trim | nindent 8 }}{{ end }}
        {{- with .role.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- end }}
      ports:
        - name: ops
          containerPort: 9464
        {{- with .ports }}{{ . | trim | nindent 8 }}{{ end }}
      # The process says itself what it waits for: no liveness check but that it answers at all.
      startupProbe:
        httpGet: {path: /healthz, port: ops{{ $scheme }}}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /healthz, port: ops{{ $scheme }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: ops{{ $scheme }}}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- with .role.preStopSeconds }}
      # Until those who send here know that they should not any more.
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      securityContext:
        {{- include "tidegate.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .role.resources | nindent 8 }}
      volumeMounts:
        {{- include "tidegate.mounts" .root | trim | nindent 8 }}
        {{- with .mounts }}{{ . | trim | nindent 8 }}{{ end }}
        {{- with .role.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    {{- include "tidegate.volumes" .root | trim | nindent 4 }}
    {{- with .volumes }}{{ . | trim | nindent 4 }}{{ end }}
    {{- with .role.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{/* The budget of a role's pods. One that is not ready may always be moved: it serves nobody. */}}
{{- define "tidegate.pdb" -}}
{{- if .role.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "tidegate.fullname" .root }}-{{ .component }}
  labels:
    {{- include "tidegate.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  maxUnavailable: {{ .role.pdb.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "tidegate.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}

{{- define "tidegate.hpa" -}}
{{- if .role.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "tidegate.fullname" .root }}-{{ .component }}
  labels:
    {{- include "tidegate.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ include "tidegate.fullname" .root }}-{{ .component }}
  minReplicas: {{ .role.autoscaling.minReplicas }}
  maxReplicas: {{ .role.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .role.autoscaling.targetCPUUtilizationPercentage }}
{{- end }}
{{- end }}
