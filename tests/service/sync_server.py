"""A K3s server for server-sync.sh: the script in a sandbox, with a cluster and a Parameter Store behind it."""

import base64
import json
from pathlib import Path

from tests.service.sandbox import CA_HASH, STAND_INS, VERSION, Machine, publish_bundle

PROVIDER_ID = "aws:///eu-central-1a/i-0123456789abcdef0"
ADD_ONS = ("coredns", "metrics-server", "local-path-provisioner")
MANIFESTS = "root/var/lib/rancher/k3s/server/manifests/k3s-autoscaler"
STATE = "root/var/lib/rancher/k3s-autoscaler/sync"
SELF = "root/usr/local/lib/k3s-autoscaler/server-sync.sh"
START_S = 1_800_000_000
FIRST = f"K10{CA_HASH}::000001.0000000000000001"
SECOND = f"K10{CA_HASH}::000002.0000000000000002"


class Server(Machine):
    """A K3s server with a cluster behind it and the sync script installed."""

    now_s = START_S

    def minute(self, *, code: int = 0) -> list[str]:
        """One run; what it said in the journal."""
        self.environment["SYNC_NOW"] = str(self.now_s)
        self.write("puts", "")
        ran = self.run()
        assert ran.returncode == code, ran.stdout + ran.stderr
        assert ran.stderr == ""
        self.now_s += 60
        return ran.stdout.splitlines()

    def published(self) -> list[str]:
        """What the last minute wrote to the Parameter Store, in order."""
        return [name.removeprefix("/k3s/shop/") for name in self.read("puts").splitlines()]

    def secret(self) -> dict[str, str]:
        """The data of the Secret as the last apply gave it; nothing before."""
        body = json.loads(self.read("cluster/secret.json") or '{"data": {}}')
        return {name: base64.b64decode(value).decode() for name, value in body["data"].items()}

    def manifests(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in (self.world / MANIFESTS).iterdir()}


def fresh_server(world: Path) -> Server:
    """A server that starts for the first time; the service is deployed already."""
    server = Server(world, "server-sync.sh")
    server.environment = {
        "SYNC_ROOT": str(server.world / "root"),
        "SYNC_K3S": str(STAND_INS / "k3s"),
        "REGION": "eu-central-1",
        "SERVER_URL": "https://10.0.1.10:6443",
        "NODE_NAME": "server-shop",
        "PROVIDER_ID": PROVIDER_ID,
    }
    for folder in ("raw", "nodes", "deployments"):
        (server.world / "cluster" / folder).mkdir(parents=True)
    server.write("cluster/raw/readyz", "ok")
    server.write("cluster/raw/version", json.dumps({"major": "1", "gitVersion": VERSION}, indent=2))
    server.write("cluster/ca-hash", CA_HASH)
    server.write("cluster/tokens", "0")
    server.write("cluster/refused", "")
    server.write("cluster/writes", "")
    server.write("cluster/nodes/server-shop", PROVIDER_ID)
    for name in ADD_ONS:
        server.write(f"cluster/deployments/{name}", "")
    publish_bundle(server, {"manifests/a.yaml": "a: 1\n", "manifests/b.yaml": "b: 1\n"}, piece_length=100)
    server.parameter("webhook-url", "https://api.example/alerts")
    server.parameter("webhook-token", "current\nprevious")
    server.write("parameters/_k3s_shop_webhook-token.secure", "")
    server.program(SELF, "#!/bin/bash\n")
    return server
