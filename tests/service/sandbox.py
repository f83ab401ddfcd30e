"""A machine for the bootstrap scripts: a folder as its root, and stand-ins for what is not on this one.

The scripts themselves run, in a real shell. What they meet is files: `parameters/` is the Parameter Store, `metadata/`
the metadata service, `releases/` a place of K3s' releases, `server/` the K3s server that a worker asks. The programs in
stand_ins/ answer from them, and refuse what they do not know, so that a new call of a script cannot pass unnoticed.
A program in the world's own `bin/` goes before them.
"""

import base64
import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.conftest import ROOT

SCRIPTS = ROOT / "cloudformation" / "scripts"
INSTANCE = "i-0123456789abcdef0"
VERSION = "v1.33.5+k3s1"
BINARY = f"#!/bin/sh\necho 'k3s version {VERSION} (abc)'\n"
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CA_HASH = hashlib.sha256(CA.encode()).hexdigest()
TOKEN = "abcdef.0123456789abcdef"

STAND_INS = ROOT / "tests" / "service" / "stand_ins"


@dataclass
class Machine:
    """A machine that boots. `script`: one of cloudformation/scripts, or the path of another."""

    world: Path
    script: str
    environment: dict[str, str] = field(default_factory=dict)
    cluster: str = "shop"
    version: str = VERSION

    def __post_init__(self) -> None:
        for folder in ("bin", "root/run", "parameters", "metadata", self.release_folder, "server"):
            (self.world / folder).mkdir(parents=True)
        for name, text in {
            "metadata/.address": "http://metadata",
            "metadata/instance-id": INSTANCE,
            "metadata/instance-type": "t3.small",
            "metadata/availability-zone": "eu-central-1a",
            "metadata/region": "eu-central-1",
            "metadata/instance-life-cycle": "on-demand",
            "metadata/local-ipv4": "10.0.1.10",
            "server/cacerts": CA,
            "server/status": "200",
            "server/token": TOKEN,
            "server/version": f'{{\n  "major": "1",\n  "gitVersion": "{self.version}",\n  "gitCommit": "abc"\n}}',
            "releases-address": "https://releases",
            "machine": "x86_64",
            "cores": "2",
            "meminfo": "MemTotal:        1955840 kB\nMemFree:  1 kB\n",
            "active": "active",
            "journal": "",
        }.items():
            self.write(name, text)
        self.release(BINARY)

    @property
    def release_folder(self) -> str:
        return f"releases/{self.version.replace('+', '%2B')}"

    def release(self, binary: str) -> None:
        """What the release holds, with checksums that are right."""
        folder = self.release_folder
        for name, sums in (("k3s", "sha256sum-amd64.txt"), ("k3s-arm64", "sha256sum-arm64.txt")):
            self.write(f"{folder}/{name}", binary)
            self.write(f"{folder}/{sums}", f"{hashlib.sha256(binary.encode()).hexdigest()}  {name}\n00  {name}.tar\n")

    def write(self, name: str, text: str) -> None:
        (self.world / name).write_text(text)

    def program(self, name: str, text: str) -> None:
        (self.world / name).parent.mkdir(parents=True, exist_ok=True)
        self.write(name, text)
        (self.world / name).chmod(0o755)

    def parameter(self, name: str, value: str) -> None:
        """One of the cluster's own."""
        self.any_parameter(f"/k3s/{self.cluster}/{name}", value)

    def any_parameter(self, name: str, value: str) -> None:
        """By its whole name, as the stand-in for the AWS CLI looks for it."""
        self.write(f"parameters/{name.replace('/', '_')[:200]}", value)

    def read(self, name: str) -> str:
        """The text of a file; nothing where there is none."""
        path = self.world / name
        return path.read_text() if path.exists() else ""

    def exists(self, name: str) -> bool:
        return (self.world / name).exists()

    def unit_arguments(self, name: str) -> list[str]:
        """What a unit starts, as systemd reads it: continued lines, `%%` for `%`."""
        unit = self.read(f"root/etc/systemd/system/{name}.service").replace("\\\n", "")
        (line,) = [row for row in unit.splitlines() if row.startswith("ExecStart=")]
        assert "%" not in line.replace("%%", ""), "systemd takes a single % for a specifier of its own"
        return line.removeprefix("ExecStart=").replace("%%", "%").split()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script to its end."""
        environment = {
            "PATH": f"{self.world / 'bin'}:{STAND_INS}:{os.defpath}",
            "WORLD": str(self.world),
            "CLUSTER_ID": self.cluster,
            "K3S_RELEASES_URL": "https://releases",
            "BOOTSTRAP_ROOT": str(self.world / "root"),
            "BOOTSTRAP_METADATA": "http://metadata http://[metadata6]",
            "BOOTSTRAP_CONSOLE": str(self.world / "console"),
            "BOOTSTRAP_MEMINFO": str(self.world / "meminfo"),
            "BOOTSTRAP_DEADLINE_S": "0",
            "BOOTSTRAP_PATIENCE_S": "0",
            "BOOTSTRAP_RETRY_S": "0.05",
            **self.environment,
        }
        return subprocess.run(
            [SCRIPTS / self.script, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def publish_bundle(machine: Machine, files: dict[str, str], *, piece_length: int = 4096) -> str:
    """Put a bundle into the Parameter Store as cloudformation/cluster/bundle.js does; returns bundle-info."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mtime = 315_532_800  # one time for all, as in the real bundle
            archive.addfile(entry, io.BytesIO(text.encode()))
    text = base64.b64encode(packed.getvalue()).decode()
    pieces = [text[start : start + piece_length] for start in range(0, len(text), piece_length)]
    for index, piece in enumerate(pieces):
        machine.parameter(f"bundle_{index:02d}", piece)
    info = f"{len(pieces)} {hashlib.sha256(text.encode()).hexdigest()}"
    machine.parameter("bundle-info", info)
    return info
