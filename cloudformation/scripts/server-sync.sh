#!/bin/bash
# Every minute on a K3s server, by a systemd timer: publish how workers join, renew their token, keep the manifests, the
# add-ons' place and Alertmanager's credentials as they should be. docs/cluster.md tells it from outside.
#
# Each step looks first and changes only what differs, so that a quiet minute writes nothing, neither to the cluster nor
# to the journal. A step that fails says one line and stops no other; the next minute tries again. The exit code is 1
# when a step failed. Secrets go through files and pipes, never through an argument that `ps` shows.
#
# It is part of the bundle (/k3s/<cluster>/bundle) and replaces itself with it. It needs bash, coreutils, tar and the
# AWS CLI; no jq, no python. CLUSTER_ID, REGION, SERVER_URL, NODE_NAME, PROVIDER_ID: /etc/k3s-autoscaler/server.env.
# `server-sync.sh install` writes its own systemd units and starts the timer.
set -u -o pipefail
umask 077
export HOME=${HOME:-/root}

# Overridden by tests only.
ROOT=${SYNC_ROOT:-}
read -r -a K3S <<<"${SYNC_K3S:-/usr/local/bin/k3s}"
NOW=${SYNC_NOW:-$(date +%s)}
CALL_S=${SYNC_CALL_S:-30}

MANIFESTS=$ROOT/var/lib/rancher/k3s/server/manifests/k3s-autoscaler
STATE=$ROOT/var/lib/rancher/k3s-autoscaler/sync   # on the volume that outlives the machine
SELF=$ROOT/usr/local/lib/k3s-autoscaler/server-sync.sh
PREFIX=/k3s/${CLUSTER_ID:-}
TOKEN_TTL_S=86400
ADD_ONS=(coredns metrics-server local-path-provisioner)
FAILED=0

say() { printf '%s\n' "$*"; }
failed() { say "$*"; FAILED=1; }
one_line() { tail -n 3 "$SCRATCH/complaint" | tr '\n' ' ' | cut -c1-400; }
say_once() { # name, text: where it differs from what was said last under this name; waiting is told once
  if [ "$(cat "$STATE/said-$1" 2>/dev/null)" != "$2" ]; then
    if [ -n "$2" ]; then say "$2"; fi
    printf '%s\n' "$2" >"$STATE/said-$1"
  fi
}

run() { timeout --kill-after=5 "$CALL_S" "$@" 2>"$SCRATCH/complaint"; }
kubectl() { run "${K3S[@]}" kubectl "$@"; }

# ---------------------------------------------------------------------------------------------------- what stands there

declare -A STANDS
read_parameters() { # one call for all: STANDS[name]; what does not exist is not in it
  local names=(bundle-info server-url version ca-hash agent-token webhook-url webhook-token) lines name value
  lines=$(run aws ssm get-parameters --region "$REGION" --with-decryption --output text \
    --query 'Parameters[].[Name,Value]' --names "${names[@]/#/$PREFIX/}") || return
  # Of a value with several lines, as webhook-token may have, only the first stands behind its name.
  while IFS=$'\t' read -r name value; do
    if [[ $name == "$PREFIX"/* ]]; then STANDS[${name#"$PREFIX"/}]=$value; fi
  done <<<"$lines"
}

publish() { # name, value, type: unless it stands there; the value goes through a file
  if [ "${STANDS[$1]-}" = "$2" ]; then return; fi
  printf %s "$2" >"$SCRATCH/value"
  if run aws ssm put-parameter --region "$REGION" --overwrite --type "$3" --name "$PREFIX/$1" \
    --value "file://$SCRATCH/value" >/dev/null; then
    say "$PREFIX/$1 is published"
  else
    failed "$PREFIX/$1 could not be published: $(one_line)"
    return 1
  fi
}

# ------------------------------------------------------------------------------------------------------------ the steps

fetch_bundle() { # count: the text into $SCRATCH/bundle
  local index
  : >"$SCRATCH/bundle"
  for ((index = 0; index < $1; index++)); do
    run aws ssm get-parameter --region "$REGION" --query Parameter.Value --output text \
      --name "$(printf '%s/bundle/%02d' "$PREFIX" "$index")" >"$SCRATCH/piece" || return
    tr -d '\n' <"$SCRATCH/piece" >>"$SCRATCH/bundle"
  done
}

sync_bundle() {
  local info=${STANDS[bundle-info]-} count digest
  if [ -z "$info" ] || [ "$info" = "$(cat "$STATE/bundle-info" 2>/dev/null)" ]; then return; fi
  read -r count digest <<<"$info"
  if ! [[ $count =~ ^[1-9][0-9]?$ && $digest =~ ^[0-9a-f]{64}$ ]]; then
    failed "$PREFIX/bundle-info is \"$info\", not a number of pieces and a SHA-256"
    return
  fi
  if ! fetch_bundle "$count"; then
    failed "the bundle could not be fetched: $(one_line)"
    return
  fi
  # A deployment that is under way has changed some of the pieces only. The next minute sees them all.
  if [ "$(sha256sum <"$SCRATCH/bundle" | cut -d' ' -f1)" != "$digest" ]; then
    failed "the pieces of the bundle do not have the SHA-256 of $PREFIX/bundle-info: a deployment is under way or broke off"
    return
  fi
  # --touch: K3s compares times of change to see a change, and all times in the bundle are the same.
  rm -rf "$STATE/new" && mkdir -p "$STATE/new"
  if ! base64 --decode "$SCRATCH/bundle" |
    tar -xz --touch --no-same-owner --directory "$STATE/new" 2>"$SCRATCH/complaint"; then
    failed "the bundle could not be unpacked: $(one_line)"
    return
  fi
  if install_bundle; then
    printf '%s\n' "$info" >"$STATE/bundle-info"
    say "the bundle $digest is installed"
  else
    failed "the bundle could not be installed: $(one_line)"
  fi
}

install_bundle() { # file by file: $STATE/new is on the volume of the manifests, so that each appears whole
  local path name
  {
    mkdir -p "$MANIFESTS" &&
      for path in "$STATE"/new/manifests/*.yaml; do
        name=${path##*/}
        if ! cmp --quiet "$path" "$MANIFESTS/$name"; then mv "$path" "$MANIFESTS/$name" || return; fi
      done
    # K3s removes the objects of a manifest that became empty, and forgets nothing of one that is gone.
    for path in "$MANIFESTS"/*.yaml; do
      name=${path##*/}
      if ! grep -qxF "manifests/$name" <<<"$(listed)" && [ "$(cat "$path")" != "$REMOVED" ]; then
        printf '%s\n' "$REMOVED" >"$STATE/removed.new" && mv "$STATE/removed.new" "$path" || return
      fi
    done
    if [ -f "$STATE/new/server-sync.sh" ] && ! cmp --quiet "$STATE/new/server-sync.sh" "$SELF"; then
      cp "$STATE/new/server-sync.sh" "$SELF.new" && chmod 755 "$SELF.new" && mv "$SELF.new" "$SELF" || return
    fi
  } 2>"$SCRATCH/complaint"
}
REMOVED="# Removed from the bundle: K3s removes what stood here."
listed() { base64 --decode "$SCRATCH/bundle" | tar -tz; }

sync_join() {
  local answer version=""
  publish server-url "$SERVER_URL" String
  # Of the server that runs, not of the binary that its next start takes.
  if answer=$(kubectl get --raw /version); then
    version=$(sed -n 's/.*"gitVersion": *"\([^"]*\)".*/\1/p' <<<"$answer")
  fi
  if [ -n "$version" ]; then
    publish version "$version" String
  else
    failed "the API server did not tell its version: $(one_line)"
  fi
}

sync_token() { # anew at half of its life, and where another one stands; the CA's hash is a part of it
  local made_at ours stands=${STANDS[agent-token]-} token
  made_at=$(cat "$STATE/agent-token.made-at" 2>/dev/null || echo 0)
  ours=$(cat "$STATE/agent-token.sha256" 2>/dev/null)
  if [ "$ours" = "$(printf %s "$stands" | sha256sum)" ] && [ $((NOW - made_at)) -lt $((TOKEN_TTL_S / 2)) ]; then
    publish ca-hash "$(ca_hash "$stands")" String
    return
  fi
  token=$(run "${K3S[@]}" token create --ttl "$((TOKEN_TTL_S / 3600))h" --description "workers, by k3s-autoscaler") ||
    { failed "no token could be created: $(one_line)"; return; }
  if ! [[ $token =~ ^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}$ ]]; then
    failed "k3s token create printed something else than a token"
    return
  fi
  # The hash first: a worker that reads between the two refuses to trust, and does not trust wrongly.
  publish ca-hash "$(ca_hash "$token")" String || return
  publish agent-token "$token" SecureString || return
  printf %s "$token" | sha256sum >"$STATE/agent-token.sha256"
  printf '%s\n' "$NOW" >"$STATE/agent-token.made-at"
}
ca_hash() { local rest=${1#K10}; printf %s "${rest%%::*}"; }

sync_node() { # a new machine under the old name: the kubelet does not change the provider-id of a Node that exists
  local stands mark=$STATE/registers-anew
  stands=$(kubectl get node "$NODE_NAME" --ignore-not-found -o 'jsonpath={.spec.providerID}') ||
    { failed "the Node $NODE_NAME could not be read: $(one_line)"; return; }
  if [ "$stands" = "$PROVIDER_ID" ]; then
    rm -f "$mark"
  elif [[ $stands == aws:///* ]]; then
    touch "$mark"
    if kubectl delete node "$NODE_NAME" --wait=false >/dev/null; then
      say "the Node $NODE_NAME was $stands; K3s starts anew and registers it as $PROVIDER_ID"
      register_anew
    else
      failed "the Node $NODE_NAME is $stands, not $PROVIDER_ID, and could not be deleted: $(one_line)"
    fi
  elif [ -z "$stands" ] && [ -n "$(find "$mark" -mmin +3 2>/dev/null)" ]; then
    # Deleted, and nobody started K3s anew: a kubelet registers when it starts, and only then.
    register_anew
  fi
}
register_anew() {
  touch "$STATE/registers-anew"
  run systemctl restart --no-block k3s.service ||
    failed "K3s could not be started anew to register $NODE_NAME: $(one_line)"
}

# K3s applies its add-ons anew at every start, by a three-way merge that leaves what they never set, such as this
# selector (k3s-io/k3s, pkg/deploy; rancher/wrangler, pkg/apply). Should one be lost, the next minute mends it.
sync_add_ons() {
  local found name place fields
  fields='{range .items[*]}{.metadata.name} {.spec.template.spec.nodeSelector.node-role\.kubernetes\.io/control-plane}{"\n"}{end}'
  found=$(kubectl --namespace kube-system get deployments --ignore-not-found "${ADD_ONS[@]}" -o "jsonpath=$fields") ||
    { failed "the add-ons could not be read: $(one_line)"; return; }
  while read -r name place; do
    if [ -z "$name" ] || [ "$place" = true ]; then continue; fi
    if kubectl --namespace kube-system patch deployment "$name" --type=merge \
      -p '{"spec":{"template":{"spec":{"nodeSelector":{"node-role.kubernetes.io/control-plane":"true"}}}}}' >/dev/null; then
      say "$name runs on the server from now on"
    else
      failed "$name could not be put on the server: $(one_line)"
    fi
  done <<<"$found"
}

sync_webhook() { # Alertmanager reads the Secret's files anew at each notification
  local url=${STANDS[webhook-url]-} token=${STANDS[webhook-token]-} wanted found
  if [ -z "$url" ] || [ -z "$token" ]; then
    say_once webhook "Alertmanager waits for $PREFIX/webhook-url and $PREFIX/webhook-token: see \`make up\`, \`make token\`"
    return
  fi
  say_once webhook ""
  wanted="$(printf %s "$url" | base64 -w0) $(printf %s "$token" | base64 -w0)"
  found=$(kubectl --namespace monitoring get secret alertmanager-webhook --ignore-not-found \
    -o 'jsonpath={.data.url} {.data.token}') ||
    { failed "the Secret monitoring/alertmanager-webhook could not be read: $(one_line)"; return; }
  if [ "$found" = "$wanted" ]; then return; fi
  {
    printf '{"apiVersion":"v1","kind":"Secret","type":"Opaque",'
    printf '"metadata":{"name":"alertmanager-webhook","namespace":"monitoring"},'
    printf '"data":{"url":"%s","token":"%s"}}' "${wanted% *}" "${wanted#* }"
  } >"$SCRATCH/secret.json"
  # Server-side: a client-side apply would keep a copy of the token in an annotation.
  if kubectl apply --server-side --force-conflicts --field-manager=k3s-autoscaler \
    -f "$SCRATCH/secret.json" >/dev/null; then
    say "Alertmanager's webhook address and token are in place"
  else
    failed "the Secret monitoring/alertmanager-webhook could not be written: $(one_line)"
  fi
}

install_timer() {
  cat >"$ROOT/etc/systemd/system/k3s-autoscaler-sync.service" <<'UNIT'
[Unit]
Description=Keep the parameters of this cluster and its manifests up to date (k3s-autoscaler)

[Service]
Type=oneshot
EnvironmentFile=/etc/k3s-autoscaler/server.env
ExecStart=/usr/local/lib/k3s-autoscaler/server-sync.sh
TimeoutStartSec=300
UNIT
  cat >"$ROOT/etc/systemd/system/k3s-autoscaler-sync.timer" <<'UNIT'
[Unit]
Description=Every minute (k3s-autoscaler)

[Timer]
OnActiveSec=1
OnUnitInactiveSec=60
AccuracySec=1

[Install]
WantedBy=timers.target
UNIT
  systemctl daemon-reload && systemctl enable k3s-autoscaler-sync.timer && systemctl restart k3s-autoscaler-sync.timer
}

main() { # a function, so that the whole script is read before it may replace itself
  local known=yes
  SCRATCH=$(mktemp -d) || exit 1
  trap 'rm -rf "$SCRATCH"' EXIT
  mkdir -p "$STATE"
  if ! read_parameters; then
    failed "the parameters $PREFIX/ could not be read: $(one_line)"
    known=no # unknown is not missing: nothing is published, created or fetched anew
  fi
  if [ "$known" = yes ]; then sync_bundle; fi
  if ! kubectl get --raw /readyz >/dev/null; then
    failed "the API server is not ready: $(one_line)"
    exit 1
  fi
  if [ "$known" = yes ]; then sync_join; sync_token; sync_webhook; fi
  sync_add_ons
  sync_node
  exit "$FAILED"
}
case ${1:-} in
  install) install_timer ;;
  *) main ;;
esac
