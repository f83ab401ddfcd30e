"""server-bootstrap.sh in a sandbox: a new server, the same again, a new machine with the old data, and failures."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import ROOT
from tests.service.sandbox import BINARY, INSTANCE, SCRIPTS, VERSION, Machine, publish_bundle

RELEASE = "releases/v1.33.5%2Bk3s1"
SYNC = (SCRIPTS / "server-sync.sh").read_text()
VOLUME = "vol-0123456789abcdef0"
UNITS = "root/etc/systemd/system"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A fresh server with an empty data volume."""
    machine = Machine(tmp_path / "world", "server-bootstrap.sh")
    machine.environment = {
        "K3S_VERSION": VERSION,
        "DATA_VOLUME": VOLUME,
        "DATA_DEVICE": "/dev/sdf",
        "SYNC_ROOT": str(machine.world / "root"),
    }
    machine.write("metadata/instance-type", "t3.medium")
    nvme(machine, "nvme0n1", "vol0fedcba9876543210")  # the root volume
    nvme(machine, "nvme1n1", VOLUME.replace("-", ""))
    publish_bundle(machine, {"manifests/a.yaml": "# a\n", "server-sync.sh": SYNC}, piece_length=1000)
    return machine


def nvme(machine: Machine, name: str, serial: str) -> None:
    """An NVMe disk as the kernel shows it, its serial filled up with blanks."""
    folder = machine.world / "root/sys/block" / name / "device"
    folder.mkdir(parents=True)
    (folder / "serial").write_text(f"{serial:<24}\n")
    (machine.world / "root/dev").mkdir(exist_ok=True)
    machine.write(f"root/dev/{name}", "")


def xen(machine: Machine, name: str) -> None:
    """A machine without NVMe: disks have the names that they were attached under, or nearly."""
    shutil.rmtree(machine.world / "root/sys")
    machine.write(f"root/dev/{name}", "")


def boot(machine: Machine) -> str:
    """A boot that must succeed; what it said."""
    machine.write("console", "")
    ran = machine.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = machine.read("console")
    assert said.endswith("this server of shop is ready\n")
    return said


def refuse(machine: Machine) -> str:
    """A boot that must fail; the reason. The machine stays on: it holds the cluster's data."""
    ran = machine.run()
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert not machine.exists("off")
    last = machine.read("console").splitlines()[-1]
    assert last.startswith("k3s-autoscaler: this server of shop is not ready: ")
    assert last.endswith("; it tries again every minute")
    assert machine.exists(f"{UNITS}/k3s-autoscaler-boot.service"), "nothing else would try again"
    assert "enable k3s-autoscaler-boot.service" in machine.read("systemctl").splitlines()
    assert machine.read("systemctl").splitlines()[-1] == "start --no-block k3s-autoscaler-boot.service"
    return last


def test_the_exact_arguments_of_the_server(machine: Machine) -> None:
    machine.environment["EXTRA_SERVER_ARGUMENTS"] = "--disable=traefik"
    boot(machine)
    assert machine.unit_arguments("k3s") == [
        "/usr/local/bin/k3s",
        "server",
        "--node-name=server-shop",
        "--node-ip=10.0.1.10",
        "--tls-san=10.0.1.10",
        "--write-kubeconfig-mode=0600",
        "--secrets-encryption",
        "--node-taint=node-role.kubernetes.io/control-plane=true:NoSchedule",
        "--node-label=topology.kubernetes.io/region=eu-central-1",
        "--node-label=topology.kubernetes.io/zone=eu-central-1a",
        "--node-label=node.kubernetes.io/instance-type=t3.medium",
        f"--kubelet-arg=provider-id=aws:///eu-central-1a/{INSTANCE}",
        "--kubelet-arg=config=/etc/rancher/k3s/kubelet.yaml",
        "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<5%,imagefs.available<5%",
        "--disable=traefik",
    ]
    assert "RequiresMountsFor=/var/lib/rancher\n" in machine.read(f"{UNITS}/k3s.service")
    assert machine.read("root/usr/local/bin/k3s") == BINARY
    assert "memory: 747Mi" in machine.read("root/etc/rancher/k3s/kubelet.yaml"), "the control plane needs room too"


def test_the_units_are_enabled_so_that_a_reboot_brings_all_back(machine: Machine) -> None:
    boot(machine)
    done = machine.read("systemctl").splitlines()
    for unit in ("k3s.service", "k3s-autoscaler-boot.service", "k3s-autoscaler-sync.timer"):
        assert f"enable {unit}" in done
        assert machine.exists(f"{UNITS}/{unit}")
    assert "restart k3s-autoscaler-sync.timer" in done
    assert "OnUnitInactiveSec=60\n" in machine.read(f"{UNITS}/k3s-autoscaler-sync.timer")


def test_the_sync_knows_its_cluster_and_is_the_bundles(machine: Machine) -> None:
    boot(machine)
    assert machine.read("root/usr/local/lib/k3s-autoscaler/server-sync.sh") == SYNC
    settings = dict(line.split("=", 1) for line in machine.read("root/etc/k3s-autoscaler/server.env").splitlines())
    assert settings == {
        "CLUSTER_ID": "shop",
        "REGION": "eu-central-1",
        "SERVER_URL": "https://10.0.1.10:6443",
        "NODE_NAME": "server-shop",
        "PROVIDER_ID": f"aws:///eu-central-1a/{INSTANCE}",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv4",
    }


def test_traefik_is_pinned_to_the_server(machine: Machine) -> None:
    boot(machine)
    manifest = machine.read("root/var/lib/rancher/k3s/server/manifests/traefik-config.yaml")
    assert "kind: HelmChartConfig\n" in manifest
    assert '    nodeSelector:\n      node-role.kubernetes.io/control-plane: "true"\n' in manifest


def test_a_new_volume_is_formatted_once_and_mounted_at_every_boot(machine: Machine) -> None:
    boot(machine)
    assert machine.read("formats").splitlines() == [f"-q -L k3s-data {machine.world}/root/dev/nvme1n1"]
    assert machine.read("root/etc/fstab") == "UUID=new /var/lib/rancher auto defaults,nofail 0 2\n"
    assert machine.read("mounts").splitlines() == [f"{machine.world}/root/var/lib/rancher"]


@pytest.mark.parametrize("name", ["sdf", "xvdf"])
def test_a_machine_without_nvme_finds_the_volume_by_its_name(machine: Machine, name: str) -> None:
    xen(machine, name)
    boot(machine)
    assert machine.read("formats").splitlines() == [f"-q -L k3s-data {machine.world}/root/dev/{name}"]


def test_a_second_run_changes_nothing_and_restarts_nothing(machine: Machine) -> None:
    boot(machine)
    before = {path: path.read_text() for path in (machine.world / "root").rglob("*") if path.is_file()}
    machine.write("systemctl", "")
    machine.write("root/etc/rancher/k3s/k3s.yaml", "K3s' own, with certificates that it renews")
    before[machine.world / "root/etc/rancher/k3s/k3s.yaml"] = machine.read("root/etc/rancher/k3s/k3s.yaml")
    said = boot(machine)
    after = {path: path.read_text() for path in (machine.world / "root").rglob("*") if path.is_file()}
    assert after == before
    assert "restart --no-block k3s.service" not in machine.read("systemctl")
    assert machine.read("formats").count("\n") == machine.read("mounts").count("\n") == 1
    assert f"K3s {VERSION} is installed already" in said


def test_an_upgrade_installs_the_new_version_and_restarts(machine: Machine) -> None:
    boot(machine)
    machine.write("systemctl", "")
    machine.environment["K3S_VERSION"] = "v1.34.1+k3s1"
    (machine.world / RELEASE).rename(machine.world / "releases/v1.34.1%2Bk3s1")
    said = boot(machine)
    assert "K3s v1.34.1+k3s1 is downloaded and verified" in said
    # The stand-in's binary does not differ, but the real one would; so would any setting:
    machine.environment["EXTRA_SERVER_ARGUMENTS"] = "--disable=traefik"
    boot(machine)
    assert "restart --no-block k3s.service" in machine.read("systemctl").splitlines()


def test_a_new_machine_with_the_old_volume_is_the_same_server(machine: Machine, tmp_path: Path) -> None:
    boot(machine)
    data = machine.world / "root/var/lib/rancher"
    machine.write("root/etc/rancher/node/password", "known to the cluster")
    (data / "k3s/server/db").mkdir(parents=True)
    assert (data / "node/password").read_text() == "known to the cluster"

    other = Machine(tmp_path / "other", "server-bootstrap.sh", environment=dict(machine.environment))
    other.environment["SYNC_ROOT"] = str(other.world / "root")
    other.write("metadata/instance-id", "i-0fedcba9876543210")
    publish_bundle(other, {"server-sync.sh": SYNC})
    nvme(other, "nvme2n1", VOLUME.replace("-", ""))
    other.write("volume", machine.read("volume"))
    # The volume shows its files when it is mounted.
    other.program("bin/mount", f'#!/bin/bash\ncp -a {data}/. "$1"\n: >"$WORLD/mounted"\n')
    boot(other)
    assert not other.exists("formats")
    assert other.read("root/etc/rancher/node/password") == "known to the cluster"
    assert other.exists("root/var/lib/rancher/k3s/server/db")
    arguments = other.unit_arguments("k3s")
    assert "--node-name=server-shop" in arguments
    assert "--kubelet-arg=provider-id=aws:///eu-central-1a/i-0fedcba9876543210" in arguments


def test_another_volume_replaces_the_old_line_of_fstab(machine: Machine) -> None:
    (machine.world / "root/etc").mkdir()
    machine.write(
        "root/etc/fstab", "UUID=root / xfs defaults 0 1\nUUID=old /var/lib/rancher auto defaults,nofail 0 2\n"
    )
    machine.write("volume", 'UUID="other" TYPE="ext4"')
    boot(machine)
    assert machine.read("root/etc/fstab").splitlines() == [
        "UUID=root / xfs defaults 0 1",
        "UUID=other /var/lib/rancher auto defaults,nofail 0 2",
    ]
    assert not machine.exists("formats")


def test_without_a_data_volume_the_data_stays_on_the_root_volume(machine: Machine) -> None:
    machine.environment["DATA_VOLUME"] = ""
    boot(machine)
    assert not machine.exists("mounts")
    assert not machine.exists("formats")


def test_the_node_password_of_an_older_setup_moves_to_the_volume(machine: Machine) -> None:
    (machine.world / "root/etc/rancher/node").mkdir(parents=True)
    machine.write("root/etc/rancher/node/password", "old")
    boot(machine)
    assert machine.read("root/var/lib/rancher/node/password") == "old"
    assert machine.read("root/etc/rancher/node/password") == "old"


ADDRESSES = {
    "a name": ({"SERVER_ADDRESS": "k3s.internal"}, "https://k3s.internal:6443"),
    "an IPv6 address": ({"SERVER_ADDRESS": "2001:db8::10"}, "https://[2001:db8::10]:6443"),
}


@pytest.mark.parametrize(("settings", "url"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_a_given_address_is_published_instead(machine: Machine, settings: dict[str, str], url: str) -> None:
    machine.environment |= settings
    boot(machine)
    assert f"SERVER_URL={url}\n" in machine.read("root/etc/k3s-autoscaler/server.env")
    assert f"--tls-san={settings['SERVER_ADDRESS']}" in machine.unit_arguments("k3s")


def test_a_server_without_ipv4_is_reached_by_ipv6(machine: Machine) -> None:
    machine.write("metadata/.address", "http://[metadata6]")
    (machine.world / "metadata/local-ipv4").unlink()
    machine.write("metadata/ipv6", "2001:db8::10")
    boot(machine)
    settings = machine.read("root/etc/k3s-autoscaler/server.env")
    assert "SERVER_URL=https://[2001:db8::10]:6443\n" in settings
    assert "AWS_USE_DUALSTACK_ENDPOINT=true\n" in settings
    assert "--node-ip=2001:db8::10" in machine.unit_arguments("k3s")


FETCH_USER_DATA = """#!/bin/bash
case $* in
  "-fsSg -m 20 -X PUT "*" http://metadata/latest/api/token") printf token ;;
  "-fsSg -m 20 -H X-aws-ec2-metadata-token: token http://metadata/latest/user-data -o "*)
    printf 'echo "new user data"' >"${@: -1}" ;;
  *) exit 2 ;;
esac
"""


def test_the_boot_unit_runs_the_user_data_that_the_machine_has_then(machine: Machine) -> None:
    boot(machine)
    program = machine.read("root/usr/local/lib/k3s-autoscaler/boot").replace("/run/", f"{machine.world}/root/run/")
    machine.program("boot", program)
    machine.program("bin/curl", FETCH_USER_DATA)
    environment = {"PATH": f"{machine.world / 'bin'}:{os.defpath}"}
    command = [machine.world / "boot"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=True)
    assert ran.stdout == "new user data\n"


def without(name: str) -> Callable[[Machine], object]:
    return lambda machine: (machine.world / name).unlink()


def with_(name: str, text: str) -> Callable[[Machine], object]:
    return lambda machine: machine.write(name, text)


def data_on_the_root_volume(machine: Machine) -> None:
    (machine.world / "root/var/lib/rancher/k3s").mkdir(parents=True)


def another_under_our_name(machine: Machine) -> None:
    shutil.rmtree(machine.world / "root/sys/block/nvme1n1")
    machine.write("root/dev/sdf", "")


BUNDLE = "parameters/_k3s_shop_bundle"
FAILURES: dict[str, tuple[Callable[[Machine], object], str]] = {
    "a version that is a channel": (
        lambda machine: machine.environment.update(K3S_VERSION="stable"),
        'version "stable" is not a K3s version',
    ),
    "a pin that does not fit": (
        lambda machine: machine.environment.update(K3S_SHA256_AMD64="00" * 32),
        f"it is pinned to {'00' * 32}",
    ),
    "a changed binary": (with_(f"{RELEASE}/k3s", "evil"), "the release says"),
    "a volume that never comes": (
        lambda machine: shutil.rmtree(machine.world / "root/sys/block/nvme1n1"),
        f"the data volume {VOLUME} is not attached",
    ),
    "another volume under our name, on a machine whose disks tell their ids": (another_under_our_name, "not attached"),
    "no address": (with_("metadata/local-ipv4.status", "500"), "the metadata service did not tell the address"),
    "a volume with partitions": (with_("volume", 'PTTYPE="gpt"'), "holds what is no file system"),
    "a volume that cannot be read": (
        with_("blkid-fails", ""),
        f"it cannot be told what is on the data volume {VOLUME} (blkid ends with 8)",
    ),
    "a volume that cannot be formatted": (
        lambda machine: machine.program("bin/mkfs.xfs", "#!/bin/bash\nexit 1\n"),
        f"the data volume {VOLUME} could not be formatted",
    ),
    "a volume that cannot be mounted": (
        lambda machine: machine.program("bin/mount", "#!/bin/bash\nexit 32\n"),
        f"the data volume {VOLUME} could not be mounted",
    ),
    "data where the volume belongs": (data_on_the_root_volume, "/var/lib/rancher holds data"),
    "a K3s that does not start": (with_("active", "activating"), f"K3s {VERSION} did not start within 0 s"),
    "no bundle": (without(f"{BUNDLE}-info"), "the bundle /k3s/shop/bundle could not be fetched"),
    "a bundle with a piece missing": (
        without(f"{BUNDLE}_01"),
        "could not be fetched: An error occurred (ParameterNotFound)",
    ),
    "a bundle half updated": (with_(f"{BUNDLE}_01", "AAAA"), "do not have the SHA-256 of bundle-info"),
    "a bundle-info that is none": (with_(f"{BUNDLE}-info", "many"), 'bundle-info is "many"'),
}


@pytest.mark.parametrize(("spoil", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_server_that_is_not_ready_says_why_and_stays_on(
    machine: Machine, spoil: Callable[[Machine], object], reason: str
) -> None:
    spoil(machine)
    assert re.search(re.escape(reason), refuse(machine)), machine.read("console")


def test_after_a_failure_a_second_run_goes_on(machine: Machine) -> None:
    machine.write("active", "activating")
    refuse(machine)
    machine.write("active", "active")
    boot(machine)
    assert machine.read("formats").count("\n") == 1


def test_no_failure_formats_a_volume_that_holds_data(machine: Machine) -> None:
    for volume in (
        'UUID="a" TYPE="xfs"',
        'UUID="a" TYPE="ext4"',
        'PTTYPE="dos"',
        'UUID="a" LABEL="TYPE=x" USAGE="raid"',
    ):
        machine.write("volume", volume)
        machine.run()
        assert not machine.exists("formats"), volume


EMBED = """
const embedded = require("./scripts/embedded-scripts.js");
const values = { "self:service": "k3s-cluster", 'param:k3sServerArguments, ""': process.argv[1] };
embedded({ resolveVariable: async (name) => values[name] ?? "" }).then(
  (made) => console.log(JSON.stringify(made.serverUserData)),
  (error) => { console.error(error.message); process.exit(1); },
);
"""


def embed(arguments: str) -> subprocess.CompletedProcess[str]:
    """What cluster.yml would carry as the server's user data."""
    command = ["node", "-e", EMBED, "--", arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def joined(user_data: dict[str, Any]) -> str:
    """The text that CloudFormation makes of it, before the framework has taken its own escapes away."""
    separator, (before, reference, after) = user_data["Fn::Base64"]["Fn::Join"]
    assert (separator, reference) == ("", {"Ref": "ServerData"})
    return f"{before}{VOLUME}{after}".replace("\\${", "${")


def test_user_data_quotes_every_setting_and_parses(tmp_path: Path) -> None:
    ran = embed("--node-label=a='$(reboot)'")
    assert ran.returncode == 0, ran.stderr
    script = tmp_path / "user-data"
    script.write_text(joined(json.loads(ran.stdout)))
    head = script.read_text().split("set -eu", 1)[0] + 'printf "%s %s" "$DATA_VOLUME" "$EXTRA_SERVER_ARGUMENTS"'
    shown = subprocess.run(["bash", "-c", head], capture_output=True, text=True, timeout=20, check=True)
    assert shown.stdout == f"{VOLUME} --node-label=a='$(reboot)'"
    subprocess.run(["bash", "-n", script], timeout=20, check=True)


def test_user_data_that_ec2_would_not_take_is_refused_at_packaging() -> None:
    ran = embed("--x=" + "y" * 4000)
    assert ran.returncode == 1
    assert "EC2 takes 16384" in ran.stderr
