#!/bin/bash
# What stands against ending a Node: its volumes and pods, as the API server shows them. node-command.sh reads this in:
# `preflight`, `drain` and `inspect` ask the same functions, so none of them knows a volume or a pod that another does not.
#
# It needs `ask`, NODE, COMPLAINT and SCRATCH of node-command.sh.

NAMES_KEPT=5 # of each kind of pod that an inspection names; it counts them all

# ---------------------------------------------------------------------------------------------------------- volumes

# One line a volume, and below it one a term, expression and field of its required affinity. A label's key and value are
# words by Kubernetes' own rules, so tabs part them.
VOLUME_FIELDS='{range .items[*]}V{"\t"}{.metadata.name}{"\t"}{.status.phase}{"\n"}'
VOLUME_FIELDS+='{range .spec.nodeAffinity.required.nodeSelectorTerms[*]}T{"\n"}'
VOLUME_FIELDS+='{range .matchExpressions[*]}E{"\t"}{.key}{"\t"}{.operator}{range .values[*]}{"\t"}{@}{end}{"\n"}{end}'
VOLUME_FIELDS+='{range .matchFields[*]}F{"\t"}{.key}{"\t"}{.operator}{range .values[*]}{"\t"}{@}{end}{"\n"}{end}{end}{end}'
NODE_LABELS_FIELDS='{range .items[*]}{.metadata.name}{"\t"}{.metadata.labels}{"\n"}{end}'

# Every volume whose required affinity matches this Node and no other, whatever the key: it is on this machine (`local`),
# or in a zone that has no other Node (`zone`). Terms are alternatives, the expressions of one hold together, an empty
# term matches nothing (the API's own rules for a NodeSelector).
volumes_here() { # node labels, volumes: kind, name and phase of each
  awk -F '\t' -v here="$NODE" '
  function label(node, key,    text, at) {
    text = labels[node]; at = index(text, "\"" key "\":\""); present = at > 0
    if (!present) return ""
    text = substr(text, at + length(key) + 4)
    return substr(text, 1, index(text, "\"") - 1)
  }
  function meets(node, line,    part, count, value, i, listed) {
    count = split(line, part, "\t")
    if (part[1] == "F") { value = node; present = part[2] == "metadata.name" } else value = label(node, part[2])
    listed = 0
    for (i = 4; i <= count; i++) if (part[i] == value "") listed = 1
    if (part[3] == "In") return present && listed
    if (part[3] == "NotIn") return !present || !listed
    if (part[3] == "Exists") return present
    if (part[3] == "DoesNotExist") return !present
    if (!present || count != 4 || value !~ /^-?[0-9]+$/ || part[4] !~ /^-?[0-9]+$/) return 0
    if (part[3] == "Gt") return value + 0 > part[4] + 0
    return part[3] == "Lt" && value + 0 < part[4] + 0
  }
  function matches(node,    term, i, all) { # the first term that this Node meets; 0 for none
    for (term = 1; term <= terms; term++) {
      all = asks[term] > 0
      for (i = 1; i <= asks[term] && all; i++) all = meets(node, asked[term, i])
      if (all) return term
    }
    return 0
  }
  function judge(    term, i, node, part, kind) {
    if (name == "" || !(term = matches(here))) return
    for (node in labels) if (node != here && matches(node)) return
    kind = "zone"
    for (i = 1; i <= asks[term]; i++) {
      split(asked[term, i], part, "\t")
      if (part[2] !~ /(^|\/)(zone|region)$/) kind = "local"
    }
    print kind "\t" name "\t" phase
  }
  FNR == NR { labels[$1] = $2; next }
  $1 == "V" { judge(); name = $2; phase = $3; terms = 0 }
  $1 == "T" { asks[++terms] = 0 }
  $1 == "E" || $1 == "F" { asked[terms, ++asks[terms]] = $0 }
  END { judge() }
  ' "$@"
}

read_volumes() { # LOCAL_VOLUMES, and ZONE_VOLUMES that are in use; false with $COMPLAINT
  local kind name phase
  LOCAL_VOLUMES=() ZONE_VOLUMES=()
  ask get persistentvolumes -o "jsonpath=$VOLUME_FIELDS" --request-timeout="${CALL_S}s" || return 1
  printf '%s\n' "$ANSWER" >"$SCRATCH/volumes"
  if ! grep -q '^T' "$SCRATCH/volumes"; then return; fi
  ask get nodes -o "jsonpath=$NODE_LABELS_FIELDS" --request-timeout="${CALL_S}s" || return 1
  printf '%s\n' "$ANSWER" >"$SCRATCH/labels"
  while IFS=$'\t' read -r kind name phase; do
    if [ "$kind" = local ]; then LOCAL_VOLUMES+=("$name"); fi
    if [ "$kind" = zone ] && [ "$phase" = Bound ]; then ZONE_VOLUMES+=("$name"); fi
  done < <(volumes_here "$SCRATCH/labels" "$SCRATCH/volumes")
}

check_volumes() { # a volume of this machine would be lost, mounted or not
  read_volumes || give_up "The volumes could not be listed"
  if [ "${#LOCAL_VOLUMES[@]}" -gt 0 ]; then refuse local-volume "The volume ${LOCAL_VOLUMES[0]} lives on $NODE."; fi
  if [ "${#ZONE_VOLUMES[@]}" -gt 0 ]; then
    refuse local-volume "The volume ${ZONE_VOLUMES[0]} can be used on $NODE only: its zone has no other Node."
  fi
}

# ------------------------------------------------------------------------------------------------------------- pods

POD_FIELDS='{range .items[*]}{.metadata.namespace}/{.metadata.name}|{.status.phase}|'
POD_FIELDS+='{.metadata.ownerReferences[?(@.controller==true)].kind}|{.metadata.deletionTimestamp}|'
POD_FIELDS+='{.metadata.annotations.kubernetes\.io/config\.mirror}|'
POD_FIELDS+='{.metadata.annotations.cluster-autoscaler\.kubernetes\.io/safe-to-evict}|'
POD_FIELDS+='{.metadata.annotations.karpenter\.sh/do-not-disrupt}|{.spec.priorityClassName}|{.spec.tolerations}{"\n"}{end}'

tolerates_cordon() { # tolerations as JSON: a pod that has one of these comes back to a cordoned Node for ever
  local one
  while read -r one; do
    case $one in *'"effect":"NoExecute"'* | *'"effect":"PreferNoSchedule"'*) continue ;; esac
    case $one in
      *'"key":"node.kubernetes.io/unschedulable"'*) return 0 ;;
      *'"key":'*) ;;
      *'"operator":"Exists"'*) return 0 ;;
    esac
  done <<<"${1//\},/$'\n'}"
  return 1
}

read_pods() { # the pods that a drain would move, by what stands against it; false with $COMPLAINT
  local title phase controller ending mirror safe keep class tolerations
  BARE_PODS=() CRITICAL_PODS=() KEPT_PODS=() MOVABLE=0 ENDING=0 STAYING=0
  ask get pods --all-namespaces --field-selector "spec.nodeName=$NODE" -o "jsonpath=$POD_FIELDS" --request-timeout="${CALL_S}s" || return 1
  while IFS='|' read -r title phase controller ending mirror safe keep class tolerations; do
    # Static and DaemonSet pods go with their Node, finished ones are gone already.
    if [ -z "$title" ] || [ -n "$mirror" ] || [ "$controller" = DaemonSet ] || [[ $phase =~ ^(Succeeded|Failed)$ ]]; then continue; fi
    # What is on its way out heals by itself: it is waited for, and no rule asks about it.
    if [ -n "$ending" ]; then ENDING=$((ENDING + 1)); continue; fi
    MOVABLE=$((MOVABLE + 1))
    if tolerates_cordon "$tolerations"; then STAYING=$((STAYING + 1)); fi
    # An owner that is no controller starts no other pod (kubectl judges as well by the controller).
    if [ -z "$controller" ]; then BARE_PODS+=("$title"); fi
    if [ "$safe" = false ] || [ "$keep" = true ]; then KEPT_PODS+=("$title"); fi
    if [[ $class =~ ^system-(node|cluster)-critical$ ]]; then CRITICAL_PODS+=("$title"); fi
  done <<<"$ANSWER"
  if [ "${#BARE_PODS[@]}" -gt 0 ] || [ "${#KEPT_PODS[@]}" -gt 0 ]; then leave_out_ending_namespaces; fi
}

leave_out_ending_namespaces() { # their pods are being deleted, whatever they ask for
  local pod list staying
  ask get namespaces --field-selector status.phase=Terminating -o 'jsonpath={.items[*].metadata.name}' --request-timeout="${CALL_S}s" || return 1
  for list in BARE_PODS KEPT_PODS; do
    local -n pods=$list
    staying=()
    for pod in "${pods[@]}"; do
      if [[ " $ANSWER " != *" ${pod%%/*} "* ]]; then staying+=("$pod"); fi
    done
    pods=("${staying[@]}")
  done
}

against_pods() { # RULE and WHY of the first pod that stands against a drain; false where none does
  if [ "${#BARE_PODS[@]}" -gt 0 ]; then
    RULE=bare-pod WHY="The pod ${BARE_PODS[0]} has no controller: nothing would start it again."
  elif [ "${#KEPT_PODS[@]}" -gt 0 ]; then
    RULE=do-not-evict WHY="The pod ${KEPT_PODS[0]} asks not to be evicted."
  else
    return 1
  fi
}

check_pods() {
  read_pods || give_up "The pods could not be listed"
  if against_pods; then refuse "$RULE" "$WHY"; fi
}

# ------------------------------------------------------------------------------------------------------- inspection

# A kubelet writes its own Node: what it may have chosen is taken as JSON, in which a line break or a quote is escaped,
# and is searched for with the quotes around it. \x1f parts the fields: JSON escapes it too, and `read` keeps empty ones.
NODES_FIELDS='{range .items[*]}{.metadata.name}{"\x1f"}{.metadata.uid}{"\x1f"}{.metadata.creationTimestamp}{"\x1f"}{.spec}{"\x1f"}'
NODES_FIELDS+='{.metadata.labels}{"\x1f"}{.metadata.annotations}{"\x1f"}{.status.conditions[?(@.type=="Ready")]}{"\n"}{end}'

members() { # names; objects as JSON, one a line: the text of these members of each, parted by |; none holds a quote
  awk -v names="$*" '
    function member(name,    at, text) {
      at = index($0, "\"" name "\":\"")
      if (!at) return ""
      text = substr($0, at + length(name) + 4, 2000)
      return substr(text, 1, index(text, "\"") - 1)
    }
    { count = split(names, name, " ")
      for (i = 1; i <= count; i++) printf "%s%s", member(name[i]), i < count ? "|" : "\n" }
  '
}

member() { # JSON object, name
  members "$2" <<<"$1"
}

json_list() { # how many at most, words: a JSON list
  local most=$1 list="" word
  shift
  for word in "${@:1:most}"; do list+=",\"$(json_text "$word")\""; done
  printf '[%s]' "${list#,}"
}

json_pods() { # words: their number and the first names
  printf '{"count":%d,"names":%s}' "$#" "$(json_list "$NAMES_KEPT" "$@")"
}

epoch() { # a time of the API; null where there is none
  { [ -n "$1" ] && date -d "$1" +%s 2>/dev/null; } || printf null
}

taints_of() { # a Node's spec: the first ten as key=value:Effect
  local key value effect
  while IFS='|' read -r key value effect; do
    if [ -n "$value" ]; then key+="=$value"; fi
    printf '%s:%s\n' "$key" "$effect"
  done < <(grep -o '"taints":\[[^]]*' <<<"$1" | cut -c1-20000 | sed 's/},{/}\n{/g' | members key value effect | head -n 10)
}

# An agent that did not take the provider-id that we gave it registers with K3s' own (k3s://name), or with none, and its
# machine runs pods all the same. A name with the instance id tells whose it is; our label without any id, that it may be
# anybody's. A Node with neither is not ours. An instance id is unique: with another zone before it it is this machine too.
refuse_unless_absent() { # ends where a Node of the list in $ANSWER may be this machine's all the same
  local name spec labels id=${PROVIDER_ID##*/}
  while IFS=$'\x1f' read -r name _ _ spec labels _; do
    if [[ $spec == *"/$id\""* ]]; then
      refuse identity "The Node $name carries another provider-id of this machine, not $PROVIDER_ID."
    fi
    if [[ $spec == *'"providerID":"aws:'* ]]; then continue; fi
    if [[ $name == *"$id"* || ($labels == *"\"$PREFIX/managed\":\"true\""* && ! $name =~ i-[0-9a-f]{8}) ]]; then
      refuse identity "The Node $name has no EC2 provider-id and may be this machine, $PROVIDER_ID."
    fi
  done <<<"$ANSWER"
}

find_by_provider_id() { # NODE and its row in FOUND; ends where there is none, or more than one
  local count
  ask get nodes -o "jsonpath=$NODES_FIELDS" --request-timeout="${CALL_S}s" || give_up "The Nodes could not be listed"
  if [ -z "$ANSWER" ]; then finish api_unreachable "" "The API server shows no Node at all: that proves nothing."; fi
  FOUND=$(grep -F "\"providerID\":\"$PROVIDER_ID\"" <<<"$ANSWER")
  count=$(grep -c . <<<"$FOUND")
  if [ "$count" -eq 0 ]; then
    refuse_unless_absent
    finish no_such_node "" "No Node carries the provider-id $PROVIDER_ID."
  fi
  if [ "$count" -gt 1 ]; then refuse identity "$count Nodes carry the provider-id $PROVIDER_ID: $(cut -d $'\x1f' -f 1 <<<"$FOUND" | tr '\n' ' ')"; fi
  NODE=${FOUND%%$'\x1f'*}
}

inspect() {
  local uid created spec labels annotations ready condition since cordon=none taints operation fence
  find_by_provider_id
  IFS=$'\x1f' read -r _ uid created spec labels annotations condition <<<"$FOUND"
  if runs_control_plane "$labels"; then refuse control-plane "The Node $NODE runs the control plane."; fi
  read_volumes || give_up "The volumes could not be listed"
  read_pods || give_up "The pods could not be listed"
  ready=false
  if [[ $condition == *'"status":"True"'* ]]; then ready=true; fi
  since=$(epoch "$(member "$condition" lastTransitionTime)")
  operation=$(member "$annotations" "$PREFIX/operation")
  fence=$(member "$annotations" "$PREFIX/fence")
  if ! [[ $fence =~ ^(0|[1-9][0-9]{0,14})$ ]]; then fence=0; fi
  if [[ $spec == *'"unschedulable":true'* ]]; then cordon=other; fi
  if [ "$cordon" = other ] && [ -n "$operation" ]; then cordon=ours; fi
  mapfile -t taints < <(taints_of "$spec")
  INSPECTION=$(printf '{"node":"%s","uid":"%s","created_at_s":%s,"ready":%s,"ready_since_s":%s,' \
    "$(json_text "$NODE")" "$(json_text "$uid")" "$(epoch "$created")" "$ready" "$since")
  INSPECTION+=$(printf '"cordon":"%s","operation":"%s","fence":%s,' "$cordon" "$(json_text "$operation")" "$fence")
  INSPECTION+=$(printf '"taints":%s,"local_volumes":{"count":%d,"names":%s},' \
    "$(json_list 10 "${taints[@]}")" "${#LOCAL_VOLUMES[@]}" "$(json_list 10 "${LOCAL_VOLUMES[@]}")")
  INSPECTION+=$(printf '"bare_pods":%s,"critical_pods":%s,"do_not_evict_pods":%s,"movable_pods":%d,"ending_pods":%d}' \
    "$(json_pods "${BARE_PODS[@]}")" "$(json_pods "${CRITICAL_PODS[@]}")" "$(json_pods "${KEPT_PODS[@]}")" "$MOVABLE" "$ENDING")
  finish succeeded "" "The Node $NODE: ready=$ready cordon=$cordon movable-pods=$MOVABLE local-volumes=${#LOCAL_VOLUMES[@]}"
}
