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

{{/* The replicated Redis. No run's child is ever called so; its pods' names have 63 characters at most, with a hash behind. */}}
{{- define "nearbench.replicated" -}}
{{- printf "%s-redis-replicated" (.Release.Name | trunc 34 | trimSuffix "-") }}
{{- end }}

{{- define "nearbench.replicatedSelector" -}}
app.kubernetes.io/name: nearbench
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end }}

{{- define "nearbench.replicatedLabels" -}}
{{ merge (include "nearbench.replicatedSelector" . | fromYaml) (include "nearbench.labels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "nearbench.replicatedUrl" -}}
{{- $at := list }}
{{- range $n := until 3 }}{{ $at = append $at (printf "%s-%d.%s:26379" $.name $n $.domain) }}{{ end }}
{{- printf "redis+sentinel://:%s@%s/nearbench" .password (join "," $at) }}
{{- end }}

{{/* What its pods are told. The shell's own means, redis-cli, timeout, sleep and mv: no more is in every image. */}}
{{- define "nearbench.replicatedFiles" -}}
common.sh: |
  # Where the pod of an ordinal is, and which one this is.
  at() { echo "$NAME-$1.$DOMAIN"; }
  own=${POD##*-}
  self=$(at "$own")
  case $own in
    0) others='1 2' ;;
    1) others='0 2' ;;
    *) others='0 1' ;;
  esac
  # A shell that is PID 1 heeds only what it traps.
  trap 'exit 0' TERM

  # Asks the Sentinel, or the Redis, of an ordinal.
  sentinel() { ordinal=$1; shift; timeout 3 redis-cli -h "$(at "$ordinal")" -p 26379 --user sentinel sentinel "$@" 2>/dev/null; }
  redis() { ordinal=$1; shift; timeout 3 redis-cli -h "$(at "$ordinal")" "$@" 2>/dev/null; }
  # Which primary the Sentinel of an ordinal names.
  named() {
    set -- $(sentinel "$1" get-master-addr-by-name nearbench)
    case ${1-} in *.*) echo "$1" ;; *) return 1 ;; esac
  }
redis.sh: |
  . /etc/nearbench/common.sh

  # The primary by the word of two Sentinels: one alone may be out of date.
  agreed() {
    heard=
    for n in $others $own; do
      name=$(named "$n") || continue
      case " $heard " in *" $name "*) echo "$name"; return ;; esac
      heard="$heard $name"
    done
    return 1
  }
  # Whether a replica followed until now, and not one that only began.
  followed() {
    for n in $others; do
      info=$(redis "$n" info replication)
      case $info in
        *master_link_down_since_seconds:-1*) ;;
        *role:slave*) return 0 ;;
      esac
    done
    return 1
  }
  replicas_known() {
    for n in $others $own; do
      [ -z "$(sentinel "$n" replicas nearbench)" ] || return 0
    done
    return 1
  }
  hand_over() {
    for n in $others $own; do
      case $(sentinel "$n" failover nearbench) in OK* | *INPROG*) return ;; esac
    done
  }

  # Who starts follows the primary of the present. Who is still named as that hands over to a replica, which has all that was
  # confirmed and nothing to load, unless there is none; and with an empty volume it never leads those that have the data.
  tries=0
  while :; do
    if primary=$(agreed); then
      [ "$primary" = "$self" ] || break
      if [ -d /data/appendonlydir ]; then
        tries=$((tries + 1))
        [ "$tries" -le 30 ] && followed || break
      else
        replicas_known || break
      fi
      hand_over
    fi
    sleep 1
  done
  follow=
  [ "$primary" = "$self" ] || follow="replicaof $primary 6379"
  echo "${follow:-leads}"
  exec redis-server /etc/nearbench/redis.conf - <<END
  requirepass "$REDISCLI_AUTH"
  masterauth "$REDISCLI_AUTH"
  replica-announce-ip $self
  $follow
  END
redis.conf: |
  protected-mode no
  dir /data
  appendonly yes
  appendfsync {{ .Values.redis.replicated.appendfsync }}
  save 3600 1 300 100 60 10000
  # What is queued must never be thrown away.
  maxmemory-policy noeviction
  # nearbench counts replicas itself (WAIT) before it confirms a step. This is for what it does not wait for, such as leases,
  # and for runs of durability local or fsync: a primary that is cut off ends within the lag.
  min-replicas-to-write 1
  min-replicas-max-lag 5
  # A replica without its primary says so, and is not ready.
  replica-serve-stale-data no
  # A replica that was away for long needs no whole copy.
  repl-backlog-size 64mb
sentinel.sh: |
  . /etc/nearbench/common.sh
  umask 077

  # What it learned outlives the pod; what it is told is written anew, for passwords and settings change.
  learned= monitor=
  if [ -e /data/sentinel.conf ]; then
    while read -r line; do
      case $line in
        'sentinel monitor nearbench '*) monitor=$line ;;
        'sentinel myid '* | 'sentinel current-epoch '* | 'sentinel config-epoch '* | 'sentinel leader-epoch '* | \
          'sentinel known-replica '* | 'sentinel known-sentinel '*) learned="$learned$line
  " ;;
      esac
    done </data/sentinel.conf
  fi
  # Without anything learned: whom the others name, and at the very first the first.
  if [ -z "$monitor" ]; then
    for n in $others; do
      ! primary=$(named "$n") || break
    done
    monitor="sentinel monitor nearbench ${primary:-$(at 0)} 6379 2"
  fi
  # Sentinels cannot ask nearbench for a password. Whoever has none is told who leads, and may do nothing else.
  printf '%s\n' "port 26379
  protected-mode no
  dir /data
  user default on nopass resetkeys resetchannels -@all +ping +sentinel|get-master-addr-by-name
  user sentinel on >$REDISCLI_AUTH ~* &* +@all
  sentinel sentinel-user sentinel
  sentinel sentinel-pass $REDISCLI_AUTH
  sentinel resolve-hostnames yes
  sentinel announce-hostnames yes
  sentinel announce-ip $self
  $monitor
  sentinel auth-pass nearbench $REDISCLI_AUTH
  sentinel down-after-milliseconds nearbench 5000
  sentinel failover-timeout nearbench 20000
  sentinel parallel-syncs nearbench 1
  $learned" >/data/sentinel.conf.new
  mv /data/sentinel.conf.new /data/sentinel.conf
  exec redis-server /data/sentinel.conf --sentinel
{{- end }}

{{/* The alerts: what is written @thus@ in them is a threshold. Not a template, for Prometheus has its own in braces. */}}
{{- define "nearbench.alerts" -}}
{{- $rules := .Files.Get "files/alerts.yaml" | replace "@runbook@" .Values.alerts.runbook }}
{{- range $threshold, $value := .Values.alerts.thresholds }}
{{- $rules = replace (printf "@%s@" $threshold) (toString $value) $rules }}
{{- end }}
{{- $rules | trim }}
{{- end }}
