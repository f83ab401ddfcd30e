"""worker-bootstrap.sh in a sandbox: every way to join, and every way not to."""

import base64
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoscaler.decide.capacity.catalogue import CATALOGUE, MIB, SEEN_SHARE, nominal_resources
from autoscaler.policy import Policy
from tests.service.sandbox import BINARY, CA_HASH, INSTANCE, STAND_INS, TOKEN, VERSION, Machine

RELEASE = "releases/v1.33.5%2Bk3s1"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A fresh worker of a cluster that is as it should be."""
    machine = Machine(tmp_path / "world", "worker-bootstrap.sh")
    machine.parameter("server-url", "https://10.0.1.10:6443")
    machine.parameter("version", VERSION)
    machine.parameter("ca-hash", CA_HASH)
    machine.parameter("agent-token", f"K10{CA_HASH}::{TOKEN}")
    machine.write("parameters/_k3s_shop_agent-token.secure", "")
    return machine


def boot(machine: Machine) -> bool:
    """Whether the machine is still on. A machine that is on has joined, and the other way round."""
    ran = machine.run()
    off = machine.exists("off")
    assert (ran.returncode != 0) == off, ran.stdout + ran.stderr
    assert ("joined" in machine.read("console")) != off
    return not off


# ------------------------------------------------------------------------------------------------------------- joining


def test_the_exact_arguments_of_the_agent(machine: Machine) -> None:
    machine.environment["EXTRA_AGENT_ARGUMENTS"] = "--node-taint=gpu=true:NoSchedule --kubelet-arg=max-pods=50"
    assert boot(machine)
    arguments = machine.unit_arguments("k3s-agent")
    sys.stdout.write("\n".join(arguments))  # pytest -s -k exact_arguments_of_the_agent
    assert arguments == [
        "/usr/local/bin/k3s",
        "agent",
        "--server=https://10.0.1.10:6443",
        "--token-file=/etc/rancher/k3s/agent-token",
        f"--node-name=worker-{INSTANCE}",
        "--node-ip=10.0.1.10",
        "--node-label=topology.kubernetes.io/region=eu-central-1",
        "--node-label=topology.kubernetes.io/zone=eu-central-1a",
        "--node-label=node.kubernetes.io/instance-type=t3.small",
        "--node-label=k3s-autoscaler/capacity-type=on-demand",
        "--node-label=k3s-autoscaler/managed=true",
        f"--kubelet-arg=provider-id=aws:///eu-central-1a/{INSTANCE}",
        "--kubelet-arg=config=/etc/rancher/k3s/kubelet.yaml",
        "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<5%,imagefs.available<5%",
        "--node-taint=gpu=true:NoSchedule",
        "--kubelet-arg=max-pods=50",
    ]
    assert "start --no-block k3s-agent.service" in machine.read("systemctl").splitlines()
    assert f"joined https://10.0.1.10:6443 as worker-{INSTANCE} with K3s {VERSION}" in machine.read("console")
    assert machine.read("root/usr/local/bin/k3s") == BINARY


def test_the_token_is_only_in_a_file_of_root(machine: Machine) -> None:
    assert boot(machine)
    path = machine.world / "root/etc/rancher/k3s/agent-token"
    assert path.read_text() == f"K10{CA_HASH}::{TOKEN}"
    assert path.stat().st_mode & 0o077 == 0
    holders = [found for found in machine.world.rglob("*") if found.is_file() and TOKEN in found.read_text()]
    given = {"_k3s_shop_agent-token", "token"}  # the Parameter Store, and what the server knows
    assert [found for found in holders if found.name not in given] == [path]


def test_on_a_dual_stack_subnet_the_node_has_its_ipv4_address(machine: Machine) -> None:
    machine.write("metadata/ipv6", "2001:db8::23")
    assert boot(machine)
    addresses = [a for a in machine.unit_arguments("k3s-agent") if a.startswith("--node-ip")]
    assert addresses == ["--node-ip=10.0.1.10"]


def test_a_metadata_service_that_fails_does_not_mean_that_there_is_no_ipv4(machine: Machine) -> None:
    machine.write("metadata/ipv6", "2001:db8::23")
    machine.write("metadata/local-ipv4.status", "503")
    assert not boot(machine)
    assert "the metadata service did not tell the address: " in machine.read("console")


def test_a_bare_token_is_bound_to_the_clusters_ca(machine: Machine) -> None:
    machine.parameter("agent-token", TOKEN)
    assert boot(machine)
    assert machine.read("root/etc/rancher/k3s/agent-token") == f"K10{CA_HASH}::{TOKEN}"


def pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("ca_hash", ["of the file", "of the token", None])
def test_the_hash_that_joins_is_the_tokens_own(machine: Machine, ca_hash: str | None) -> None:
    """Of a bundle K3s hashes the root alone: `sha256sum server-ca.crt` is another hash than the token's."""
    bundle = pem(b"intermediate") + pem(b"root")
    root_hash = hashlib.sha256(b"root").hexdigest()
    machine.write("server/cacerts", bundle)
    machine.parameter("agent-token", f"K10{root_hash}::{TOKEN}")
    if ca_hash is None:
        (machine.world / "parameters/_k3s_shop_ca-hash").unlink()
    else:
        file_hash = hashlib.sha256(bundle.encode()).hexdigest()
        machine.parameter("ca-hash", file_hash if ca_hash == "of the file" else root_hash)
    assert boot(machine)
    assert machine.read("root/etc/rancher/k3s/agent-token") == f"K10{root_hash}::{TOKEN}"


@pytest.mark.parametrize(
    ("life_cycle", "label"), [("spot", "spot"), ("on-demand", "on-demand"), ("capacity-block", "on-demand")]
)
def test_the_capacity_type_is_what_the_metadata_service_tells(machine: Machine, life_cycle: str, label: str) -> None:
    machine.write("metadata/instance-life-cycle", life_cycle)
    assert boot(machine)
    assert f"--node-label=k3s-autoscaler/capacity-type={label}" in machine.unit_arguments("k3s-agent")


RESERVED = {
    "a t3.small": (1_955_840, 2, ["70m", "247Mi", "40m", "147Mi"]),
    "8 GiB": (8_000_000, 2, ["70m", "395Mi", "40m", "295Mi"]),
    "64 GiB reserve no more than 16": (66_000_000, 16, ["210m", "609Mi", "110m", "509Mi"]),
}


@pytest.mark.parametrize(("memory_kib", "cores", "reserved"), RESERVED.values(), ids=RESERVED.keys())
def test_reservations_grow_with_the_machine(machine: Machine, memory_kib: int, cores: int, reserved: list[str]) -> None:
    machine.write("meminfo", f"MemTotal: {memory_kib} kB\n")
    machine.write("cores", str(cores))
    assert boot(machine)
    kubelet = machine.read("root/etc/rancher/k3s/kubelet.yaml")
    assert re.findall(r"(?:cpu|memory): (.*)", kubelet) == reserved


@pytest.mark.parametrize("instance_type", ["t3.micro", "t3.small", "m5.2xlarge", "r5.xlarge"])
def test_what_is_left_for_pods_is_what_the_catalogue_counts_on(machine: Machine, instance_type: str) -> None:
    known, counted_on = CATALOGUE[instance_type], nominal_resources(instance_type, Policy(version=1))
    seen_mib = known.memory_mib * SEEN_SHARE
    machine.write("meminfo", f"MemTotal: {int(seen_mib * 1024)} kB\n")
    machine.write("cores", str(known.cpu_millicores // 1000))
    assert boot(machine)
    kubelet = machine.read("root/etc/rancher/k3s/kubelet.yaml")
    cpu, memory = (sum(map(int, re.findall(rf"{name}: (\d+)", kubelet))) for name in ("cpu", "memory"))
    (eviction,) = (a for a in machine.unit_arguments("k3s-agent") if a.startswith("--kubelet-arg=eviction-hard="))
    eviction_mib = int(re.findall(r"memory\.available<(\d+)Mi", eviction)[0])
    assert counted_on.cpu_millicores == known.cpu_millicores - cpu
    assert counted_on.memory_bytes / MIB == pytest.approx(seen_mib - memory - eviction_mib, abs=2)


def test_pods_may_end_before_the_machine_does(machine: Machine) -> None:
    assert boot(machine)
    kubelet = machine.read("root/etc/rancher/k3s/kubelet.yaml").splitlines()
    assert {"shutdownGracePeriod: 60s", "shutdownGracePeriodCriticalPods: 15s"} <= set(kubelet)
    assert "InhibitDelayMaxSec=60\n" in machine.read("root/etc/systemd/logind.conf.d/zz-k3s-autoscaler.conf")
    assert "try-reload-or-restart systemd-logind.service" in machine.read("systemctl")


def test_registries_come_from_their_parameter(machine: Machine) -> None:
    machine.write("parameters/_k3s_shop_registries", 'mirrors:\n  "*":\n')
    machine.environment["REGISTRIES_PARAMETER"] = "/k3s/shop/registries"
    assert boot(machine)
    assert machine.read("root/etc/rancher/k3s/registries.yaml") == 'mirrors:\n  "*":\n'


def test_without_registries_none_are_written_and_those_of_the_image_stay(machine: Machine) -> None:
    (machine.world / "root/etc/rancher/k3s").mkdir(parents=True)
    machine.write("root/etc/rancher/k3s/registries.yaml", "the image's")
    assert boot(machine)
    assert machine.read("root/etc/rancher/k3s/registries.yaml") == "the image's"


def test_an_image_that_holds_the_version_downloads_nothing(machine: Machine) -> None:
    machine.program("root/usr/local/bin/k3s", BINARY)
    assert boot(machine)
    assert "releases" not in machine.read("curl")


def test_an_image_with_another_version_gets_the_servers(machine: Machine) -> None:
    machine.program("root/usr/local/bin/k3s", BINARY.replace("v1.33.5", "v1.32.9"))
    assert boot(machine)
    assert machine.read("root/usr/local/bin/k3s") == BINARY


def test_an_arm_machine_takes_the_arm_build(machine: Machine) -> None:
    machine.write("machine", "aarch64")
    (machine.world / RELEASE / "k3s").unlink()
    assert boot(machine)


def test_a_machine_without_ipv4_asks_the_ipv6_metadata_and_dual_stack_endpoints(machine: Machine) -> None:
    machine.write("metadata/.address", "http://[metadata6]")
    machine.parameter("server-url", "https://[2001:db8::10]:6443")
    (machine.world / "metadata/local-ipv4").unlink()
    machine.write("metadata/ipv6", "2001:db8::23")
    assert boot(machine)
    assert machine.read("dual-stack") == "true\n"
    assert "--node-ip=2001:db8::23" in machine.unit_arguments("k3s-agent")
    assert "--server=https://[2001:db8::10]:6443" in machine.unit_arguments("k3s-agent")


LATE = f"""#!/bin/bash
# The third question for the version finds one.
if [ "$(grep -c /version "$WORLD/aws")" = 2 ]; then mv "$WORLD/version" "$WORLD/parameters/_k3s_shop_version"; fi
exec {STAND_INS}/aws "$@"
"""


def test_what_is_not_there_yet_is_waited_for(machine: Machine) -> None:
    machine.environment["BOOTSTRAP_DEADLINE_S"] = "20"
    (machine.world / "parameters/_k3s_shop_version").rename(machine.world / "version")
    machine.program("bin/aws", LATE)
    assert boot(machine)
    assert machine.read("aws").count("/version") >= 3


def test_a_token_that_was_renewed_meanwhile_is_taken(machine: Machine) -> None:
    machine.environment |= {"BOOTSTRAP_DEADLINE_S": "20", "BOOTSTRAP_PATIENCE_S": "10"}
    renewed = "fedcba.fedcba9876543210"
    machine.write("server/token", renewed)
    publish = f'printf "K10{CA_HASH}::{renewed}" >"$WORLD/parameters/_k3s_shop_agent-token"'
    machine.program("server/on-version", f"#!/bin/bash\n{publish}\n")
    assert boot(machine)
    assert machine.read("root/etc/rancher/k3s/agent-token") == f"K10{CA_HASH}::{renewed}"


def test_a_version_that_the_server_publishes_meanwhile_is_taken(machine: Machine) -> None:
    machine.environment |= {"BOOTSTRAP_DEADLINE_S": "20", "BOOTSTRAP_PATIENCE_S": "10"}
    machine.parameter("version", "v1.32.9+k3s1")
    publish = f'printf "{VERSION}" >"$WORLD/parameters/_k3s_shop_version"'
    machine.program("server/on-version", f"#!/bin/bash\n{publish}\n")
    assert boot(machine)
    assert f"with K3s {VERSION}" in machine.read("console")


@pytest.mark.parametrize("status", ["403", "404"])
def test_a_server_that_hides_its_version_leaves_the_judgement_to_the_agent(machine: Machine, status: str) -> None:
    machine.write("server/status", status)
    assert boot(machine)


def test_a_bundle_of_cas_is_left_to_the_agent_and_no_token_is_shown(machine: Machine) -> None:
    machine.write("server/cacerts", machine.read("server/cacerts") * 2)
    assert boot(machine)
    assert "/version" not in machine.read("curl").replace("sha256sum", "")


# --------------------------------------------------------------------------------------------------------- not joining


def without(name: str) -> Callable[[Machine], object]:
    return lambda machine: (machine.world / name).unlink()


def with_(name: str, text: str) -> Callable[[Machine], object]:
    return lambda machine: machine.write(name, text)


PARAMETER = "parameters/_k3s_shop_"


def bare_token(ca_hash: str | None) -> Callable[[Machine], object]:
    """A token without K10, and what stands in ca-hash beside it."""

    def spoil(machine: Machine) -> None:
        machine.parameter("agent-token", TOKEN)
        if ca_hash is None:
            (machine.world / f"{PARAMETER}ca-hash").unlink()
        else:
            machine.parameter("ca-hash", ca_hash)

    return spoil


FAILURES: dict[str, tuple[Callable[[Machine], object], str]] = {
    "no server address": (without(PARAMETER + "server-url"), "there is no parameter /k3s/shop/server-url"),
    "no token": (without(PARAMETER + "agent-token"), "there is no parameter /k3s/shop/agent-token"),
    "a parameter that the role may not read": (
        with_(PARAMETER + "version.denied", ""),
        "this machine's role may not read the parameter /k3s/shop/version",
    ),
    "no Parameter Store": (
        with_("aws-fails", "Could not connect to the endpoint URL"),
        "/k3s/shop/server-url could not be read: Could not connect",
    ),
    "no registries": (
        lambda machine: machine.environment.update(REGISTRIES_PARAMETER="/k3s/shop/registries"),
        "there is no parameter /k3s/shop/registries",
    ),
    "an address without TLS": (with_(PARAMETER + "server-url", "http://10.0.1.10:6443"), "not an https address"),
    "an address with a command": (with_(PARAMETER + "server-url", "https://a:6443 --x"), "not an https address"),
    "a version that is a channel": (with_(PARAMETER + "version", "latest"), "not a K3s version such as"),
    "a bare token without a hash": (bare_token(None), "there is no parameter /k3s/shop/ca-hash"),
    "a hash that is none": (bare_token("sha256:1"), "ca-hash is not a SHA-256"),
    "a bare token and another cluster's hash": (bare_token("cd" * 32), "another cluster CA"),
    "a token of another cluster": (with_(PARAMETER + "agent-token", f"K10{'cd' * 32}::x"), "another cluster CA"),
    "a token that lost a part of its hash": (with_(PARAMETER + "agent-token", f"K10{'cd' * 31}::x"), "no SHA-256"),
    "an expired token": (with_("server/token", "other"), "agent-token: it has expired or was revoked"),
    "a version mismatch": (
        with_("server/version", '{"gitVersion": "v1.34.1+k3s1"}'),
        "version mismatch: the server runs K3s v1.34.1+k3s1, the parameter /k3s/shop/version says v1.33.5+k3s1",
    ),
    "an unreachable server": (
        with_("server/unreachable", ""),
        "the server https://10.0.1.10:6443 cannot be reached: curl: (28)",
    ),
    "a server that is not ready": (with_("server/status", "503"), "cannot be reached: HTTP status 503"),
    "somebody else's server": (
        with_("server/cacerts", "-----BEGIN CERTIFICATE-----\nother\n"),
        "shows another cluster CA",
    ),
    "a changed binary": (with_(f"{RELEASE}/k3s", "#!/bin/sh\nevil\n"), "the release says"),
    "no checksum of the binary": (with_(f"{RELEASE}/sha256sum-amd64.txt", "00  other\n"), 'the release says ""'),
    "no release": (without(f"{RELEASE}/k3s"), "K3s v1.33.5+k3s1 could not be downloaded"),
    "no checksums": (without(f"{RELEASE}/sha256sum-amd64.txt"), "the checksums of K3s v1.33.5+k3s1 could not be"),
    "no metadata service": (with_("metadata/.address", "nowhere"), "the metadata service did not answer"),
    "no instance id": (without("metadata/instance-id"), "did not tell the instance id"),
    "a processor without a build": (with_("machine", "riscv64"), "K3s has no build for riscv64"),
    "a systemd that refuses": (with_("systemctl-fails", ""), 'the command "systemctl daemon-reload" failed'),
    "an agent that does not join": (with_("active", "activating"), "did not join https://10.0.1.10:6443 within 0 s"),
}


@pytest.mark.parametrize(("spoil", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_worker_that_cannot_join_says_why_and_powers_off(
    machine: Machine, spoil: Callable[[Machine], object], reason: str
) -> None:
    spoil(machine)
    assert not boot(machine)
    last = machine.read("console").splitlines()[-1]
    assert re.fullmatch(
        r"k3s-autoscaler: this worker cannot join shop: .*" + re.escape(reason) + ".*; powering off", last
    ), last
    assert TOKEN not in machine.read("console")


def test_the_agents_own_last_error_is_told(machine: Machine) -> None:
    machine.write("active", "activating")
    machine.write("journal", 'level=info msg="a"\nlevel=error msg="no route"\nlevel=info msg="b"\n')
    assert not boot(machine)
    assert 'level=error msg="no route"; powering off' in machine.read("console")


@pytest.mark.parametrize("what", ["binary", "checksums"])
def test_a_download_that_is_not_the_releases_is_not_kept(machine: Machine, what: str) -> None:
    machine.write(f"{RELEASE}/k3s" if what == "binary" else f"{RELEASE}/sha256sum-amd64.txt", "changed")
    assert not boot(machine)
    assert not list((machine.world / "root/usr/local/bin").iterdir())


@pytest.mark.parametrize(("pin", "joins"), [(hashlib.sha256(BINARY.encode()).hexdigest(), True), ("00" * 32, False)])
def test_a_pinned_digest_holds_for_an_image_too(machine: Machine, pin: str, joins: bool) -> None:
    machine.program("root/usr/local/bin/k3s", BINARY)
    machine.environment["K3S_SHA256_AMD64"] = pin
    assert boot(machine) == joins
    assert joins or f"it is pinned to {pin}" in machine.read("console")


@pytest.mark.parametrize("tool", ["aws", "curl"])
def test_an_image_without_a_tool_says_which(machine: Machine, tool: str) -> None:
    for program in (*STAND_INS.iterdir(), *(Path("/usr/bin") / name for name in ("bash", "mktemp", "tee"))):
        if program.name != tool:
            (machine.world / "bin" / program.name).symlink_to(program)
    machine.environment["PATH"] = str(machine.world / "bin")
    assert not boot(machine)
    assert f"the image lacks the program {tool}" in machine.read("console")
