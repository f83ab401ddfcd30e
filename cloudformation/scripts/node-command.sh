#!/bin/bash
# One node command, run on a K3s server by SSM Run Command: preflight, drain, uncordon, delete-node or status of one
# Node. docs/node-commands.md is its contract: parameters in SSM_*, one JSON line on stdout, an exit code per outcome.
#
# What may go wrong is told apart, never guessed. Whatever it began it undoes when it is stopped, unless the machine is
# being taken away (reclaim). It needs bash, coreutils, util-linux and kubectl; no jq, no python.
#
# `{{` must not occur in this file: SSM would read it as a parameter.
set -u -o pipefail
umask 077

VERB=${SSM_verb:-} NODE=${SSM_node:-} PROVIDER_ID=${SSM_providerId:-} OPERATION=${SSM_operationId:-}
FENCE=${SSM_fence:-} NOT_AFTER=${SSM_notAfter:-} TIMEOUT_S=${SSM_timeoutSeconds:-300}
GRACE_S=${SSM_graceSeconds:--1} RECLAIM=${SSM_reclaim:-false}

# Overridden by tests only.
read -r -a KUBECTL <<<"${NODE_COMMAND_KUBECTL:-/usr/local/bin/k3s kubectl}"
RESULTS=${NODE_COMMAND_RESULTS:-/var/lib/k3s-autoscaler/results}
LOG=${NODE_COMMAND_LOG:-/var/log/k3s-autoscaler/node-command.log}
POLL_S=${NODE_COMMAND_POLL_S:-2}
CALL_S=${NODE_COMMAND_CALL_S:-20}     # one question to the API server
STOP_S=${NODE_COMMAND_STOP_S:-45}     # how long an uncordon waits for a running drain to stop
MISSED_POLLS=5                        # a drain that cannot see its fence for this many polls stops

export HOME=${HOME:-/root}
PREFIX=k3s-autoscaler
MARK="$OPERATION"                     # what this drain writes into the annotation `draining`
EVICTED=0 DRAIN_PID="" OURS_TO_UNDO=no STORABLE=no

mkdir -p "${LOG%/*}" 2>/dev/null && touch "$LOG" 2>/dev/null || LOG=/dev/null
exec 3>&1 >>"$LOG" 2>&1               # stdout carries the result line and nothing else
SCRATCH=$(mktemp -d) || { printf '{"operation":"","verb":"","outcome":"failed","rule":"","message":"no room for temporary files","evicted_pods":0}\n' >&3; exit 1; }
trap 'rm -rf "$SCRATCH"' EXIT

say() { printf '%s %s %s %s: %s\n' "$(date -u +%FT%TZ)" "${OPERATION:--}" "${VERB:--}" "${NODE:--}" "$*"; }

# ------------------------------------------------------------------------------------------------------------ results

json_text() { # what stands between the quotes of a JSON string: one printable ASCII line of at most 600 characters
  printf '%s' "$1" | LC_ALL=C tr '\n\t' '  ' | LC_ALL=C tr -cd '\040-\176' | cut -c1-600 | sed 's/\\/\\\\/g; s/"/\\"/g'
}

exit_code() {
  case $1 in
    succeeded) echo 0 ;; refused) echo 10 ;; blocked_by_budget) echo 11 ;; timed_out) echo 12 ;;
    fenced_off) echo 13 ;; no_such_node) echo 14 ;; api_unreachable) echo 15 ;; *) echo 1 ;;
  esac
}

finish() { # outcome, rule, message: print the result, remember it where it is final, end
  local code line
  trap '' TERM INT HUP
  code=$(exit_code "$1")
  line=$(printf '{"operation":"%s","verb":"%s","outcome":"%s","rule":"%s","message":"%s","evicted_pods":%d}' \
    "$(json_text "$OPERATION")" "$(json_text "$VERB")" "$1" "$2" "$(json_text "$3")" "$EVICTED")
  say "$line"
  case $STORABLE:$1 in
    # An unreachable API and a crash are no answers: the same command may be sent again.
    no:* | *:api_unreachable | *:failed) ;;
    *) printf '%s\n%s\n' "$code" "$line" >"$STORED.new" && mv "$STORED.new" "$STORED" ;;
  esac
  printf '%s\n' "$line" >&3
  exit "$code"
}

# ------------------------------------------------------------------------------------------------------- the API server

ask() { # kubectl arguments: answer in $ANSWER, complaint in $COMPLAINT
  ANSWER=$(timeout --kill-after=5 "$CALL_S" "${KUBECTL[@]}" "$@" 2>"$SCRATCH/complaint" 3>&- 9>&-)
  local code=$?
  COMPLAINT=$(cat "$SCRATCH/complaint")
  if [ "$code" -ne 0 ]; then say "kubectl $1 ended with $code: $COMPLAINT"; fi
  if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then COMPLAINT="no answer within $CALL_S s (deadline exceeded)"; fi
  return "$code"
}

unreachable() { # a complaint
  grep -qiE 'unable to connect|refused|i/o timeout|tls handshake|deadline exceeded|unexpected eof|: eof|no route to host|no such host|network is unreachable|connection reset|serviceunavailable|currently unable to handle|etcdserver|request timed out|internalerror' <<<"$1"
}
over_budget() { grep -q "violate the pod's disruption budget" <<<"$1"; }
conflict() { grep -qE '\(Conflict\)|object has been modified|Precondition failed' <<<"$1"; }
not_found() { grep -q '(NotFound)' <<<"$1"; }

give_up() { # what was tried: end as the complaint says
  if unreachable "$COMPLAINT"; then finish api_unreachable "" "$1: $COMPLAINT"; fi
  if not_found "$COMPLAINT"; then finish no_such_node "" "There is no Node $NODE."; fi
  finish failed "" "$1: $COMPLAINT"
}

NODE_FIELDS='{.metadata.uid}{"\n"}{.metadata.resourceVersion}{"\n"}{.spec.providerID}{"\n"}{.spec.unschedulable}{"\n"}'
NODE_FIELDS+='{.metadata.annotations.k3s-autoscaler/fence}{"\n"}{.metadata.annotations.k3s-autoscaler/operation}{"\n"}'
NODE_FIELDS+='{.metadata.annotations.k3s-autoscaler/draining}{"\n"}{.metadata.labels.kubernetes\.io/hostname}{"\n"}{.metadata.labels}{"\n"}'

look() { # read the Node into NODE_*; false with $COMPLAINT where that fails
  ask get node "$NODE" -o "jsonpath=$NODE_FIELDS" --request-timeout="${CALL_S}s" || return 1
  # A Node's own kubelet may write its provider-id and annotations: a line break in one would shift all that follow.
  if [ "$(grep -c '' <<<"$ANSWER")" -ne 9 ]; then
    COMPLAINT="the Node $NODE has no labels, or a line break in a field: somebody tampered with it"
    return 1
  fi
  { read -r NODE_UID; read -r NODE_VERSION; read -r NODE_PROVIDER_ID; read -r NODE_CORDONED; read -r NODE_FENCE
    read -r NODE_OPERATION; read -r NODE_DRAINING; read -r NODE_HOSTNAME; read -r NODE_LABELS; } <<<"$ANSWER"
  NODE_FENCE=${NODE_FENCE:-0}
  if ! [[ $NODE_FENCE =~ ^[0-9]{1,15}$ ]]; then
    COMPLAINT="the annotation $PREFIX/fence of $NODE is \"$NODE_FENCE\", not a number: remove it"
    return 1
  fi
}

change() { # spec, annotations (JSON members): one atomic write over what `look` saw
  ask patch node "$NODE" --type=merge --request-timeout="${CALL_S}s" -p \
    "{\"metadata\":{\"resourceVersion\":\"$NODE_VERSION\",\"annotations\":{$2}},\"spec\":{$1}}"
}

change_fenced() { # spec, annotations: look and change until no other write came between; ends where a higher fence spoke
  local try complaint
  for try in 1 2 3 4 5; do
    look || give_up "The Node could not be read"
    check_fence
    if change "$1" "\"$PREFIX/fence\":\"$FENCE\",$2"; then return; fi
    if ! conflict "$COMPLAINT"; then
      complaint=$COMPLAINT
      give_back # the answer may be lost and the cordon done all the same
      COMPLAINT=$complaint
      give_up "The Node could not be changed"
    fi
    say "another write came between (try $try)"
  done
  finish failed "" "The Node changed five times while it was being changed: send the command again."
}

# ------------------------------------------------------------------------------------------------------------- checks

refuse() { finish refused "$1" "$2"; }

check_input() {
  [[ $VERB =~ ^(preflight|drain|uncordon|delete-node|status)$ ]] ||
    refuse input "verb must be preflight, drain, uncordon, delete-node or status."
  [[ ${#NODE} -le 253 && $NODE =~ ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$ ]] ||
    refuse input "node must be the name of a Node: lower-case letters, digits, hyphens and dots."
  [[ $PROVIDER_ID =~ ^[a-zA-Z0-9:/._-]{1,255}$ ]] || refuse input "providerId must be the provider-id that the Node carries."
  [[ $OPERATION =~ ^[a-z0-9-]{1,64}$ ]] || refuse input "operationId must be 1 to 64 lower-case letters, digits and hyphens."
  [[ $FENCE =~ ^(0|[1-9][0-9]{0,14})$ ]] || refuse input "fence must be a whole number."
  [[ $NOT_AFTER =~ ^(0|[1-9][0-9]{0,11})$ ]] || refuse input "notAfter must be a time in epoch seconds."
  [[ $TIMEOUT_S =~ ^[1-9][0-9]{0,4}$ ]] || refuse input "timeoutSeconds must be a number from 1 to 99999."
  [[ $GRACE_S =~ ^(-1|0|[1-9][0-9]{0,4})$ ]] || refuse input "graceSeconds must be -1 or a number from 0 to 99999."
  [[ $RECLAIM =~ ^(true|false)$ ]] || refuse input "reclaim must be true or false."
}

check_time() {
  local now
  now=$(date +%s)
  if [ "$now" -gt "$NOT_AFTER" ]; then refuse late "It is $((now - NOT_AFTER)) s too late to start: the command was for no later than $NOT_AFTER."; fi
}

check_fence() {
  if [ "$NODE_FENCE" -gt "$FENCE" ]; then finish fenced_off "" "A command with fence $NODE_FENCE spoke; this one has $FENCE."; fi
}

check_identity() {
  if [ "$NODE_PROVIDER_ID" != "$PROVIDER_ID" ]; then
    refuse identity "The Node $NODE has provider-id \"$NODE_PROVIDER_ID\", not $PROVIDER_ID: it is another machine."
  fi
  if grep -qE '"node-role\.kubernetes\.io/(control-plane|master|etcd)"' <<<"$NODE_LABELS"; then
    refuse control-plane "The Node $NODE runs the control plane."
  fi
}

check_cordon() {
  if [ "$NODE_CORDONED" = true ] && [ -z "$NODE_OPERATION" ]; then
    refuse cordoned-by-others "The Node $NODE was cordoned by someone else: it is theirs to decide on."
  fi
}

PV_FIELDS='{range .items[*]}{.metadata.name}|{range .spec.nodeAffinity.required.nodeSelectorTerms[*]}{range .matchExpressions[*]}{.key}={.values[*]};{end}{end}{"\n"}{end}'

check_volumes() { # a volume with affinity to this node would be lost, mounted or not
  local name terms term value
  ask get persistentvolumes -o "jsonpath=$PV_FIELDS" --request-timeout="${CALL_S}s" || give_up "The volumes could not be listed"
  while IFS='|' read -r name terms; do
    while read -r -d ';' term; do
      [ "${term%%=*}" = kubernetes.io/hostname ] || continue
      for value in ${term#*=}; do
        if [ "$value" = "$NODE_HOSTNAME" ] || [ "$value" = "$NODE" ]; then
          refuse local-volume "The volume $name lives on $NODE."
        fi
      done
    done <<<"$terms"
  done <<<"$ANSWER"
}

POD_FIELDS='{range .items[*]}{.metadata.namespace}/{.metadata.name}|{.status.phase}|{.metadata.ownerReferences[*].kind}|'
POD_FIELDS+='{.metadata.annotations.kubernetes\.io/config\.mirror}|{.metadata.annotations.cluster-autoscaler\.kubernetes\.io/safe-to-evict}|'
POD_FIELDS+='{.metadata.annotations.karpenter\.sh/do-not-disrupt}{"\n"}{end}'

check_pods() { # static and DaemonSet pods go with their node, finished ones are gone already
  local title phase owner mirror safe keep
  ask get pods --all-namespaces --field-selector "spec.nodeName=$NODE" -o "jsonpath=$POD_FIELDS" --request-timeout="${CALL_S}s" ||
    give_up "The pods could not be listed"
  while IFS='|' read -r title phase owner mirror safe keep; do
    if [ -z "$title" ] || [ -n "$mirror" ] || [[ " $owner " == *" DaemonSet "* ]] || [[ $phase =~ ^(Succeeded|Failed)$ ]]; then continue; fi
    if [ -z "$owner" ]; then refuse bare-pod "The pod $title has no controller: nothing would start it again."; fi
    if [ "$safe" = false ] || [ "$keep" = true ]; then refuse do-not-evict "The pod $title asks not to be evicted."; fi
  done <<<"$ANSWER"
}

DRAIN_FLAGS=(--ignore-daemonsets --delete-emptydir-data)

check_dry_run() { # evictions are tried without being done: a budget at zero shows at once
  CALL_S=$((CALL_S + 10)) ask drain "$NODE" --dry-run=server "${DRAIN_FLAGS[@]}" --timeout=3s && return
  if over_budget "$COMPLAINT$ANSWER"; then
    finish blocked_by_budget disruption-budget "A disruption budget forbids it: $(grep -m1 "violate the pod's disruption budget" <<<"$COMPLAINT$ANSWER")"
  fi
  if unreachable "$COMPLAINT"; then finish api_unreachable "" "The drain could not be tried: $COMPLAINT"; fi
  refuse drain-dry-run "A drain would fail: $COMPLAINT"
}

preflight() {
  look || give_up "The Node could not be read"
  check_fence
  check_identity
  if [ "$RECLAIM" = true ]; then return; fi
  check_cordon
  check_volumes
  check_pods
  check_dry_run
}

# -------------------------------------------------------------------------------------------------------------- verbs

stop_drain() { # kubectl first gets the chance to end in order
  local tries=0
  if [ -z "$DRAIN_PID" ]; then return; fi
  kill -TERM "$DRAIN_PID" 2>/dev/null
  while kill -0 "$DRAIN_PID" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$DRAIN_PID" 2>/dev/null
  wait "$DRAIN_PID" 2>/dev/null
  DRAIN_PID=""
  EVICTED=$(grep -cE '^pod/.* (evicted|deleted)$' "$SCRATCH/drain")
}

give_back() { # undo our cordon, unless the machine goes away or a higher fence decides
  local try
  if [ "$OURS_TO_UNDO" != yes ]; then return; fi
  if [ "$RECLAIM" = true ]; then unmark; return; fi
  for try in 1 2 3 4 5; do
    if ! look; then sleep 1; continue; fi
    if [ "$NODE_FENCE" -gt "$FENCE" ]; then unmark; return; fi
    if change '"unschedulable":null' "\"$PREFIX/operation\":null,\"$PREFIX/draining\":null"; then
      say "uncordoned (try $try)"
      return
    fi
  done
  say "could not uncordon: the operation's uncordon command will"
}

unmark() { # tell a waiting uncordon that this drain is over; the mark of a drain that took over stays
  local try
  for try in 1 2 3 4 5; do
    if ! look; then sleep 1; continue; fi
    if [ "$NODE_DRAINING" != "$MARK" ] && [ "$NODE_DRAINING" != stop ]; then return; fi
    if change '' "\"$PREFIX/draining\":null"; then return; fi
  done
  say "the mark of the drain stays after $try tries: an uncordon waits its full $STOP_S s"
}

stopped() { # SSM or the machine ends us: leave nothing cordoned behind
  trap '' TERM INT HUP
  say "stopped by a signal"
  stop_drain
  give_back
  finish failed "" "The command was stopped by a signal; what it had begun was undone as far as the API server could be reached."
}

end_drain() { # outcome, message: a drain that did not succeed
  stop_drain
  if [ "$1" = fenced_off ]; then unmark; else give_back; fi
  finish "$1" "" "$2"
}

watch_drain() { # until kubectl ends: a higher fence or an uncordon's word stops it, so does blindness
  local deadline=$((SECONDS + TIMEOUT_S + 15)) missed=0
  while kill -0 "$DRAIN_PID" 2>/dev/null; do
    sleep "$POLL_S" 3>&- 9>&- &
    wait $! 2>/dev/null
    if [ "$SECONDS" -ge "$deadline" ]; then end_drain timed_out "The drain did not end within $TIMEOUT_S s."; fi
    if look; then
      missed=0
      if [ "$NODE_FENCE" -gt "$FENCE" ] || [ "$NODE_DRAINING" != "$MARK" ]; then
        end_drain fenced_off "The drain was stopped by a later command (fence $NODE_FENCE)."
      fi
    elif not_found "$COMPLAINT"; then
      stop_drain
      finish no_such_node "" "The Node $NODE was deleted while it was drained."
    else
      missed=$((missed + 1))
      if [ "$missed" -ge "$MISSED_POLLS" ]; then end_drain api_unreachable "The drain was stopped: the fence could not be seen. $COMPLAINT"; fi
    fi
  done
}

drain() {
  local flags=("${DRAIN_FLAGS[@]}" --timeout="${TIMEOUT_S}s") parent_death=() code
  preflight
  if [ "$GRACE_S" -ge 0 ]; then flags+=(--grace-period="$GRACE_S"); fi
  if [ "$RECLAIM" = true ]; then flags+=(--force); fi
  # Should this script be killed, kubectl must not go on without the one who watches the fence.
  if command -v setpriv >/dev/null; then parent_death=(setpriv --pdeathsig TERM); fi
  trap stopped TERM INT HUP
  OURS_TO_UNDO=yes
  change_fenced '"unschedulable":true' "\"$PREFIX/operation\":\"$OPERATION\",\"$PREFIX/draining\":\"$MARK\""
  say "cordoned; draining"
  "${parent_death[@]}" "${KUBECTL[@]}" drain "$NODE" "${flags[@]}" >"$SCRATCH/drain" 2>&1 3>&- 9>&- &
  DRAIN_PID=$!
  watch_drain
  wait "$DRAIN_PID"
  code=$?
  stop_drain
  cat "$SCRATCH/drain"
  if [ "$code" -eq 0 ]; then
    unmark
    finish succeeded "" "Drained; $EVICTED pods were evicted."
  fi
  COMPLAINT=$(tail -n 5 "$SCRATCH/drain")
  if over_budget "$COMPLAINT"; then end_drain blocked_by_budget "A disruption budget held the drain up for $TIMEOUT_S s: $COMPLAINT"; fi
  if grep -q 'global timeout reached' <<<"$COMPLAINT"; then end_drain timed_out "The drain did not end within $TIMEOUT_S s: $COMPLAINT"; fi
  if unreachable "$COMPLAINT"; then end_drain api_unreachable "The drain lost the API server: $COMPLAINT"; fi
  end_drain failed "The drain failed: $COMPLAINT"
}

uncordon() {
  local waited_until
  look || give_up "The Node could not be read"
  check_fence
  check_identity
  if [ -n "$NODE_DRAINING" ]; then
    say "asking the drain of $NODE_DRAINING to stop"
    change_fenced '' "\"$PREFIX/draining\":\"stop\""
    waited_until=$((SECONDS + STOP_S))
    while [ "$SECONDS" -lt "$waited_until" ]; do
      sleep "$POLL_S"
      if look && [ -z "$NODE_DRAINING" ]; then break; fi
    done
    look || give_up "The Node could not be read"
  fi
  if [ "$NODE_CORDONED" = true ] && [ -z "$NODE_OPERATION" ]; then
    finish succeeded "" "The cordon of $NODE is not ours and was left."
  fi
  change_fenced '"unschedulable":null' "\"$PREFIX/operation\":null,\"$PREFIX/draining\":null"
  finish succeeded "" "Uncordoned."
}

delete_node() {
  if ! look; then
    if not_found "$COMPLAINT"; then finish succeeded "" "The Node $NODE is gone already."; fi
    give_up "The Node could not be read"
  fi
  check_fence
  check_identity
  printf '{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"%s"}}' "$NODE_UID" >"$SCRATCH/delete.json"
  if ! ask delete --raw "/api/v1/nodes/$NODE" -f "$SCRATCH/delete.json"; then
    if conflict "$COMPLAINT"; then refuse identity "Another Node took the name $NODE meanwhile."; fi
    not_found "$COMPLAINT" || give_up "The Node could not be deleted"
  fi
  finish succeeded "" "The Node $NODE is deleted."
}

status() {
  look || give_up "The Node could not be read"
  finish succeeded "" "cordoned=${NODE_CORDONED:-false} fence=$NODE_FENCE operation=$NODE_OPERATION draining=$NODE_DRAINING provider-id=$NODE_PROVIDER_ID"
}

repeat_of() { # the first result of this operation and verb, also while the first run is still at it
  mkdir -p "$RESULTS" || finish failed "" "The folder $RESULTS could not be made."
  find "$RESULTS" -type f -mtime +7 -delete
  exec 9>"$RESULTS/$OPERATION.$VERB.lock"
  flock -w $((TIMEOUT_S + 60)) 9 || finish failed "" "The first run of this command has not ended within $((TIMEOUT_S + 60)) s."
  if [ -s "$STORED" ]; then
    say "a repeat: the first result stands"
    tail -n 1 "$STORED" >&3
    exit "$(head -n 1 "$STORED")"
  fi
}

check_input
STORED="$RESULTS/$OPERATION.$VERB.result"
say "begins (fence $FENCE, not after $NOT_AFTER, time-out $TIMEOUT_S s, grace $GRACE_S s, reclaim $RECLAIM)"
case $VERB in drain | uncordon | delete-node) repeat_of ;; esac
check_time
case $VERB in
  preflight) preflight && finish succeeded "" "Nothing stands against a drain." ;;
  status) status ;;
  drain) STORABLE=yes && drain ;;
  uncordon) STORABLE=yes && uncordon ;;
  delete-node) STORABLE=yes && delete_node ;;
esac
