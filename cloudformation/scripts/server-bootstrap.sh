#!/bin/bash
# A K3s server's boot (user data): mount the data volume, install the pinned K3s, start it, and start the timer of
# server-sync.sh, which does what is to be done again and again. docs/cluster.md tells it from outside.
#
# It may run again at any time, and does at every boot: what is as it should be is left alone. A new machine with the
# old data volume comes up as the same server. On a failure the reason goes to the console, the machine stays on, and a
# unit tries again every minute.
# CLUSTER_ID, K3S_VERSION and the other settings are put above this line by scripts/embedded-scripts.js.
set -eu -o pipefail
umask 077
# shellcheck source=cloudformation/scripts/machine.sh
. "${0%/*}/machine.sh"

DATA=$ROOT/var/lib/rancher                  # outlives the machine
LIBRARY=$ROOT/usr/local/lib/k3s-autoscaler
NODE_NAME=server-$CLUSTER_ID

fail() {
  trap - EXIT
  say "this server of $CLUSTER_ID is not ready: $*; it tries again every minute"
  # Nothing happens where the unit runs this already: it starts itself anew. That the unit cannot be started must not
  # hide why the boot failed.
  systemctl start --no-block k3s-autoscaler-boot.service 2>/dev/null || true
  exit 1
}
trap 'fail "the command \"$BASH_COMMAND\" failed"' EXIT

# An NVMe disk tells its volume's id as its serial, whatever the kernel calls it (EC2 user guide, "EBS volumes and NVMe").
# Where there is none the hypervisor is Xen, and the name holds.
find_data_device() {
  local serial path nvme=no
  for serial in "$ROOT"/sys/block/nvme*/device/serial; do
    path=${serial%/device/serial}
    case $(tr -d ' ' 2>/dev/null <"$serial") in
      "${DATA_VOLUME/-/}") printf %s "$ROOT/dev/${path##*/}"; return ;;
      vol*) nvme=yes ;;
    esac
  done
  for path in "$DATA_DEVICE" "${DATA_DEVICE/#\/dev\/sd//dev/xvd}"; do
    if [ "$nvme" = no ] && [ -e "$ROOT$path" ]; then printf %s "$ROOT$path"; return; fi
  done
  return 1
}

mount_data_volume() { # DATA_VOLUME, DATA_DEVICE; without a volume the data stays on the root volume
  local device found code=0 uuid line
  mkdir -p "$DATA" "$ROOT/etc"
  if [ -z "${DATA_VOLUME:-}" ] || mountpoint --quiet "$DATA"; then return; fi
  if [ -n "$(ls -A "$DATA")" ]; then
    fail "/var/lib/rancher holds data and the data volume is not mounted there: move it away"
  fi
  # The volume is attached while the machine boots already.
  until_deadline device find_data_device || fail "the data volume $DATA_VOLUME is not attached"
  found=$(blkid --probe "$device") || code=$?
  case $code in
    0) [[ $found == *\ TYPE=* ]] || fail "the data volume $DATA_VOLUME holds what is no file system: $found" ;;
    # Nothing on it. mkfs.xfs looks for itself, and does not write over a file system without --force.
    2) mkfs.xfs -q -L k3s-data "$device" >&2 || fail "the data volume $DATA_VOLUME could not be formatted" ;;
    *) fail "it cannot be told what is on the data volume $DATA_VOLUME (blkid ends with $code)" ;;
  esac
  uuid=$(blkid --match-tag UUID --output value "$device")
  line="UUID=$uuid /var/lib/rancher auto defaults,nofail 0 2"
  touch "$ROOT/etc/fstab"
  if ! grep -qxF "$line" "$ROOT/etc/fstab"; then
    sed -i '\| /var/lib/rancher |d' "$ROOT/etc/fstab"
    printf '%s\n' "$line" >>"$ROOT/etc/fstab"
    systemctl daemon-reload
  fi
  mount "$DATA" || fail "the data volume $DATA_VOLUME could not be mounted"
  say "the data volume is mounted"
}

keep_node_password() { # the cluster knows this Node by it: a new machine without it would be turned away
  mkdir -p "$DATA/node" "$ROOT/etc/rancher"
  if [ -L "$ROOT/etc/rancher/node" ]; then return; fi
  if [ -d "$ROOT/etc/rancher/node" ]; then
    cp -a "$ROOT/etc/rancher/node/." "$DATA/node/"
    rm -r "$ROOT/etc/rancher/node"
  fi
  ln -s ../../var/lib/rancher/node "$ROOT/etc/rancher/node"
}

learn_address() { # SERVER_ADDRESS: what workers reach, an address or name that outlives the machine
  SERVER_ADDRESS=${SERVER_ADDRESS:-$NODE_IP}
  SERVER_URL="https://$SERVER_ADDRESS:6443"
  if [[ $SERVER_ADDRESS == *:* ]]; then SERVER_URL="https://[$SERVER_ADDRESS]:6443"; fi
}

write_server() {
  local extra
  read -r -a extra <<<"${EXTRA_SERVER_ARGUMENTS:-}"
  # The taint keeps workloads off: the autoscaler counts neither this machine's room nor its load. K3s' own add-ons
  # tolerate it. K3s' built-in cloud controller stays: it keeps the provider-id, and lifts the taint of new Nodes.
  write_unit k3s "RequiresMountsFor=/var/lib/rancher" server \
    "--node-name=$NODE_NAME" \
    "--node-ip=$NODE_IP" \
    "--tls-san=$SERVER_ADDRESS" \
    --write-kubeconfig-mode=0600 \
    --secrets-encryption \
    --node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule \
    "--node-label=topology.kubernetes.io/region=$REGION" \
    "--node-label=topology.kubernetes.io/zone=$ZONE" \
    "--node-label=node.kubernetes.io/instance-type=$INSTANCE_TYPE" \
    "--kubelet-arg=provider-id=aws:///$ZONE/$INSTANCE_ID" \
    --kubelet-arg=config=/etc/rancher/k3s/kubelet.yaml \
    "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<5%,imagefs.available<5%" \
    "${extra[@]}"
  mkdir -p "$DATA/k3s/server/manifests"
  # Of K3s' add-ons only traefik is a Helm chart and takes values; server-sync.sh pins the others.
  cat >"$DATA/k3s/server/manifests/traefik-config.yaml" <<'MANIFEST'
apiVersion: helm.cattle.io/v1
kind: HelmChartConfig
metadata:
  name: traefik
  namespace: kube-system
spec:
  valuesContent: |-
    nodeSelector:
      node-role.kubernetes.io/control-plane: "true"
MANIFEST
}

start_server() { # anew where the binary or its settings changed
  local fingerprint state
  fingerprint=$({
    cat "$K3S" "$ROOT/etc/rancher/k3s/kubelet.yaml" "$ROOT/etc/systemd/system/k3s.service"
    cat "$ROOT/etc/rancher/k3s/registries.yaml" 2>/dev/null || true # it is optional
  } | sha256sum | cut -d' ' -f1)
  systemctl daemon-reload
  systemctl enable k3s.service
  if [ "$(cat "$LIBRARY/started" 2>/dev/null)" = "$fingerprint" ]; then
    systemctl start --no-block k3s.service
  else
    systemctl restart --no-block k3s.service
  fi
  until state=$(systemctl is-active k3s.service); [ "$state" = active ]; do
    if [ "$SECONDS" -ge "$DEADLINE_S" ]; then
      fail "K3s $VERSION did not start within $DEADLINE_S s ($state): $(last_error k3s.service)"
    fi
    sleep "$RETRY_S"
  done
  printf '%s\n' "$fingerprint" >"$LIBRARY/started"
  say "K3s $VERSION runs as $NODE_NAME, reached at $SERVER_URL"
}

fetch_sync() { # server-sync.sh out of the bundle; it unpacks the rest of it, renews itself, and brings its own timer
  local info count digest index text=""
  info=$(parameter "/k3s/$CLUSTER_ID/bundle-info") || return 1
  read -r count digest <<<"$info"
  if ! [[ $count =~ ^[1-9][0-9]?$ ]]; then
    echo "bundle-info is \"$info\", not a number of pieces and a SHA-256" >&2
    return 1
  fi
  for ((index = 0; index < count; index++)); do
    text+=$(parameter "$(printf '/k3s/%s/bundle/%02d' "$CLUSTER_ID" "$index")") || return 1
  done
  if [ "$(printf %s "$text" | sha256sum | cut -d' ' -f1)" != "$digest" ]; then
    echo "the pieces of the bundle do not have the SHA-256 of bundle-info" >&2
    return 1
  fi
  printf %s "$text" | base64 --decode | tar -xzO server-sync.sh >"$SCRATCH/server-sync.sh" || return 1
  chmod 755 "$SCRATCH/server-sync.sh"
  mv "$SCRATCH/server-sync.sh" "$LIBRARY/server-sync.sh"
}

start_sync() {
  mkdir -p "$ROOT/etc/k3s-autoscaler"
  cat >"$ROOT/etc/k3s-autoscaler/server.env" <<ENVIRONMENT
CLUSTER_ID=$CLUSTER_ID
REGION=$REGION
SERVER_URL=$SERVER_URL
NODE_NAME=$NODE_NAME
PROVIDER_ID=aws:///$ZONE/$INSTANCE_ID
AWS_USE_DUALSTACK_ENDPOINT=${AWS_USE_DUALSTACK_ENDPOINT:-false}
AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=${AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE:-IPv4}
ENVIRONMENT
  until_deadline _ fetch_sync || fail "the bundle /k3s/$CLUSTER_ID/bundle could not be fetched: $WHY"
  "$LIBRARY/server-sync.sh" install
}

run_at_every_boot() { # cloud-init runs user data once; an upgrade changes it, and stops and starts the machine
  cat >"$LIBRARY/boot" <<BOOT
#!/bin/bash
# Run the user data that this machine has now.
set -eu
for address in $METADATA; do
  curl="curl -fsSg -m 20"
  token=\$(\$curl -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "\$address/latest/api/token") || continue
  script=/run/k3s-autoscaler-user-data
  \$curl -H "X-aws-ec2-metadata-token: \$token" "\$address/latest/user-data" -o "\$script" || continue
  exec bash "\$script"
done
exit 1
BOOT
  chmod 755 "$LIBRARY/boot"
  cat >"$ROOT/etc/systemd/system/k3s-autoscaler-boot.service" <<'UNIT'
[Unit]
Description=Set this K3s server up as its user data says (k3s-autoscaler)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/local/lib/k3s-autoscaler/boot
Restart=on-failure
RestartSec=60

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
  systemctl enable k3s-autoscaler-boot.service
}

mkdir -p "$ROOT/etc/systemd/system" "$ROOT/etc/rancher/k3s" "$LIBRARY"
command -v systemctl >/dev/null || fail "the image lacks the program systemctl"
# Before anything can be found wrong: user data that was mended is run by this unit only.
run_at_every_boot
for tool in aws curl sha256sum timeout base64 tar blkid mountpoint; do
  command -v "$tool" >/dev/null || fail "the image lacks the program $tool"
done
VERSION=$K3S_VERSION
check_version
learn_machine
learn_address
mount_data_volume
keep_node_password
install_k3s
write_registries
# The control plane itself needs most of a small server.
write_kubelet_config 30 10 700
write_server
start_server
start_sync
say "this server of $CLUSTER_ID is ready"
rm -rf "$SCRATCH"
trap - EXIT
