#!/bin/bash
# One node command, run on a K3s server by SSM Run Command: inspect, preflight, drain, uncordon, delete-node or status of
# one Node, or the scheduler's rules. docs/node-commands.md is its contract: parameters in SSM_*, one JSON line on stdout,
# an exit code per outcome.
#
# What may go wrong is told apart, never guessed: only what is understood is a refusal or an end, all else is tried again.
# Whatever it began it undoes when it is stopped, unless the machine is being taken away (reclaim). It needs bash, awk,
# coreutils, util-linux and kubectl; no jq, no python.
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
MOST_RESTARTS=20                      # kubectl is started again so often in a row without a pod that went

export HOME=${HOME:-/root}
PREFIX=k3s-autoscaler
MARK="$OPERATION"                     # what this drain writes into the annotation `draining`
EVICTED=0 DRAIN_PID="" OURS_TO_UNDO=no STORABLE=no MISSED=0 INSPECTION=""

# shellcheck source=cloudformation/scripts/node-checks.sh
. "${0%/*}/node-checks.sh"
# shellcheck source=cloudformation/scripts/node-drain.sh
. "${0%/*}/node-drain.sh"
# shellcheck source=cloudformation/scripts/node-rules.sh
. "${0%/*}/node-rules.sh"

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
  line=$(printf '{"operation":"%s","verb":"%s","outcome":"%s","rule":"%s","message":"%s","evicted_pods":%d%s}' \
    "$(json_text "$OPERATION")" "$(json_text "$VERB")" "$1" "$2" "$(json_text "$3")" "$EVICTED" "${INSPECTION:+,\"inspection\":$INSPECTION}")
  say "$line"
  case $STORABLE:$1:$2 in
    # What was not understood, and a Node that was tampered with, are no answers: the same command may be sent again.
    no:* | *:api_unreachable:* | *:failed:* | *:admission) ;;
    *) printf '%s\n%s\n' "$code" "$line" >"$STORED.new" && mv "$STORED.new" "$STORED" ;;
  esac
  # The rules are too long for the log, and of a verb whose result nobody stores.
  printf '%s\n' "${line%\}}$(rules_member)}" >&3
  exit "$code"
}

# ------------------------------------------------------------------------------------------------------- the API server

ask() { # kubectl arguments: answer in $ANSWER, complaint in $COMPLAINT
  local code
  ask_into "$SCRATCH/answer" "$@"
  code=$?
  ANSWER=$(cat "$SCRATCH/answer")
  return "$code"
}

ask_into() { # file, kubectl arguments: answer in the file, complaint in $COMPLAINT
  local file=$1 code
  shift
  timeout --kill-after=5 "$CALL_S" "${KUBECTL[@]}" "$@" >"$file" 2>"$SCRATCH/complaint" 3>&- 9>&-
  code=$?
  COMPLAINT=$(cat "$SCRATCH/complaint")
  if [ "$code" -ne 0 ]; then say "kubectl $1 ended with $code: $COMPLAINT"; fi
  if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then COMPLAINT="no answer within $CALL_S s (deadline exceeded)"; fi
  return "$code"
}

# What complaints are understood by. The rest is unknown, whatever it says.
denied() { # a complaint: an admission policy of the cluster says no
  grep -qE 'admission webhook ".*" denied the request|is forbidden: .* denied request' <<<"$1"
}
conflict() { grep -qE '\(Conflict\)|object has been modified|Precondition failed' <<<"$1"; }
no_such_node() { grep -qF "(NotFound): nodes \"$NODE\" not found" <<<"$1"; }

give_up() { # what was tried: end as the complaint says. What is not understood is no answer: again, on another server
  if [ "$TAMPERED" = yes ]; then finish failed "" "$1: $COMPLAINT"; fi
  if no_such_node "$COMPLAINT"; then finish no_such_node "" "There is no Node $NODE."; fi
  if denied "$COMPLAINT"; then refuse admission "An admission policy refuses it: $COMPLAINT"; fi
  finish api_unreachable "" "$1: $COMPLAINT"
}

NODE_FIELDS='{.metadata.uid}{"\n"}{.metadata.resourceVersion}{"\n"}{.spec.providerID}{"\n"}{.spec.unschedulable}{"\n"}'
NODE_FIELDS+='{.metadata.annotations.k3s-autoscaler/fence}{"\n"}{.metadata.annotations.k3s-autoscaler/operation}{"\n"}'
NODE_FIELDS+='{.metadata.annotations.k3s-autoscaler/draining}{"\n"}{.metadata.labels}{"\n"}'

TAMPERED=no

look() { # read the Node into NODE_*; false with $COMPLAINT where that fails
  TAMPERED=no
  ask get node "$NODE" -o "jsonpath=$NODE_FIELDS" --request-timeout="${CALL_S}s" || return 1
  # A Node's own kubelet may write its provider-id and annotations: a line break in one would shift all that follow.
  if [ "$(grep -c '' <<<"$ANSWER")" -ne 8 ]; then
    TAMPERED=yes COMPLAINT="the Node $NODE has no labels, or a line break in a field: somebody tampered with it"
    return 1
  fi
  { read -r NODE_UID; read -r NODE_VERSION; read -r NODE_PROVIDER_ID; read -r NODE_CORDONED; read -r NODE_FENCE
    read -r NODE_OPERATION; read -r NODE_DRAINING; read -r NODE_LABELS; } <<<"$ANSWER"
  NODE_FENCE=${NODE_FENCE:-0}
  if ! [[ $NODE_FENCE =~ ^[0-9]{1,15}$ ]]; then
    TAMPERED=yes COMPLAINT="the annotation $PREFIX/fence of $NODE is \"$NODE_FENCE\", not a number: remove it"
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
    if denied "$COMPLAINT"; then refuse admission "An admission policy refuses the change: $COMPLAINT"; fi
    if ! conflict "$COMPLAINT"; then
      complaint=$COMPLAINT
      give_back || say "the Node could not be given back" # the answer may be lost and the cordon done all the same
      COMPLAINT=$complaint
      give_up "The Node could not be changed"
    fi
    say "another write came between (try $try)"
  done
  finish api_unreachable "" "The Node changed five times while it was being changed: send the command again."
}

# ------------------------------------------------------------------------------------------------------------- checks

refuse() { finish refused "$1" "$2"; }

refuse_and_undo() { # rule, why: a refusal in the middle. Only what is undone may be told as one
  if give_back; then refuse "$1" "$2"; fi
  finish failed "$1" "$2 The cordon could not be taken back."
}

check_input() {
  [[ $VERB =~ ^(inspect|preflight|drain|uncordon|delete-node|status|rules)$ ]] ||
    refuse input "verb must be inspect, preflight, drain, uncordon, delete-node, status or rules."
  [[ $VERB = inspect || $VERB = rules || (${#NODE} -le 253 && $NODE =~ ^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$) ]] ||
    refuse input "node must be the name of a Node: lower-case letters, digits, hyphens and dots."
  [[ $VERB = rules || $PROVIDER_ID =~ ^[a-zA-Z0-9:/._-]{1,255}$ ]] || refuse input "providerId must be the provider-id that the Node carries."
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

runs_control_plane() { # labels of a Node, as JSON
  grep -qE '"node-role\.kubernetes\.io/(control-plane|master|etcd)"' <<<"$1"
}

check_identity() {
  if [ "$NODE_PROVIDER_ID" != "$PROVIDER_ID" ]; then
    refuse identity "The Node $NODE has provider-id \"$NODE_PROVIDER_ID\", not $PROVIDER_ID: it is another machine."
  fi
  if runs_control_plane "$NODE_LABELS"; then
    refuse control-plane "The Node $NODE runs the control plane."
  fi
}

check_cordon() {
  if [ "$NODE_CORDONED" = true ] && [ -z "$NODE_OPERATION" ]; then
    refuse cordoned-by-others "The Node $NODE was cordoned by someone else: it is theirs to decide on."
  fi
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
    if no_such_node "$COMPLAINT"; then finish succeeded "" "The Node $NODE is gone already."; fi
    give_up "The Node could not be read"
  fi
  check_fence
  check_identity
  printf '{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"%s"}}' "$NODE_UID" >"$SCRATCH/delete.json"
  if ! ask delete --raw "/api/v1/nodes/$NODE" -f "$SCRATCH/delete.json"; then
    if conflict "$COMPLAINT"; then refuse identity "Another Node took the name $NODE meanwhile."; fi
    no_such_node "$COMPLAINT" || give_up "The Node could not be deleted"
  fi
  finish succeeded "" "The Node $NODE is deleted."
}

status() {
  look || give_up "The Node could not be read"
  finish succeeded "" "cordoned=${NODE_CORDONED:-false} fence=$NODE_FENCE operation=$NODE_OPERATION draining=$NODE_DRAINING provider-id=$NODE_PROVIDER_ID"
}

repeat_of() { # the first result of this operation and verb, also while the first run is still at it
  mkdir -p "$RESULTS" || finish api_unreachable "" "The folder $RESULTS could not be made."
  find "$RESULTS" -type f -mtime +7 -delete
  exec 9>"$RESULTS/$OPERATION.$VERB.lock"
  flock -w $((TIMEOUT_S + 60)) 9 || finish api_unreachable "" "The first run of this command has not ended within $((TIMEOUT_S + 60)) s."
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
  inspect) inspect ;;
  preflight) preflight && finish succeeded "" "Nothing stands against a drain." ;;
  status) status ;;
  rules) rules ;;
  drain) STORABLE=yes && drain ;;
  uncordon) STORABLE=yes && uncordon ;;
  delete-node) STORABLE=yes && delete_node ;;
esac
