#!/bin/bash
# What the scheduler asks, by pod owner: the verb `rules`. node-command.sh reads this in. It only looks, and at no Node in
# particular: no fence, no lock, no stored result. docs/node-commands.md ("Rules") is the form of its answer.
#
# What stands in a field goes through untouched, as the API server writes it: whoever reads the answer judges it. Only
# what no rule needs is left out, so that pods of one owner share a line and the whole fits into one result.

RULES_S=${NODE_COMMAND_RULES_S:-20} # for the whole verb
RULES_ROOM=${NODE_COMMAND_RULES_ROOM:-23600} # characters of the packed answer: SSM keeps 24,000 of the output
RULES_WORDS=3                       # of each owner's waiting pods, of so many the scheduler's words are told
RULES=""

# A record begins and ends with a word that nobody can know before: some of these fields may hold any text, a line break
# too, and must not pass for another pod's. Values that are objects come as JSON, which escapes both.
F='{"\x1f"}' D='{"\x1d"}' E='{"\x1e"}'

containers_of() { # path of a list of containers
  printf '%s' "{range $1[*]}{.name}$D{.resources.requests}$D{.resources.limits}$D{.ports}$D{.restartPolicy}$E{end}"
}

spec_of() { # path of a pod's spec: 19 fields
  local required=requiredDuringSchedulingIgnoredDuringExecution
  printf '%s' "{$1.nodeSelector}$F{$1.affinity.nodeAffinity.$required}$F{$1.affinity.podAffinity.$required}$F"
  printf '%s' "{$1.affinity.podAntiAffinity.$required}$F{$1.tolerations}$F{$1.topologySpreadConstraints}$F"
  printf '%s' "$(containers_of "$1.containers")$F$(containers_of "$1.initContainers")$F"
  printf '%s' "{$1.resources.requests}$F{$1.resources.limits}$F{$1.overhead}$F{$1.hostNetwork}$F{$1.schedulerName}$F"
  printf '%s' "{$1.priority}$F{$1.preemptionPolicy}$F{$1.resourceClaims}$F"
  printf '%s' "{range $1.volumes[?(@.persistentVolumeClaim)]}{.persistentVolumeClaim}$E{end}$F"
  printf '%s' "{range $1.volumes[?(@.ephemeral)]}{\"\\\"ephemeral\\\":\"}{.name}$E{end}$F{$1.nodeName}"
}

pod_records() { # the word that parts records
  local held="{.name}$D{.allocatedResources}$D{.resources.requests}$E"
  printf '%s' "{range .items[*]}$1${F}pod$F{.metadata.namespace}$F{.metadata.name}$F"
  printf '%s' "{.metadata.ownerReferences[?(@.controller==true)]}$F{.metadata.labels}$F$(spec_of .spec)$F"
  printf '%s' "{.metadata.deletionTimestamp}$F{.status.nominatedNodeName}$F"
  printf '%s' "{.status.conditions[?(@.type==\"PodScheduled\")]}$F{.status.conditions[?(@.type==\"PodResizePending\")]}$F"
  printf '%s' "{range .status.containerStatuses[*]}$held{end}$F{range .status.initContainerStatuses[*]}$held{end}$F$1"
  printf '%s' '{"\n"}{end}'
}

cluster_records() { # the word that parts records
  printf '%s' "{range .items[?(@.kind==\"Node\")]}$1${F}node$F{.metadata.name}$F{.metadata.labels}$F{.spec.taints}$F"
  printf '%s' "{.spec.unschedulable}$F{.status.allocatable}$F$1{\"\\n\"}{end}"
  printf '%s' "{range .items[?(@.kind==\"Namespace\")]}$1${F}namespace$F{.metadata.name}$F{.metadata.labels}$F$1{\"\\n\"}{end}"
  printf '%s' "{range .items[?(@.kind==\"PodDisruptionBudget\")]}$1${F}budget$F{.metadata.namespace}$F{.metadata.name}$F"
  printf '%s' "{.spec.selector}$F{.status.disruptionsAllowed}$F$1{\"\\n\"}{end}"
  printf '%s' "{range .items[?(@.kind==\"DaemonSet\")]}$1${F}daemon$F{.metadata.namespace}$F{.metadata.name}$F$F"
  printf '%s' "{.spec.template.metadata.labels}$F$(spec_of .spec.template.spec)$F$1{\"\\n\"}{end}"
}

storage_records() { # the word that parts records
  printf '%s' "{range .items[?(@.kind==\"PersistentVolumeClaim\")]}$1${F}claim$F{.metadata.namespace}$F{.metadata.name}$F"
  printf '%s' "{.spec.volumeName}$F{.spec.storageClassName}$F{.spec}$F$1{\"\\n\"}{end}"
  printf '%s' "{range .items[?(@.kind==\"PersistentVolume\")]}$1${F}volume$F{.metadata.name}$F{.metadata.labels}$F"
  printf '%s' "{.spec.capacity}$F{.spec.accessModes}$F{.spec.storageClassName}$F{.spec.volumeMode}$F{.spec.nodeAffinity}$F"
  printf '%s' "{.spec.claimRef.namespace}$F{.spec.claimRef.name}$F{.status.phase}$F$1{\"\\n\"}{end}"
  printf '%s' "{range .items[?(@.kind==\"StorageClass\")]}$1${F}class$F{.metadata.name}$F{.provisioner}$F"
  printf '%s' "{.volumeBindingMode}$F{.allowedTopologies}$F$1{\"\\n\"}{end}"
}

# Prints the lines of the answer, from what matters most to what may be cut off first: what waiting owners ask, then what
# a new worker has to carry, then the rest. What one uses stands before it. Fields have these numbers:
#   pod, daemon  3 namespace, 4 name, 5 controller, 6 labels, 7-25 as in spec_of; pod: 26 deletion, 27 nominated Node,
#                28 PodScheduled, 29 PodResizePending, 30 and 31 container statuses
rules_lines() { # word, files of records: of the cluster, of storage, of pods
  LC_ALL=C awk -F '\037' -v word="$1" -v most_words="$RULES_WORDS" -v hidden="$SCRATCH/hidden" '
  BEGIN {
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    per_pods = split("statefulset.kubernetes.io/pod-name apps.kubernetes.io/pod-index " \
      "batch.kubernetes.io/job-completion-index batch.kubernetes.io/controller-uid controller-uid", per_pod, " ")
    width["pod"] = 32; width["daemon"] = 26; width["node"] = 8; width["namespace"] = 5; width["budget"] = 7
    width["claim"] = 8; width["volume"] = 13; width["class"] = 7
  }

  function quoted(text,    at, out) { # as JSON; nothing where there is none
    if (text == "") return ""
    gsub(/[\001-\037]/, " ", text)
    while ((at = match(text, /["\\]/))) {
      out = out substr(text, 1, at - 1) "\\" substr(text, at, 1)
      text = substr(text, at + 1)
    }
    return "\"" out text "\""
  }
  function string(json, name) { # a member of a flat object, without its quotes and still escaped
    if (!match(json, "\"" name "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
    return substr(json, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
  }
  function member(name, json) { return json == "" ? "" : ",\"" name "\":" json }
  function object(members) { return members == "" ? "" : "{" substr(members, 2) "}" }
  function whole(members) { return "{" substr(members, 2) "}" }
  function list(items) { return items == "" ? "" : "[" substr(items, 2) "]" }

  function owner_key(namespace, name, controller) {
    if (controller == "") return namespace "/Pod/" name
    return namespace "/" string(controller, "kind") "/" string(controller, "name")
  }
  # Labels of which each pod of an owner has its own value say nothing of the owner, unless something selects by them.
  function note_selected(text,    i) {
    for (i = 1; i <= per_pods; i++) if (index(text, "\"" per_pod[i] "\"")) selected[per_pod[i]] = 1
    if (index(text, "\"namespaceSelector\"")) selects_namespaces = 1
  }
  function labels_of_all(labels,    i, at, rest) {
    for (i = 1; i <= per_pods; i++) {
      if (per_pod[i] in selected || !(at = index(labels, "\"" per_pod[i] "\":\""))) continue
      rest = substr(labels, at + length(per_pod[i]) + 4)
      labels = substr(labels, 1, at - 1) substr(rest, index(rest, "\"") + 1)
      sub(/\{,/, "{", labels); sub(/,,/, ",", labels); sub(/,\}/, "}", labels)
    }
    return labels == "{}" ? "" : labels
  }

  function containers(text, daemon,    n, i, one, part, resources, ports, items) {
    n = split(text, one, "\036")
    for (i = 1; i < n; i++) {
      split(one[i], part, "\035")
      resources = object(member("requests", part[2]) (daemon ? member("limits", part[3]) : ""))
      ports = (daemon && $18 == "true") || index(part[4], "\"hostPort\":") ? part[4] : ""
      items = items "," whole((resizing ? member("name", quoted(part[1])) : "") member("resources", resources) \
        member("ports", ports) (part[5] == "Always" ? ",\"restartPolicy\":\"Always\"" : ""))
    }
    return list(items)
  }
  function held(text,    n, i, one, part, items) {
    n = split(text, one, "\036")
    for (i = 1; i < n; i++) {
      split(one[i], part, "\035")
      items = items "," whole(member("name", quoted(part[1])) member("allocatedResources", part[2]) \
        member("resources", object(member("requests", part[3]))))
    }
    return list(items)
  }
  function is_resizing(    n, i, one, part, asked) { # what a container was given, or holds, is not what it asks
    if ($29 != "") return 1
    n = split($13 $14, one, "\036")
    for (i = 1; i < n; i++) { split(one[i], part, "\035"); asked[part[1]] = part[2] }
    n = split($30 $31, one, "\036")
    for (i = 1; i < n; i++) {
      split(one[i], part, "\035")
      if ((part[2] != "" && part[2] != asked[part[1]]) || (part[3] != "" && part[3] != asked[part[1]])) return 1
    }
    return 0
  }
  function volumes(    n, i, one, claim_name, items) { # USES: the names of its claims
    USES = ""
    n = split($23 $24, one, "\036")
    for (i = 1; i < n; i++) {
      # The claim of an ephemeral volume is named after pod and volume.
      claim_name = sub(/^"ephemeral":/, "", one[i]) ? $4 "-" one[i] : string(one[i], "claimName")
      items = items ",{\"persistentVolumeClaim\":{\"claimName\":\"" claim_name "\"}}"
      USES = USES "\036" claim_name
    }
    return list(items)
  }
  function body(daemon,    affinity, spec, status) {
    resizing = !daemon && is_resizing()
    affinity = member("nodeAffinity", object(member(required, $8))) \
      member("podAffinity", object(member(required, $9))) member("podAntiAffinity", object(member(required, $10)))
    spec = member("nodeSelector", $7) member("affinity", object(affinity)) member("tolerations", $11) \
      member("topologySpreadConstraints", $12) member("containers", containers($13, daemon)) \
      member("initContainers", containers($14, daemon)) \
      member("resources", object(member("requests", $15) (daemon ? member("limits", $16) : ""))) \
      member("overhead", $17) (daemon ? member("hostNetwork", $18) : "") \
      ($19 == "default-scheduler" ? "" : member("schedulerName", quoted($19))) ($20 == "0" ? "" : member("priority", $20)) \
      ($21 == "Never" ? member("preemptionPolicy", quoted($21)) : "") member("resourceClaims", $22) \
      member("volumes", volumes()) (daemon ? member("nodeName", quoted($25)) : "")
    if (resizing) status = member("conditions", $29 == "" ? "" : "[" $29 "]") \
      member("containerStatuses", held($30)) member("initContainerStatuses", held($31))
    return whole(member("metadata", object(member("labels", labels_of_all($6)))) ",\"spec\":" whole(spec) \
      member("status", object(status)))
  }

  function put(section, text) { line[section, ++lines[section]] = text }
  function put_volume(section, name) {
    if (!(name in volume) || name in shown_volume) return
    shown_volume[name] = 1
    put(section, "volume\t" name "\t\t" volume[name])
  }
  function put_claims(section, namespace, used,    n, i, m, j, one, free, key, from) {
    n = split(used, one, "\036")
    for (i = 2; i <= n; i++) {
      key = namespace "/" one[i]
      if (!(key in claim) || key in shown_claim) continue
      shown_claim[key] = 1
      from = class_of[key]
      if (volume_of[key] != "") {
        put_volume(section, volume_of[key])
      } else if (from in class && !(from in shown_class)) {
        shown_class[from] = 1
        put(section, "class\t" from "\t\t" class[from])
        m = split(free_of[from], free, " ")
        for (j = 1; j <= m; j++) put_volume(section, free[j])
      }
      put(section, "claim\t" key "\t\t" claim[key])
    }
  }
  function put_owners(section, which,    i) {
    for (i = 1; i <= owners; i++) {
      if ((i in waits) != which) continue
      put_claims(section, namespace_of[i], uses_of[i])
      put(section, "owner\t" key_of[i] "\t" (variants[key_of[i]] > 1 ? substr(pods_of[i], 2) : "") "\t" json_of[i])
    }
  }
  function put_word(key, nominated, condition,    message) {
    if (nominated == "" && ++told[key] > most_words) { hidden_words++; return }
    message = string(condition, "message")
    # Cut between two words: so it is within no character and no escape.
    if (length(message) > 300) { message = substr(message, 1, 300); if (!sub(/ [^ ]*$/, " ...", message)) message = "" }
    put("words", "waiting\t" $3 "/" $4 "\t\t" whole(member("nominatedNodeName", quoted(nominated)) \
      (message == "" ? "" : ",\"message\":\"" message "\"")))
  }
  function put_unreadable(key) {
    if (!(key in unreadable)) put("waiting", "unreadable\t" key "\t\ta field holds a line break or a control character")
    unreadable[key] = 1
  }
  function print_section(section,    i) { for (i = 1; i <= lines[section]; i++) print line[section, i] }

  $1 != word { next } # the rest of a record that a line break tore
  NF != width[$2] || $NF != word {
    if (pass == 1) next
    if ($2 == "claim") claim[$3 "/" $4] = "?"
    else put_unreadable($2 == "pod" ? owner_key($3, $4, $5) : $2 == "daemon" ? $3 "/DaemonSet/" $4 : $2 " " $3)
    next
  }
  pass == 1 { note_selected($2 == "budget" ? $5 : $9 $10 $12); next }
  $2 == "claim" {
    claim[$3 "/" $4] = whole(member("spec", $7)); volume_of[$3 "/" $4] = $5; class_of[$3 "/" $4] = $6
  }
  $2 == "class" {
    class[$3] = whole(member("provisioner", quoted($4)) member("volumeBindingMode", quoted($5)) \
      member("allowedTopologies", $6))
  }
  $2 == "volume" {
    if ($12 == "Available") free_of[$7] = free_of[$7] " " $3
    volume[$3] = whole(member("metadata", object(member("labels", $4))) ",\"spec\":" whole(member("capacity", $5) \
      member("accessModes", $6) member("storageClassName", quoted($7)) member("volumeMode", quoted($8)) \
      member("nodeAffinity", $9) member("claimRef", object(member("namespace", quoted($10)) member("name", quoted($11))))) \
      member("status", object(member("phase", quoted($12)))))
  }
  $2 == "node" { # Nodes that differ by their name alone share a line
    while ((at = index($4, ":\"" $3 "\""))) $4 = substr($4, 1, at) "\"$\"" substr($4, at + length($3) + 3)
    gsub(/,"timeAdded":"[^"]*"/, "", $5)
    json = whole(member("metadata", object(member("labels", $4))) \
      member("spec", object(member("taints", $5) member("unschedulable", $6))) \
      member("status", object(member("allocatable", $7))))
    if (!(json in names)) node_line[++node_lines] = json
    names[json] = names[json] "," $3
  }
  $2 == "namespace" { put("namespaces", "namespace\t" $3 "\t\t" ($4 == "" ? "{}" : $4)) }
  $2 == "budget" {
    put("budgets", "budget\t" $3 "/" $4 "\t\t" whole(member("spec", object(member("selector", $5))) \
      member("status", object(member("disruptionsAllowed", $6)))))
  }
  $2 == "daemon" {
    template[++daemons] = "daemon\t" $3 "/DaemonSet/" $4 "\t\t" body(1)
    template_in[daemons] = $3; template_uses[daemons] = USES
  }
  $2 == "pod" {
    key = owner_key($3, $4, $5)
    waiting = $25 == "" && $26 == ""
    if (waiting) put_word(key, $27, $28)
    # Their template is told instead: the pods themselves ask for one Node each.
    if (index($5, "\"kind\":\"DaemonSet\"") && index($5, "\"apiVersion\":\"apps/v1\"")) next
    json = body(0)
    if (!((key, json) in known)) {
      known[key, json] = ++owners
      key_of[owners] = key; json_of[owners] = json; namespace_of[owners] = $3; uses_of[owners] = USES
      variants[key]++
    }
    at = known[key, json]
    pods_of[at] = pods_of[at] "," $4
    if (waiting) waits[at] = 1
  }
  END {
    put_owners("waiting", 1)
    for (i = 1; i <= daemons; i++) { put_claims("daemons", template_in[i], template_uses[i]); put("daemons", template[i]) }
    for (i = 1; i <= node_lines; i++) put("nodes", "node\t\t" substr(names[node_line[i]], 2) "\t" node_line[i])
    put_owners("running", 0)
    print_section("waiting"); print_section("daemons"); print_section("nodes"); print_section("budgets")
    if (selects_namespaces) print_section("namespaces")
    print_section("words"); print_section("running")
    if (!selects_namespaces) print_section("namespaces")
    print hidden_words + 0 >hidden
  }
  ' pass=1 "$2" "$4" pass=2 "$3" "$2" "$4"
}

rules_packed() { # file of lines, how many of them: as base64 of gzip, below the header that counts
  awk -F '\t' -v most="$2" -v hidden="$(cat "$SCRATCH/hidden")" '
    function counts(of,    kind, text) {
      for (kind in of) if (of[kind]) text = text ",\"" kind "\":" of[kind]
      return "{" substr(text, 2) "}"
    }
    BEGIN { left_out["waiting"] = hidden; shown["owner"] = 0 }
    NR > most { left_out[$1]++; next }
    { shown[$1]++; line[NR] = $0 }
    END {
      print "rules\t1\t\t{\"shown\":" counts(shown) ",\"left_out\":" counts(left_out) "}"
      for (i = 1; i in line; i++) print line[i]
    }
  ' "$1" | gzip -9n | base64 -w 0
}

pack_rules() { # file of lines: RULES, of as many of them as there is room for
  local fits=0 too_many middle packed
  RULES=$(rules_packed "$1" 0)
  middle=$(wc -l <"$1") too_many=$((middle + 1))
  while [ $((too_many - fits)) -gt 1 ]; do
    packed=$(rules_packed "$1" "$middle")
    if [ "${#packed}" -le "$RULES_ROOM" ]; then fits=$middle RULES=$packed; else too_many=$middle; fi
    middle=$(((fits + too_many) / 2))
  done
  RULES_SHOWN=$fits RULES_LINES=$(wc -l <"$1")
}

rules_member() { # of the result line; nothing for other verbs
  if [ -n "$RULES" ]; then printf ',"rules":"%s"' "$RULES"; fi
}

# ------------------------------------------------------------------------------------------------------------------ ask

list_records() { # what, file, kubectl arguments: ends where no whole answer comes in the time that is left
  local what=$1 file=$2
  shift 2
  CALL_S=$((RULES_UNTIL - SECONDS))
  if [ "$CALL_S" -le 0 ]; then finish api_unreachable "" "$what could not be listed within $RULES_S s."; fi
  ask_into "$file" get "$@" --all-namespaces --request-timeout="${CALL_S}s" || give_up "$what could not be listed"
}

rules() {
  local word pods="$SCRATCH/pods" cluster="$SCRATCH/cluster" storage="$SCRATCH/storage"
  RULES_UNTIL=$((SECONDS + RULES_S))
  word=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  list_records "The pods" "$pods" pods --field-selector 'status.phase!=Succeeded,status.phase!=Failed' \
    -o "jsonpath=$(pod_records "$word")"
  list_records "Nodes, DaemonSets, budgets and namespaces" "$cluster" \
    nodes,namespaces,daemonsets.apps,poddisruptionbudgets.policy -o "jsonpath=$(cluster_records "$word")"
  : >"$storage"
  if grep -qE '"(claimName|ephemeral)":' "$pods" "$cluster"; then
    list_records "Claims, volumes and storage classes" "$storage" \
      persistentvolumeclaims,persistentvolumes,storageclasses.storage.k8s.io -o "jsonpath=$(storage_records "$word")"
  fi
  rules_lines "$word" "$cluster" "$storage" "$pods" >"$SCRATCH/lines" || finish failed "" "The rules could not be put together."
  pack_rules "$SCRATCH/lines"
  finish succeeded "" "$RULES_SHOWN of $RULES_LINES lines about $(grep -c "^$word" "$pods") pods."
}
