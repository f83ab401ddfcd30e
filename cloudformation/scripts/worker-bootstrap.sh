#!/bin/bash
# A worker's first boot (user data): learn from SSM how to join, install the server's version of K3s, join. It holds no
# secret: the instance role reads the four parameters /k3s/<cluster>/{server-url,version,ca-hash,agent-token}.
#
# Whatever fails, the reason goes to the console and the machine powers off, which terminates it: it is replaced and not
# paid for. CLUSTER_ID and the other settings are put above this line by scripts/embedded-scripts.js.
set -eu -o pipefail
umask 077
# shellcheck source=cloudformation/scripts/machine.sh
. "${0%/*}/machine.sh"

PATIENCE_S=${BOOTSTRAP_PATIENCE_S:-150}   # for what the server mends within a minute: a stale version or token

fail() {
  trap - EXIT
  say "this worker cannot join $CLUSTER_ID: $*; powering off"
  sync
  "${BOOTSTRAP_POWEROFF:-poweroff}"
  exit 1
}
trap 'fail "the command \"$BASH_COMMAND\" failed"' EXIT

learn_how_to_join() { # SERVER_URL VERSION CA_HASH AGENT_TOKEN
  ask_parameter SERVER_URL "/k3s/$CLUSTER_ID/server-url"
  ask_parameter VERSION "/k3s/$CLUSTER_ID/version"
  ask_parameter AGENT_TOKEN "/k3s/$CLUSTER_ID/agent-token"
  [[ $SERVER_URL =~ ^https://(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9.-]+)(:[0-9]+)?$ ]] ||
    fail "server-url \"$SERVER_URL\" is not an https address"
  check_version
  # K10<hash of the CA>::<token> is K3s' secure form: an agent that is given it trusts no other server. Its hash is K3s'
  # own, which of a bundle is not the file's: the parameter is for tokens without one.
  if [[ $AGENT_TOKEN =~ ^K10([0-9a-f]{64})::. ]]; then
    CA_HASH=${BASH_REMATCH[1]}
    return
  fi
  case $AGENT_TOKEN in K10*) fail "agent-token begins with K10 and no SHA-256 follows" ;; esac
  ask_parameter CA_HASH "/k3s/$CLUSTER_ID/ca-hash"
  [[ $CA_HASH =~ ^[0-9a-f]{64}$ ]] || fail "ca-hash is not a SHA-256 in hexadecimal"
  AGENT_TOKEN="K10$CA_HASH::$AGENT_TOKEN"
}

server_ca() {
  curl --silent --show-error --fail --globoff --insecure --max-time 10 -o "$SCRATCH/ca.crt" "$SERVER_URL/cacerts"
}

ask_server() { # the API server's own version, as the agent's token may ask it: the HTTP status; 000 = no answer
  printf 'Authorization: Bearer %s\n' "${AGENT_TOKEN##*::}" >"$SCRATCH/header"
  curl --silent --show-error --globoff --cacert "$SCRATCH/ca.crt" --max-time 10 -H "@$SCRATCH/header" \
    -o "$SCRATCH/version" -w '%{http_code}' "$SERVER_URL/version" 2>"$SCRATCH/complaint" || true # it prints 000 then, and its reason is in the complaint
}

# The agent itself would try for ever and never say which of the four is wrong. Where the answer is not clear the agent
# decides: this only turns away who cannot join.
meet_server() {
  local until_s status running problem
  until_deadline status server_ca || fail "the server $SERVER_URL cannot be reached: $WHY"
  # K3s hashes a single certificate as the file stands, of a bundle only its root (pkg/clientaccess/token.go): that is
  # left to the agent, and so is a token of another form. The token is shown to no server whose CA is not known.
  if [ "$(grep -c 'BEGIN CERTIFICATE' "$SCRATCH/ca.crt")" != 1 ]; then return; fi
  if [ "$(sha256sum "$SCRATCH/ca.crt" | cut -d' ' -f1)" != "$CA_HASH" ]; then
    fail "the server $SERVER_URL shows another cluster CA than agent-token or ca-hash of /k3s/$CLUSTER_ID names"
  fi
  if ! [[ ${AGENT_TOKEN##*::} =~ ^[a-z0-9]{6}\.[a-z0-9]{16}$ ]]; then return; fi
  until_s=$((SECONDS + PATIENCE_S))
  while true; do
    status=$(ask_server)
    case $status in
      200)
        running=$(sed -n 's/.*"gitVersion": *"\([^"]*\)".*/\1/p' "$SCRATCH/version")
        if [ "$running" = "$VERSION" ]; then return; fi
        problem="version mismatch: the server runs K3s $running, the parameter /k3s/$CLUSTER_ID/version says $VERSION"
        ;;
      401)
        problem="the server $SERVER_URL does not accept the token of /k3s/$CLUSTER_ID/agent-token:"
        problem+=" it has expired or was revoked"
        ;;
      000 | 429 | 5*)
        problem="the server $SERVER_URL cannot be reached: HTTP status $status $(one_line "$SCRATCH/complaint")"
        ;;
      *) return ;;
    esac
    if [ "$SECONDS" -ge "$until_s" ] || [ "$SECONDS" -ge "$DEADLINE_S" ]; then fail "$problem"; fi
    sleep "$RETRY_S"
    learn_how_to_join
  done
}

write_agent() {
  local extra
  read -r -a extra <<<"${EXTRA_AGENT_ARGUMENTS:-}"
  printf '%s' "$AGENT_TOKEN" >"$ROOT/etc/rancher/k3s/agent-token"
  # K3s' own eviction thresholds leave memory out, and giving some replaces them all.
  write_unit k3s-agent "" agent \
    "--server=$SERVER_URL" \
    --token-file=/etc/rancher/k3s/agent-token \
    "--node-name=worker-$INSTANCE_ID" \
    "--node-ip=$NODE_IP" \
    "--node-label=topology.kubernetes.io/region=$REGION" \
    "--node-label=topology.kubernetes.io/zone=$ZONE" \
    "--node-label=node.kubernetes.io/instance-type=$INSTANCE_TYPE" \
    "--node-label=k3s-autoscaler/capacity-type=$CAPACITY_TYPE" \
    --node-label=k3s-autoscaler/managed=true \
    "--kubelet-arg=provider-id=aws:///$ZONE/$INSTANCE_ID" \
    --kubelet-arg=config=/etc/rancher/k3s/kubelet.yaml \
    "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<5%,imagefs.available<5%" \
    "${extra[@]}"
}

for tool in aws curl sha256sum systemctl timeout; do
  command -v "$tool" >/dev/null || fail "the image lacks the program $tool"
done
mkdir -p "$ROOT/etc/rancher/k3s" "$ROOT/etc/systemd/system"
learn_machine
learn_how_to_join
meet_server
install_k3s
write_registries
# A Spot instance is gone two minutes after its notice; pods that were not moved by then get one of them.
write_kubelet_config 60 15 200
write_agent
systemctl daemon-reload
systemctl enable k3s-agent.service
# The unit becomes active when the agent has joined; `restart` would wait for it without an end.
systemctl start --no-block k3s-agent.service
until state=$(systemctl is-active k3s-agent.service); [ "$state" = active ]; do
  if [ "$SECONDS" -ge "$DEADLINE_S" ]; then
    fail "the agent did not join $SERVER_URL within $DEADLINE_S s ($state): $(last_error k3s-agent.service)"
  fi
  sleep "$RETRY_S"
done
say "joined $SERVER_URL as worker-$INSTANCE_ID with K3s $VERSION"
rm -rf "$SCRATCH"
trap - EXIT
