"""server-sync.sh in a sandbox: what a minute changes, and what a quiet one leaves alone."""

import base64
import os
import time
from pathlib import Path

import pytest

from tests.service.k3s_server import serving
from tests.service.sandbox import CA_HASH, SCRIPTS, VERSION, publish_bundle
from tests.service.sync_server import (
    ADD_ONS,
    FIRST,
    MANIFESTS,
    PROVIDER_ID,
    SECOND,
    SELF,
    START_S,
    STATE,
    Server,
    fresh_server,
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return fresh_server(tmp_path / "world")


# ----------------------------------------------------------------------------------------------------- minute by minute


def test_the_first_minute_does_everything(server: Server) -> None:
    said = server.minute()
    assert server.published() == ["server-url", "version", "ca-hash", "agent-token"]
    assert server.read("parameters/_k3s_shop_server-url") == "https://10.0.1.10:6443"
    assert server.read("parameters/_k3s_shop_version") == VERSION
    assert server.read("parameters/_k3s_shop_ca-hash") == CA_HASH
    assert server.read("parameters/_k3s_shop_agent-token") == FIRST
    assert server.manifests() == {"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"}
    assert server.secret() == {"url": "https://api.example/alerts", "token": "current"}
    assert [server.read(f"cluster/deployments/{name}") for name in ADD_ONS] == ["true"] * 3
    assert len(said) == 1 + 4 + 1 + 3, said


def test_a_quiet_minute_asks_once_writes_nothing_and_says_nothing(server: Server) -> None:
    server.minute()
    writes = server.read("cluster/writes")
    before = {path: path.stat().st_mtime_ns for path in (server.world / "root").rglob("*") if path.is_file()}
    server.write("aws", "")
    server.write("k3s", "")
    assert server.minute() == []
    assert server.published() == []
    assert server.read("cluster/writes") == writes
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert server.read("aws").count("\n") == 1, "one call to AWS a minute"
    assert server.read("k3s").count("\n") == 5, "five to the API server"


def test_the_tokens_are_in_no_argument_and_no_line(server: Server) -> None:
    said = server.minute()
    everything = "\n".join([*said, server.read("aws"), server.read("k3s")])
    for secret in ("000001.0000000000000001", "current", base64.b64encode(b"current").decode()):
        assert secret not in everything
    assert server.exists("parameters/_k3s_shop_agent-token.secure"), "a SecureString"
    kept = [path for path in (server.world / "root").rglob("*") if path.is_file() and FIRST in path.read_text()]
    assert kept == []


def test_the_token_is_renewed_at_half_of_its_life(server: Server) -> None:
    server.minute()
    server.now_s = START_S + 43_200 - 1
    assert server.minute() == []
    server.now_s = START_S + 43_200
    assert server.minute() == ["/k3s/shop/agent-token is published"]
    assert server.read("parameters/_k3s_shop_agent-token") == SECOND
    assert server.minute() == []


@pytest.mark.parametrize("left", ["", "K10somebody::elses"], ids=["deleted", "overwritten"])
def test_a_token_that_is_not_ours_is_replaced(server: Server, left: str) -> None:
    server.minute()
    if left:
        server.parameter("agent-token", left)
    else:
        (server.world / "parameters/_k3s_shop_agent-token").unlink()
    assert server.minute() == ["/k3s/shop/agent-token is published"]
    assert server.read("parameters/_k3s_shop_agent-token") == SECOND


def test_a_killed_renewal_is_made_again(server: Server) -> None:
    server.minute()
    for name in ("agent-token.sha256", "agent-token.made-at"):
        for path in (server.world / STATE).glob(name):
            path.unlink()
    server.minute()
    assert server.read("parameters/_k3s_shop_agent-token") == SECOND
    assert server.minute() == []


def test_a_new_address_and_version_are_published(server: Server) -> None:
    server.minute()
    server.environment["SERVER_URL"] = "https://10.0.1.99:6443"
    server.write("cluster/raw/version", '{"gitVersion": "v1.34.1+k3s1"}')
    assert server.minute() == ["/k3s/shop/server-url is published", "/k3s/shop/version is published"]
    assert server.read("parameters/_k3s_shop_version") == "v1.34.1+k3s1"


def test_a_parameter_that_somebody_changed_is_set_right(server: Server) -> None:
    server.minute()
    server.parameter("version", "v1.0.0+k3s1")
    server.parameter("ca-hash", "00" * 32)
    server.minute()
    assert server.published() == ["version", "ca-hash"]


# --------------------------------------------------------------------------------------------------------------- bundle


def test_a_changed_bundle_changes_only_what_differs_and_with_a_new_time(server: Server) -> None:
    server.minute()
    kept = (server.world / MANIFESTS / "b.yaml").stat()
    changed = (server.world / MANIFESTS / "a.yaml").stat()
    publish_bundle(server, {"manifests/a.yaml": "a: 2\n", "manifests/b.yaml": "b: 1\n"})
    (line,) = server.minute()
    assert line.startswith("the bundle ")
    assert server.manifests() == {"a.yaml": "a: 2\n", "b.yaml": "b: 1\n"}
    assert (server.world / MANIFESTS / "b.yaml").stat().st_mtime_ns == kept.st_mtime_ns
    # K3s sees a change by the file's time, and every file in a bundle has the same one.
    assert (server.world / MANIFESTS / "a.yaml").stat().st_mtime_ns > changed.st_mtime_ns
    assert time.time() - (server.world / MANIFESTS / "a.yaml").stat().st_mtime < 600


def test_a_manifest_that_left_the_bundle_becomes_empty_so_that_k3s_removes_its_objects(server: Server) -> None:
    server.minute()
    publish_bundle(server, {"manifests/a.yaml": "a: 1\n"})
    server.minute()
    left = server.manifests()
    assert left["a.yaml"] == "a: 1\n"
    assert left["b.yaml"].startswith("# Removed")
    assert left["b.yaml"].count("\n") == 1
    emptied = (server.world / MANIFESTS / "b.yaml").stat().st_mtime_ns
    publish_bundle(server, {"manifests/a.yaml": "a: 3\n"})
    server.minute()
    assert (server.world / MANIFESTS / "b.yaml").stat().st_mtime_ns == emptied
    publish_bundle(server, {"manifests/a.yaml": "a: 3\n", "manifests/b.yaml": "b: 2\n"})
    server.minute()
    assert server.manifests() == {"a.yaml": "a: 3\n", "b.yaml": "b: 2\n"}


def test_a_manifest_that_somebody_else_put_beside_ours_stays(server: Server) -> None:
    other = server.world / MANIFESTS.removesuffix("/k3s-autoscaler") / "traefik-config.yaml"
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    server.minute()
    publish_bundle(server, {"manifests/a.yaml": "a: 2\n"})
    server.minute()
    assert other.read_text() == "theirs"


def test_the_bundle_renews_the_script_itself(server: Server) -> None:
    script = "#!/bin/bash\necho new\n"
    publish_bundle(server, {"manifests/a.yaml": "a: 1\n", "server-sync.sh": script})
    server.minute()
    assert server.read(SELF) == script
    assert os.access(server.world / SELF, os.X_OK)


def test_a_half_updated_bundle_waits_for_the_next_minute(server: Server) -> None:
    server.minute()
    before = server.manifests()
    files = {"manifests/a.yaml": "a: 2\n" * 40, "manifests/c.yaml": "c: 1\n"}
    publish_bundle(server, files, piece_length=60)
    whole = server.read("parameters/_k3s_shop_bundle_01")
    server.parameter("bundle_01", "AAAA")
    (line,) = server.minute(code=1)
    assert "do not have the SHA-256" in line
    assert server.manifests() == before
    server.parameter("bundle_01", whole)
    server.minute()
    assert server.manifests()["c.yaml"] == "c: 1\n"


def test_without_a_bundle_nothing_is_unpacked(server: Server) -> None:
    (server.world / "parameters/_k3s_shop_bundle-info").unlink()
    server.minute()
    assert not server.exists(MANIFESTS)


# -------------------------------------------------------------------------------------------------------------- webhook


@pytest.mark.parametrize("missing", ["webhook-url", "webhook-token"])
def test_before_the_service_is_deployed_alertmanager_waits_and_that_is_said_once(server: Server, missing: str) -> None:
    value = server.read(f"parameters/_k3s_shop_{missing}")
    (server.world / f"parameters/_k3s_shop_{missing}").unlink()
    assert [line for line in server.minute() if "Alertmanager waits" in line]
    assert server.minute() == []
    assert server.secret() == {}
    server.parameter(missing, value)
    assert server.minute() == ["Alertmanager's webhook address and token are in place"]


def test_a_rotated_token_reaches_alertmanager(server: Server) -> None:
    server.minute()
    server.parameter("webhook-token", "next\ncurrent")
    assert server.minute() == ["Alertmanager's webhook address and token are in place"]
    assert server.secret()["token"] == "next"


def test_a_parameter_that_vanished_leaves_the_secret(server: Server) -> None:
    server.minute()
    (server.world / "parameters/_k3s_shop_webhook-token").unlink()
    server.minute()
    assert server.secret()["token"] == "current"


# ---------------------------------------------------------------------------------------------------- add-ons, the Node


def test_an_add_on_that_k3s_set_back_is_pinned_again(server: Server) -> None:
    server.minute()
    server.write("cluster/deployments/coredns", "")
    assert server.minute() == ["coredns runs on the server from now on"]


def test_an_add_on_that_is_disabled_is_no_failure(server: Server) -> None:
    for name in ADD_ONS[1:]:
        (server.world / "cluster/deployments" / name).unlink()
    said = server.minute()
    assert [line for line in said if "from now on" in line] == ["coredns runs on the server from now on"]


def test_a_new_machine_registers_its_node_anew(server: Server) -> None:
    server.minute()
    server.write("cluster/nodes/server-shop", "aws:///eu-central-1a/i-0old")
    (line,) = server.minute()
    assert "was aws:///eu-central-1a/i-0old; K3s starts anew" in line
    assert not server.exists("cluster/nodes/server-shop")
    assert server.read("systemctl").splitlines() == ["restart --no-block k3s.service"]
    # K3s is on its way: no second restart.
    assert server.minute() == []
    assert server.read("systemctl").count("restart") == 1
    server.write("cluster/nodes/server-shop", PROVIDER_ID)
    server.minute()
    assert not server.exists(f"{STATE}/registers-anew")


def test_a_node_that_was_deleted_before_a_crash_is_registered_in_the_end(server: Server) -> None:
    server.minute()
    (server.world / "cluster/nodes/server-shop").unlink()
    mark = server.world / STATE / "registers-anew"
    mark.touch()
    os.utime(mark, (time.time() - 600,) * 2)
    server.minute()
    assert server.read("systemctl").splitlines() == ["restart --no-block k3s.service"]


def test_a_node_without_a_provider_id_of_ec2_is_never_deleted(server: Server) -> None:
    server.write("cluster/nodes/server-shop", "k3s://server-shop")
    server.minute()
    assert server.minute() == []
    assert server.read("cluster/nodes/server-shop") == "k3s://server-shop"


def test_a_server_that_has_not_registered_yet_is_left_alone(server: Server) -> None:
    (server.world / "cluster/nodes/server-shop").unlink()
    server.minute()
    assert not server.exists("systemctl")


# ---------------------------------------------------------------------------------------------------- the script itself


def test_the_script_brings_its_own_timer(server: Server) -> None:
    (server.world / "root/etc/systemd/system").mkdir(parents=True)
    ran = server.run("install")
    assert ran.returncode == 0, ran.stderr
    assert server.read("systemctl").splitlines() == [
        "daemon-reload",
        "enable k3s-autoscaler-sync.timer",
        "restart k3s-autoscaler-sync.timer",
    ]
    unit = server.read("root/etc/systemd/system/k3s-autoscaler-sync.service")
    assert "EnvironmentFile=/etc/k3s-autoscaler/server.env\n" in unit
    assert SCRIPTS.joinpath("server-sync.sh").stat().st_mode & 0o111


def test_the_json_paths_say_what_the_stand_in_answers(tmp_path: Path) -> None:
    """On the real kubectl."""
    script = SCRIPTS.joinpath("server-sync.sh").read_text()
    place = script.split("fields='", 1)[1].split("'", 1)[0]
    pinned = {"kubernetes.io/os": "linux", "node-role.kubernetes.io/control-plane": "true"}
    items = [
        {"metadata": {"name": "coredns"}, "spec": {"template": {"spec": {"nodeSelector": pinned}}}},
        {"metadata": {"name": "metrics-server"}, "spec": {"template": {"spec": {}}}},
    ]
    node_id, credential = [text.split("'", 1)[0] for text in script.split("-o 'jsonpath=")[1:]]
    with serving(tmp_path) as server:
        server.cluster.documents = {
            "/apis/apps/v1/namespaces/kube-system/deployments": {
                "apiVersion": "apps/v1",
                "kind": "DeploymentList",
                "items": items,
            },
            "/api/v1/nodes/server": {"apiVersion": "v1", "kind": "Node", "spec": {"providerID": PROVIDER_ID}},
            "/api/v1/namespaces/monitoring/secrets/webhook": {
                "apiVersion": "v1",
                "kind": "Secret",
                "data": {"url": "aA==", "token": "bB=="},
            },
        }
        assert server.kubectl("-n", "kube-system", "get", "deployments", "-o", f"jsonpath={place}") == (
            "coredns true\nmetrics-server \n"
        )
        assert server.kubectl("get", "node", "server", "-o", f"jsonpath={node_id}") == PROVIDER_ID
        secret = ("-n", "monitoring", "get", "secret", "webhook", "-o")
        assert server.kubectl(*secret, f"jsonpath={credential}") == "aA== bB=="
