#!/bin/bash
# A worker's first boot (user data): learn from SSM how to join, install the server's version of K3s, join. It holds no
# secret: the instance role reads the four parameters /k3s/<cluster>/{server-url,version,ca-hash,agent-token}.
#
# Whatever fails, the reason goes to the console and the machine powers off, which terminates it: it is replaced and not
# paid for. CLUSTER_ID and EXTRA_AGENT_ARGUMENTS are set above by the launch template.
set -eu -o pipefail
umask 077

# Overridden by tests only.
ROOT=${BOOTSTRAP_ROOT:-}
METADATA=${BOOTSTRAP_METADATA:-http://169.254.169.254}
RELEASES=${BOOTSTRAP_RELEASES:-https://github.com/k3s-io/k3s/releases/download}
DEADLINE_S=${BOOTSTRAP_DEADLINE_S:-480}   # below the policy's join_timeout_s: who cannot join leaves by itself first
RETRY_S=${BOOTSTRAP_RETRY_S:-5}

say() { # to the console, where `get-console-output` shows it
  printf 'k3s-autoscaler: %s\n' "$*" | tee "${BOOTSTRAP_CONSOLE:-/dev/console}" || true
}
fail() {
  trap - EXIT
  say "this worker cannot join $CLUSTER_ID: $*; powering off"
  sync
  "${BOOTSTRAP_POWEROFF:-poweroff}"
  exit 1
}
trap 'fail "the command \"$BASH_COMMAND\" failed"' EXIT

again_until_deadline() { # what it is for, command...: the command's output
  local what=$1 answer
  shift
  until answer=$("$@" 2>"$ROOT/run/k3s-autoscaler-error"); do
    if [ "$SECONDS" -ge "$DEADLINE_S" ]; then
      say "$what: $(tail -n 3 "$ROOT/run/k3s-autoscaler-error" | tr '\n' ' ')"
      return 1
    fi
    sleep "$RETRY_S"
  done
  printf '%s' "$answer"
}

get() { curl --fail --silent --show-error --location --connect-timeout 5 --max-time 120 "$@"; }
metadata_token() { get --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 900' "$METADATA/latest/api/token"; }
metadata() { get --max-time 5 -H "X-aws-ec2-metadata-token: $TOKEN" "$METADATA/latest/meta-data/$1"; }
parameter() {
  aws ssm get-parameter --region "$REGION" --with-decryption --query Parameter.Value --output text --name "/k3s/$CLUSTER_ID/$1"
}

for tool in aws curl sha256sum systemctl; do
  command -v "$tool" >/dev/null || fail "the image lacks the program $tool"
done

TOKEN=$(again_until_deadline "metadata token" metadata_token) || fail "the metadata service did not answer"
INSTANCE_ID=$(again_until_deadline "instance id" metadata instance-id) || fail "the metadata service did not tell the instance id"
INSTANCE_TYPE=$(again_until_deadline "instance type" metadata instance-type) || fail "the metadata service did not tell the instance type"
ZONE=$(again_until_deadline "zone" metadata placement/availability-zone) || fail "the metadata service did not tell the zone"
REGION=$(again_until_deadline "region" metadata placement/region) || fail "the metadata service did not tell the region"

SERVER_URL=$(again_until_deadline "parameter server-url" parameter server-url) || fail "the parameter /k3s/$CLUSTER_ID/server-url could not be read"
VERSION=$(again_until_deadline "parameter version" parameter version) || fail "the parameter /k3s/$CLUSTER_ID/version could not be read"
CA_HASH=$(again_until_deadline "parameter ca-hash" parameter ca-hash) || fail "the parameter /k3s/$CLUSTER_ID/ca-hash could not be read"
AGENT_TOKEN=$(again_until_deadline "parameter agent-token" parameter agent-token) || fail "the parameter /k3s/$CLUSTER_ID/agent-token could not be read"

[[ $SERVER_URL =~ ^https://[][a-zA-Z0-9.:-]+$ ]] || fail "server-url is not an https address"
[[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+[-a-z0-9]*\+k3s[0-9]+$ ]] || fail "version \"$VERSION\" is not a K3s version such as v1.33.5+k3s1"
[[ $CA_HASH =~ ^[0-9a-f]{64}$ ]] || fail "ca-hash is not a SHA-256 in hexadecimal"
# K10<hash of the CA>::<token> is K3s' secure form: an agent that is given it trusts no other server.
case $AGENT_TOKEN in
  "K10$CA_HASH::"?*) ;;
  K10*) fail "agent-token belongs to another cluster CA than ca-hash" ;;
  *) AGENT_TOKEN="K10$CA_HASH::$AGENT_TOKEN" ;;
esac

case $(uname -m) in
  x86_64) binary=k3s sums=sha256sum-amd64.txt ;;
  aarch64) binary=k3s-arm64 sums=sha256sum-arm64.txt ;;
  *) fail "K3s has no build for $(uname -m)" ;;
esac

K3S=$ROOT/usr/local/bin/k3s
version_of() { "$1" --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p'; }
if [ -x "$K3S" ] && [ "$(version_of "$K3S")" = "$VERSION" ]; then
  say "K3s $VERSION is in the image"
else
  from="$RELEASES/${VERSION/+/%2B}"
  mkdir -p "$ROOT/usr/local/bin"
  again_until_deadline "K3s $VERSION" get -o "$K3S.new" "$from/$binary" || fail "K3s $VERSION could not be downloaded"
  expected=$(again_until_deadline "checksums of $VERSION" get "$from/$sums" | awk -v name="$binary" '$2 == name { print $1 }') ||
    fail "the checksums of K3s $VERSION could not be downloaded"
  actual=$(sha256sum "$K3S.new" | cut -d' ' -f1)
  [ -n "$expected" ] && [ "$actual" = "$expected" ] || fail "the download of K3s $VERSION has SHA-256 $actual, the release says \"$expected\""
  chmod 755 "$K3S.new"
  mv "$K3S.new" "$K3S"
fi

mkdir -p "$ROOT/etc/rancher/k3s" "$ROOT/etc/systemd/system"
printf '%s' "$AGENT_TOKEN" >"$ROOT/etc/rancher/k3s/agent-token"
# K3s reserves nothing for the system by itself: a small machine would end in the kernel's out-of-memory killer.
cat >"$ROOT/etc/rancher/k3s/config.yaml" <<CONFIG
server: "$SERVER_URL"
token-file: /etc/rancher/k3s/agent-token
node-name: worker-$INSTANCE_ID
node-label:
  - topology.kubernetes.io/region=$REGION
  - topology.kubernetes.io/zone=$ZONE
  - node.kubernetes.io/instance-type=$INSTANCE_TYPE
  - k3s-autoscaler/managed=true
kubelet-arg:
  - provider-id=aws:///$ZONE/$INSTANCE_ID
  - system-reserved=cpu=50m,memory=150Mi
  - kube-reserved=cpu=50m,memory=250Mi
CONFIG
cat >"$ROOT/etc/systemd/system/k3s-agent.service" <<UNIT
[Unit]
Description=K3s agent
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s agent $EXTRA_AGENT_ARGUMENTS
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable k3s-agent.service
# The unit becomes active when the agent has joined; `restart` would wait for it without an end.
systemctl start --no-block k3s-agent.service
until [ "$(systemctl is-active k3s-agent.service)" = active ]; do
  [ "$SECONDS" -lt "$DEADLINE_S" ] || fail "the agent did not join $SERVER_URL within $DEADLINE_S s ($(systemctl is-active k3s-agent.service || true))"
  sleep "$RETRY_S"
done
say "joined $SERVER_URL as worker-$INSTANCE_ID with K3s $VERSION"
trap - EXIT
