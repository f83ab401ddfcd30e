"""worker-bootstrap.sh in a sandbox: stand-ins for `aws`, `curl`, `systemctl` and `poweroff`; the script itself runs."""

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.service.conftest import ROOT

SCRIPT = ROOT / "cloudformation" / "scripts" / "worker-bootstrap.sh"
INSTANCE = "i-0123456789abcdef0"
CA_HASH = "ab" * 32
VERSION = "v1.33.5+k3s1"
BINARY = f"#!/bin/sh\necho 'k3s version {VERSION} (abc)'\n"

AWS = """#!/bin/bash
case "$*" in *--with-decryption*) ;; *) echo "no decryption" >&2; exit 2 ;; esac
file="$WORLD/parameters/$(echo "${@: -1}" | tr / _)"
if [ -f "$file" ]; then cat "$file"; else echo "ParameterNotFound: ${@: -1}" >&2; exit 254; fi
"""
CURL = """#!/bin/bash
out=/dev/stdout
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
case $1 in
  http://metadata/latest/api/token) printf token >"$out" ;;
  http://metadata/latest/meta-data/*) cat "$WORLD/metadata/$(basename "$1")" >"$out" ;;
  https://releases/*) cat "$WORLD/releases/$(basename "$1")" >"$out" ;;
  *) echo "unexpected address $1" >&2; exit 6 ;;
esac
"""
SYSTEMCTL = """#!/bin/bash
echo "$*" >>"$WORLD/systemctl"
if [ "$1" = is-active ]; then cat "$WORLD/active"; [ "$(cat "$WORLD/active")" = active ]; fi
"""


@dataclass
class Machine:
    """A fresh worker."""

    world: Path
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in ("bin", "root/run", "parameters", "metadata", "releases"):
            (self.world / folder).mkdir(parents=True)
        for name, text in (
            ("aws", AWS),
            ("curl", CURL),
            ("systemctl", SYSTEMCTL),
            ("poweroff", '#!/bin/bash\ntouch "$WORLD/off"\n'),
            ("uname", "#!/bin/bash\necho x86_64\n"),
        ):
            (self.world / "bin" / name).write_text(text)
            (self.world / "bin" / name).chmod(0o755)
        self.write("metadata/instance-id", INSTANCE)
        self.write("metadata/instance-type", "t3.small")
        self.write("metadata/availability-zone", "eu-central-1a")
        self.write("metadata/region", "eu-central-1")
        self.parameter("server-url", "https://10.0.1.10:6443")
        self.parameter("version", VERSION)
        self.parameter("ca-hash", CA_HASH)
        self.parameter("agent-token", f"K10{CA_HASH}::abcdef.0123456789abcdef")
        self.write("releases/k3s", BINARY)
        self.write(
            "releases/sha256sum-amd64.txt", f"{hashlib.sha256(BINARY.encode()).hexdigest()}  k3s\n00  k3s-arm64\n"
        )
        self.write("active", "active")

    def write(self, name: str, text: str) -> None:
        (self.world / name).write_text(text)

    def parameter(self, name: str, value: str) -> None:
        self.write(f"parameters/_k3s_shop_{name}", value)

    def read(self, name: str) -> str:
        return (self.world / name).read_text()

    def boot(self, arguments: str = "") -> bool:
        """Run the script; whether the machine is still on. A machine that is on has joined, and the other way round."""
        environment = {
            "PATH": f"{self.world / 'bin'}:{os.defpath}",
            "WORLD": str(self.world),
            "CLUSTER_ID": "shop",
            "EXTRA_AGENT_ARGUMENTS": arguments,
            "BOOTSTRAP_ROOT": str(self.world / "root"),
            "BOOTSTRAP_METADATA": "http://metadata",
            "BOOTSTRAP_RELEASES": "https://releases",
            "BOOTSTRAP_CONSOLE": str(self.world / "console"),
            "BOOTSTRAP_DEADLINE_S": "1",
            "BOOTSTRAP_RETRY_S": "0.1",
        }
        ran = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False)
        off = (self.world / "off").exists()
        assert (ran.returncode != 0) == off, ran.stderr
        return not off


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "world")


def test_a_worker_joins_under_a_name_that_nobody_else_has(machine: Machine) -> None:
    assert machine.boot("--node-taint=spot=true:NoSchedule")
    config = machine.read("root/etc/rancher/k3s/config.yaml").splitlines()
    assert 'server: "https://10.0.1.10:6443"' in config
    assert f"node-name: worker-{INSTANCE}" in config
    assert f"  - provider-id=aws:///eu-central-1a/{INSTANCE}" in config
    for label in (
        "topology.kubernetes.io/zone=eu-central-1a",
        "node.kubernetes.io/instance-type=t3.small",
        "k3s-autoscaler/managed=true",
    ):
        assert f"  - {label}" in config
    unit = machine.read("root/etc/systemd/system/k3s-agent.service")
    assert "\nExecStart=/usr/local/bin/k3s agent --node-taint=spot=true:NoSchedule\n" in unit
    assert machine.read("root/etc/rancher/k3s/agent-token") == f"K10{CA_HASH}::abcdef.0123456789abcdef"
    assert "start --no-block k3s-agent.service" in machine.read("systemctl")
    assert f"joined https://10.0.1.10:6443 as worker-{INSTANCE} with K3s {VERSION}" in machine.read("console")


def test_the_token_is_only_in_a_file_of_root(machine: Machine) -> None:
    assert machine.boot()
    path = machine.world / "root/etc/rancher/k3s/agent-token"
    assert path.stat().st_mode & 0o077 == 0
    assert "abcdef.0123456789abcdef" not in machine.read("console") + machine.read("root/etc/rancher/k3s/config.yaml")


def test_a_bare_token_is_bound_to_the_clusters_ca(machine: Machine) -> None:
    machine.parameter("agent-token", "abcdef.0123456789abcdef")
    assert machine.boot()
    assert machine.read("root/etc/rancher/k3s/agent-token") == f"K10{CA_HASH}::abcdef.0123456789abcdef"


def test_an_image_that_holds_the_version_downloads_nothing(machine: Machine) -> None:
    (machine.world / "root/usr/local/bin").mkdir(parents=True)
    machine.write("root/usr/local/bin/k3s", BINARY)
    (machine.world / "root/usr/local/bin/k3s").chmod(0o755)
    for path in (machine.world / "releases").iterdir():
        path.unlink()
    assert machine.boot()


FAILURES = {
    "no server address": ("parameters/_k3s_shop_server-url", None, "server-url could not be read"),
    "no token": ("parameters/_k3s_shop_agent-token", None, "agent-token could not be read"),
    "an address without TLS": ("parameters/_k3s_shop_server-url", "http://10.0.1.10:6443", "not an https address"),
    "a version that is a channel": ("parameters/_k3s_shop_version", "latest", "not a K3s version"),
    "a token of another cluster": ("parameters/_k3s_shop_agent-token", f"K10{'cd' * 32}::x", "another cluster CA"),
    "a changed binary": ("releases/k3s", "#!/bin/sh\nevil\n", "the release says"),
    "no checksum of the binary": ("releases/sha256sum-amd64.txt", "00  other\n", 'the release says ""'),
    "no release": ("releases/k3s", None, "could not be downloaded"),
    "no metadata": ("metadata/instance-id", None, "did not tell the instance id"),
    "a server that lets nobody in": ("active", "activating", "did not join https://10.0.1.10:6443"),
}


@pytest.mark.parametrize(("name", "text", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_worker_that_cannot_join_says_why_and_powers_off(
    machine: Machine, name: str, text: str | None, reason: str
) -> None:
    if text is None:
        (machine.world / name).unlink()
    else:
        machine.write(name, text)
    assert not machine.boot()
    said = machine.read("console")
    assert re.search(r"cannot join shop: .*" + re.escape(reason), said), said
    if name.startswith("releases"):
        assert not (machine.world / "root/usr/local/bin/k3s").exists()
