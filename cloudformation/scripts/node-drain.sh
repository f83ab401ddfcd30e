#!/bin/bash
# The drain of one Node by kubectl, its dry run, and how each ended. node-command.sh reads this in.
#
# Only what is understood decides anything: a budget, a time that ran out, an admission policy that denies, a pod that
# kubectl will not touch. Everything else is `unknown`, whatever it says, and unknown means: again, and elsewhere.
# The words are those of kubectl 1.36 and 1.32 (docs/node-commands.md shows them).

# ---------------------------------------------------------------------------------------------------------------- kubectl

DRAIN_FLAGS=(--ignore-daemonsets --delete-emptydir-data)

start_kubectl() { # flags: `kubectl drain` as $DRAIN_PID, what it says in $SCRATCH/run
  local parent_death=()
  # Should this script be killed, kubectl must not go on without the one who watches the fence.
  if command -v setpriv >/dev/null; then parent_death=(setpriv --pdeathsig TERM); fi
  "${parent_death[@]}" "${KUBECTL[@]}" drain "$NODE" "${DRAIN_FLAGS[@]}" "$@" >"$SCRATCH/run" 2>&1 3>&- 9>&- &
  DRAIN_PID=$!
}

stop_kubectl() { # how it ended; where it still runs it first gets the chance to end in order
  local tries=0 code
  if [ -z "$DRAIN_PID" ]; then return; fi
  kill -TERM "$DRAIN_PID" 2>/dev/null
  while kill -0 "$DRAIN_PID" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$DRAIN_PID" 2>/dev/null
  wait "$DRAIN_PID" 2>/dev/null
  code=$?
  DRAIN_PID=""
  cat "$SCRATCH/run"
  EVICTED=$((EVICTED + $(grep -cE '^pod/.* (evicted|deleted)$' "$SCRATCH/run")))
  return "$code"
}

# kubectl goes on with all pods at once and tells of each; which pods it gave up on stands at the end, below "There are
# pending nodes to be drained:". A pod that an eviction was refused for ends with "global timeout reached", and only its
# last "will retry" line says why. Prints a kind and a line; of several pods the gravest speaks.
verdict() { # the output of a drain, `stopped` where it did not end by itself
  awk -v stopped="${2:-}" '
  function pod(line,    part) { split(line, part, "\""); return part[4] "/" part[2] }
  function found(kind, line) { if (!(kind in lines)) lines[kind] = line }
  /^error when evicting pod/ && / \(will retry after / {
    last[pod($0)] = $0
    if (/violate the pod.s disruption budget/) held[pod($0)] = "budget"
    else if (/ from terminating namespace /) held[pod($0)] = "ending"
    else held[pod($0)] = "unknown"
    next
  }
  /^pod\/.* (evicted|deleted)$/ { gone[substr($1, 5)] = 1 }
  /There are pending nodes to be drained:$/ { ended = 1; next }
  !ended { next }
  /^error when evicting pods?\/.*: global timeout reached: / {
    if (pod($0) in held) found(held[pod($0)], last[pod($0)]); else found("late", $0)
    next
  }
  /^error when evicting pods?\/.*: This pod has more than one PodDisruptionBudget/ { found("budget", $0); next }
  /^error when waiting for pod .* to terminate: (.*: )?(context deadline exceeded|.* would exceed context deadline)$/ { found("late", $0); next }
  /^error when (evicting|deleting) pods?\/.*: (admission webhook ".*" denied the request|pods ".*" is forbidden: .* denied request)/ { found("denied", $0); next }
  /^cannot delete .* declare no controller / || /^cannot delete daemonsets.apps ".*" not found: / { found("bare", $0); next }
  NF && !/^ / { found("unknown", $0) }
  END {
    if (!ended) # what it was waiting for decides
      for (one in held) { split(one, part, "/"); if (!(part[2] in gone)) found(held[one], last[one]) }
    count = split("budget denied late ending bare unknown", order, " ")
    for (i = 1; i <= count; i++) if (order[i] in lines) { print order[i] "\t" lines[order[i]]; exit }
    print (stopped ? "late" : "unknown") "\t"
  }
  ' "$1"
}

judge() { # KIND and SAID of what kubectl said last
  IFS=$'\t' read -r KIND SAID < <(verdict "$SCRATCH/run" "$@")
  if [ -z "$SAID" ]; then SAID=$(tail -n 3 "$SCRATCH/run"); fi
}

# ---------------------------------------------------------------------------------------------------------------- dry run

over_budget() { grep -q "violate the pod's disruption budget" "$SCRATCH/run"; }

check_dry_run() { # evictions are tried without being done: a budget at zero shows at once
  local waited_until=$((SECONDS + CALL_S + 10))
  start_kubectl --dry-run=server --timeout=4s
  # kubectl itself sleeps five seconds over a budget; the first word of one is enough.
  while kill -0 "$DRAIN_PID" 2>/dev/null && [ "$SECONDS" -lt "$waited_until" ] && ! over_budget; do sleep 0.1; done
  if kill -0 "$DRAIN_PID" 2>/dev/null; then
    stop_kubectl
  elif stop_kubectl; then
    return
  fi
  judge
  case $KIND in
    budget) finish blocked_by_budget disruption-budget "A disruption budget forbids it: $SAID" ;;
    denied) refuse admission "An admission policy refuses the drain: $SAID" ;;
    bare) check_bare ;;
    ending) say "left to its namespace, which ends: $SAID" ;;
    *) finish api_unreachable "" "The drain could not be tried: $SAID" ;;
  esac
}

check_bare() { # kubectl will not touch some pods: they go by themselves, or they stand against the drain
  read_pods || give_up "The pods could not be listed"
  if against_pods; then refuse_and_undo "$RULE" "$WHY"; fi
  say "waiting for pods that end by themselves: $SAID"
}

# ------------------------------------------------------------------------------------------------------------------ drain

give_back() { # undo our cordon, unless the machine goes away or a higher fence decides; false where that fails
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
  return 1
}

unmark() { # tell a waiting uncordon that this drain is over; the mark of a drain that took over stays
  local try
  for try in 1 2 3 4 5; do
    if ! look; then sleep 1; continue; fi
    if [ "$NODE_DRAINING" != "$MARK" ] && [ "$NODE_DRAINING" != stop ]; then return; fi
    if change '' "\"$PREFIX/draining\":null"; then return; fi
  done
  say "the mark of the drain stays after $try tries: an uncordon waits its full $STOP_S s"
  return 1
}

stopped() { # SSM or the machine ends us: leave nothing cordoned behind
  trap '' TERM INT HUP
  say "stopped by a signal"
  stop_kubectl
  give_back
  finish api_unreachable "" "The command was stopped by a signal; what it had begun was undone as far as the API server could be reached."
}

end_drain() { # outcome, message: a drain that did not succeed
  stop_kubectl
  if [ "$1" = fenced_off ]; then unmark; else give_back; fi
  finish "$1" "" "$2"
}

see() { # look at the Node of a running drain; false where it cannot be seen now. Ends where somebody decided otherwise
  if look; then
    MISSED=0
    if [ "$NODE_FENCE" -gt "$FENCE" ] || [ "$NODE_DRAINING" != "$MARK" ]; then
      end_drain fenced_off "The drain was stopped by a later command (fence $NODE_FENCE)."
    fi
    still_ours
    return 0
  fi
  if no_such_node "$COMPLAINT"; then
    stop_kubectl
    finish no_such_node "" "The Node $NODE was deleted while it was drained."
  fi
  MISSED=$((MISSED + 1))
  if [ "$MISSED" -ge "$MISSED_POLLS" ]; then end_drain api_unreachable "The drain was stopped: the fence could not be seen. $COMPLAINT"; fi
  return 1
}

still_ours() { # or somebody uncordoned the Node: their word stands, unless the machine goes away whatever anybody says
  # A kubectl that says "cordoned", not "already cordoned", found the Node open, and closed it again.
  if [ "$NODE_CORDONED" = true ] && { [ "$RECLAIM" = true ] || ! grep -qE '^node/[^ ]+ cordoned$' "$SCRATCH/run"; }; then return; fi
  if [ "$RECLAIM" != true ]; then
    stop_kubectl
    refuse_and_undo uncordoned-by-others "Somebody uncordoned $NODE while it was drained: it is theirs to decide on."
  fi
  say "somebody uncordoned the Node; the machine goes away: cordoned again"
  change_fenced '"unschedulable":true' "\"$PREFIX/operation\":\"$OPERATION\",\"$PREFIX/draining\":\"$MARK\""
}

pause() { # a signal is heard at once
  sleep "$POLL_S" 3>&- 9>&- &
  wait $! 2>/dev/null
}

watch_kubectl() { # until it ends; false where the drain's time ran out first
  while kill -0 "$DRAIN_PID" 2>/dev/null; do
    pause
    # kubectl may outlive its own time-out: it sleeps over budgets, and its client asks again by itself.
    if [ "$SECONDS" -ge "$((DEADLINE + 15))" ]; then return 1; fi
    see
  done
}

is_empty() { # what the API shows now: the Node still cordoned as ours, and nothing on it that should have moved
  local left
  see && read_pods || return 1
  # A pod that tolerates the cordon comes back for ever: once it was evicted like the others it counts no more.
  left=$((MOVABLE - STAYING + ENDING))
  if [ "$left" -gt 0 ]; then
    if [ "$RECLAIM" != true ] && against_pods; then refuse_and_undo "$RULE" "$WHY"; fi
    KIND=late COMPLAINT="$left pods came to $NODE while it was drained"
    return 1
  fi
  # One write over what was just seen: whoever uncordons in between makes it fail. Its answer may be lost, too.
  change '' "\"$PREFIX/draining\":null" && return
  look && [ "$NODE_CORDONED:$NODE_OPERATION:$NODE_DRAINING:$NODE_FENCE" = "true:$OPERATION::$FENCE" ]
}

judge_drain() { # kubectl ended without success: end where its words are understood, else come back to try again
  judge "$@"
  case $KIND in
    budget) end_drain blocked_by_budget "A disruption budget held the drain up for $TIMEOUT_S s: $SAID" ;;
    denied) refuse_and_undo admission "An admission policy refuses an eviction: $SAID" ;;
    # Until a namespace is gone itself the API forbids evictions of pods that left it already.
    late | ending)
      if [ "$KIND" = ending ] && is_empty; then finish succeeded "" "Drained; $EVICTED pods were evicted."; fi
      end_drain timed_out "The drain did not end within $TIMEOUT_S s: $SAID"
      ;;
    bare) if [ "$RECLAIM" != true ]; then check_bare; fi ;;
    *) say "kubectl complained, and is started again: $SAID" ;;
  esac
}

drain() {
  local flags=() left restarts=0 gone
  preflight
  # Zero would take the pods out of the API while they still run (kubectl delete reads 0 as 1 for that reason).
  if [ "$GRACE_S" -ge 0 ]; then flags+=(--grace-period="$((GRACE_S > 0 ? GRACE_S : 1))"); fi
  if [ "$RECLAIM" = true ]; then flags+=(--force); fi
  trap stopped TERM INT HUP
  OURS_TO_UNDO=yes EVICTED=0
  change_fenced '"unschedulable":true' "\"$PREFIX/operation\":\"$OPERATION\",\"$PREFIX/draining\":\"$MARK\""
  say "cordoned; draining"
  DEADLINE=$((SECONDS + TIMEOUT_S))
  # A restart of the API server ends kubectl at once, pods may come while it works: it is started again in the time left.
  while left=$((DEADLINE - SECONDS)) && [ "$left" -gt 0 ] && [ "$restarts" -lt "$MOST_RESTARTS" ]; do
    gone=$EVICTED KIND=unknown SAID=""
    start_kubectl "${flags[@]}" --timeout="${left}s"
    if ! watch_kubectl; then
      stop_kubectl
      judge_drain stopped
    elif stop_kubectl; then
      if is_empty; then finish succeeded "" "Drained; $EVICTED pods were evicted."; fi
      SAID=$COMPLAINT
      say "not empty yet: $SAID"
    else
      judge_drain
    fi
    if [ "$EVICTED" -gt "$gone" ] || [ "$KIND" != unknown ]; then restarts=0; else restarts=$((restarts + 1)); fi
    pause
    until see; do pause; done # never started over a Node that somebody opened: kubectl would close it
  done
  if [ "$KIND" = unknown ]; then end_drain api_unreachable "The drain was not understood: $SAID"; fi
  if [[ $SAID == *daemonsets.apps* ]]; then refuse_and_undo bare-pod "A pod outlived its DaemonSet: $SAID"; fi
  end_drain timed_out "The drain did not end within $TIMEOUT_S s: $SAID"
}
