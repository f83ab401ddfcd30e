#!/bin/bash
# What a worker's and a server's bootstrap have in common. Both read this file in; scripts/embedded-scripts.js puts its
# text into their user data instead. It needs CLUSTER_ID and a function `fail` that does not return.
# shellcheck disable=SC2034  # what it learns is for those two

# Overridden by tests only.
ROOT=${BOOTSTRAP_ROOT:-}
METADATA=${BOOTSTRAP_METADATA:-"http://169.254.169.254 http://[fd00:ec2::254]"}
# A worker's is below the policy's join_timeout_s (autoscaler/deploy/join_deadline.py): it leaves by itself first.
DEADLINE_S=${BOOTSTRAP_DEADLINE_S:-${JOIN_DEADLINE_S:-480}}
RETRY_S=${BOOTSTRAP_RETRY_S:-5}
CONSOLE=${BOOTSTRAP_CONSOLE:-/dev/console}

RELEASES=${K3S_RELEASES_URL:-https://github.com/k3s-io/k3s/releases/download}
K3S=$ROOT/usr/local/bin/k3s
SCRATCH=$(mktemp -d)

say() { # to the console, where `get-console-output` shows it
  printf 'k3s-autoscaler: %s\n' "$*" | tee -a "$CONSOLE" || true # a machine without a console boots all the same
}

one_line() { tail -n 3 "$1" | tr '\n' ' ' | cut -c1-400; }

until_deadline() { # variable, command...: the command's output, tried until the deadline; false with the reason in $WHY
  local __variable=$1 __answer # no name that a caller may give
  shift
  until __answer=$("$@" 2>"$SCRATCH/complaint"); do
    WHY=$(one_line "$SCRATCH/complaint")
    if [ "$SECONDS" -ge "$DEADLINE_S" ]; then return 1; fi
    sleep "$RETRY_S"
  done
  printf -v "$__variable" %s "$__answer"
}

time_left() { # seconds to the deadline, at least 5: no single call outlasts it
  local left=$((DEADLINE_S - SECONDS))
  echo $((left > 5 ? left : 5))
}

get() { # --globoff: the brackets of an IPv6 address are no pattern
  curl --fail --silent --show-error --location --globoff --connect-timeout 5 --max-time "$(time_left)" "$@"
}

find_metadata() { # over IPv4 or, where the machine has none, IPv6; prints the address that answers and a token
  local address token
  for address in $METADATA; do
    if token=$(get --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 900' "$address/latest/api/token"); then
      printf '%s %s' "$address" "$token"
      return
    fi
  done
  return 1
}

metadata() { get --max-time 5 -H "X-aws-ec2-metadata-token: $METADATA_TOKEN" "$METADATA_ADDRESS/latest/$1"; }

ask_metadata() { # variable, path, what it is
  until_deadline "$1" metadata "$2" || fail "the metadata service did not tell the $3: $WHY"
}

node_ip() { # IPv4, or IPv6 where the metadata service says that there is no IPv4, and not merely fails
  metadata meta-data/local-ipv4 && return
  grep -q 'error: 404' "$SCRATCH/complaint" && metadata meta-data/ipv6
}

learn_machine() { # INSTANCE_ID INSTANCE_TYPE ZONE REGION NODE_IP CAPACITY_TYPE
  local found life_cycle
  until_deadline found find_metadata || fail "the metadata service did not answer: $WHY"
  METADATA_ADDRESS=${found% *} METADATA_TOKEN=${found##* }
  if [[ $METADATA_ADDRESS == *\[* ]]; then
    # Only the dual-stack endpoints of AWS have IPv6 addresses.
    export AWS_USE_DUALSTACK_ENDPOINT=true AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6
  fi
  ask_metadata INSTANCE_ID meta-data/instance-id "instance id"
  ask_metadata INSTANCE_TYPE meta-data/instance-type "instance type"
  ask_metadata ZONE meta-data/placement/availability-zone zone
  ask_metadata REGION meta-data/placement/region region
  # Told to K3s: on a dual-stack subnet it would register both, and not every reader of a Node expects two.
  until_deadline NODE_IP node_ip || fail "the metadata service did not tell the address: $WHY"
  ask_metadata life_cycle meta-data/instance-life-cycle "life cycle"
  case $life_cycle in
    spot) CAPACITY_TYPE=spot ;;
    *) CAPACITY_TYPE=on-demand ;; # or reserved, or in a capacity block: nothing takes it back at two minutes' notice
  esac
}

parameter() { # the value of a parameter, by its whole name
  timeout 30 aws ssm get-parameter --region "$REGION" --with-decryption \
    --query Parameter.Value --output text --name "$1"
}

ask_parameter() { # variable, whole name
  until_deadline "$1" parameter "$2" && return
  case $WHY in
    *ParameterNotFound*) fail "there is no parameter $2" ;;
    *AccessDenied*) fail "this machine's role may not read the parameter $2" ;;
    *) fail "the parameter $2 could not be read: $WHY" ;;
  esac
}

check_version() { # VERSION
  [[ $VERSION =~ ^v[0-9]+\.[0-9]+\.[0-9]+[-a-z0-9]*\+k3s[0-9]+$ ]] ||
    fail "version \"$VERSION\" is not a K3s version such as v1.33.5+k3s1"
}

version_of() { "$1" --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p'; }

install_k3s() { # VERSION, unless the image holds it; K3S_SHA256_AMD64 and _ARM64 are optional pins
  local binary sums pin expected actual from sums_text
  case $(uname -m) in
    x86_64) binary=k3s sums=sha256sum-amd64.txt pin=${K3S_SHA256_AMD64:-} ;;
    aarch64) binary=k3s-arm64 sums=sha256sum-arm64.txt pin=${K3S_SHA256_ARM64:-} ;;
    *) fail "K3s has no build for $(uname -m)" ;;
  esac
  if [ -x "$K3S" ] && [ "$(version_of "$K3S")" = "$VERSION" ] && is_pinned "$K3S" "$pin"; then
    say "K3s $VERSION is installed already"
    return
  fi
  from="$RELEASES/${VERSION/+/%2B}"
  mkdir -p "${K3S%/*}"
  until_deadline sums_text get "$from/$sums" || fail "the checksums of K3s $VERSION could not be downloaded: $WHY"
  expected=$(awk -v name="$binary" '$2 == name { print $1 }' <<<"$sums_text")
  until_deadline actual get -o "$K3S.new" "$from/$binary" || fail "K3s $VERSION could not be downloaded: $WHY"
  actual=$(sha256sum "$K3S.new" | cut -d' ' -f1)
  if [ -z "$expected" ] || [ "$actual" != "$expected" ]; then
    rm -f "$K3S.new"
    fail "the download of K3s $VERSION has SHA-256 $actual, the release says \"$expected\""
  fi
  if ! is_pinned "$K3S.new" "$pin"; then
    rm -f "$K3S.new"
    fail "the download of K3s $VERSION has SHA-256 $actual, it is pinned to $pin"
  fi
  chmod 755 "$K3S.new"
  mv "$K3S.new" "$K3S"
  say "K3s $VERSION is downloaded and verified"
}

is_pinned() { # file, pin: true where there is no pin
  [ -z "$2" ] || [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

write_registries() { # REGISTRIES_PARAMETER, optional: private registries and mirrors, with their credentials
  local text
  if [ -z "${REGISTRIES_PARAMETER:-}" ]; then return; fi
  ask_parameter text "$REGISTRIES_PARAMETER"
  printf '%s\n' "$text" >"$ROOT/etc/rancher/k3s/registries.yaml"
}

write_kubelet_config() { # seconds for all pods to end at a shutdown, of these for the critical ones; MiB for K3s itself
  local memory_mib cores kube_mib system_mib
  memory_mib=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "${BOOTSTRAP_MEMINFO:-/proc/meminfo}")
  cores=$(nproc)
  # K3s reserves nothing for itself or the system: a small machine would end in the kernel's out-of-memory killer.
  # Both shares grow by 2.5 % of the memory, up to that of a machine with 16 GiB.
  kube_mib=$(($3 + (memory_mib < 16384 ? memory_mib : 16384) / 40))
  system_mib=$((kube_mib - $3 + 100))
  # K3s hands over a file named by `--kubelet-arg=config=` as it is before 1.32 and as drop-in 10-cli-config.conf after;
  # arguments of the operator still win over it. (k3s-io/k3s, pkg/daemons/agent/agent.go)
  cat >"$ROOT/etc/rancher/k3s/kubelet.yaml" <<KUBELET
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
shutdownGracePeriod: $1s
shutdownGracePeriodCriticalPods: $2s
kubeReserved:
  cpu: $((50 + (cores < 16 ? cores : 16) * 10))m
  memory: ${kube_mib}Mi
systemReserved:
  cpu: $((30 + (cores < 16 ? cores : 16) * 5))m
  memory: ${system_mib}Mi
KUBELET
  # logind cuts delays off at 5 s, and an image's own setting may keep the kubelet from raising that (kubernetes #102818).
  mkdir -p "$ROOT/etc/systemd/logind.conf.d"
  printf '[Login]\nInhibitDelayMaxSec=%s\n' "$1" >"$ROOT/etc/systemd/logind.conf.d/zz-k3s-autoscaler.conf"
  systemctl try-reload-or-restart systemd-logind.service || say "logind could not be told to wait for the kubelet"
}

# All of K3s' arguments stand in the unit, and none in its config.yaml: what becomes of a list that is in both, such as
# kubelet-arg, is told differently by K3s' documentation and its code (pkg/configfilearg/parser.go).
write_unit() { # name, a line for [Unit], arguments of k3s...
  local name=$1 line=$2 command argument
  shift 2
  command="/usr/local/bin/k3s $1"
  shift
  for argument in "$@"; do command+=$' \\\n  '"${argument//%/%%}"; done # systemd would take a % for its own
  cat >"$ROOT/etc/systemd/system/$name.service" <<UNIT
[Unit]
Description=K3s ($name)
Wants=network-online.target
After=network-online.target
$line

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=$command
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
}

last_error() { # unit: the last thing that K3s complained of; nothing where it did not, or where there is no journal
  { journalctl --unit "$1" --lines 200 --output cat --no-pager 2>/dev/null |
    grep -E 'level=(error|fatal)' | tail -n 1 | cut -c1-400; } || true
}
