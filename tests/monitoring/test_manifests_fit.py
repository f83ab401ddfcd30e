"""The manifests' parts know each other: names, ports, selectors, rights, lists. And each program's own settings."""

import re
from typing import Any

import pytest
import yaml

from autoscaler.observe.series import PROOF_VOLUME
from autoscaler.simulator.metrics.exposition import ALLOWED_NODE_LABELS, ALLOWED_POD_ANNOTATIONS
from tests.monitoring.manifests import (
    WORKLOADS,
    Manifest,
    allow_list,
    argument,
    container,
    containers,
    of_kind,
    one,
    pod,
)
from tests.monitoring.programs import ROOT
from tests.monitoring.reads import ANNOTATIONS, EXPRESSIONS, KUBE, NAMES, NODE, RECORDED
from tests.monitoring.scrape import Series, kept, read_scrape

KSM = "kube-state-metrics"


def ports_of(workload: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for entry in pod(workload)["containers"] for port in entry["ports"]}


def chosen_by(selector: dict[str, str]) -> list[Manifest]:
    """The workloads whose pods carry all of these labels."""
    return [
        workload
        for workload in of_kind(*WORKLOADS)
        if selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    ]


# ------------------------------------------------------------------------------------------------------ names and ports


@pytest.mark.parametrize("workload", of_kind(*WORKLOADS), ids=lambda workload: str(workload["metadata"]["name"]))
def test_a_workload_owns_its_pods_and_no_others(workload: Manifest) -> None:
    assert chosen_by(workload["spec"]["selector"]["matchLabels"]) == [workload]


@pytest.mark.parametrize("service", of_kind("Service"), ids=lambda service: str(service["metadata"]["name"]))
def test_a_service_leads_to_ports_that_are_there(service: Manifest) -> None:
    [workload] = chosen_by(service["spec"]["selector"])
    ports = ports_of(workload)
    for port in service["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]]


@pytest.mark.parametrize("workload", of_kind(*WORKLOADS), ids=lambda workload: str(workload["metadata"]["name"]))
def test_probes_ask_ports_that_are_there(workload: Manifest) -> None:
    for entry in pod(workload)["containers"]:
        probes = {
            kind: entry[kind]["httpGet"]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe")
            if kind in entry
        }
        assert {"readinessProbe", "livenessProbe"} <= probes.keys()
        assert {probe["port"] for probe in probes.values()} <= ports_of(workload).keys()


def test_the_programs_listen_where_the_manifests_say() -> None:
    assert ports_of(one("Deployment", KSM)) == {
        "http": int(argument(KSM, "port")),
        "telemetry": int(argument(KSM, "telemetry-port")),
    }
    assert argument("node-exporter", "web.listen-address") == f":{ports_of(one('DaemonSet', 'node-exporter'))['http']}"
    # Their own defaults.
    assert ports_of(one("Deployment", "prometheus")) == {"http": 9090}
    assert ports_of(one("Deployment", "alertmanager")) == {"http": 9093}


def test_prometheus_finds_its_targets_by_headless_services() -> None:
    config = yaml.safe_load(one("ConfigMap", "prometheus")["data"]["prometheus.yml"])
    discovered = [
        (job.get("job_name", "alertmanager"), block)
        for job in [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
        for block in job.get("dns_sd_configs", [])
    ]
    assert sorted(name for name, _ in discovered) == ["alertmanager", KSM, f"{KSM}-telemetry", "node-exporter"]
    ports = {name: block["port"] for name, block in discovered}
    assert (ports[KSM], ports[f"{KSM}-telemetry"]) == (8080, 8081)
    for job, block in discovered:
        name = job.removesuffix("-telemetry")
        service = one("Service", name)
        assert service["spec"]["clusterIP"] == "None"
        assert block["names"] == [f"{name}.monitoring.svc.cluster.local"]
        assert block["type"] == "A"
        # An A record is a pod's address: the port is the container's.
        assert block["port"] in ports_of(chosen_by(service["spec"]["selector"])[0]).values()


def test_the_functions_reach_prometheus_on_node_port_30090() -> None:
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service")}
    assert {name for name, spec in services.items() if spec.get("type") == "NodePort"} == {"prometheus"}
    assert [port["nodePort"] for port in services["prometheus"]["ports"]] == [30090]


def test_only_prometheus_reaches_alertmanager() -> None:
    [policy] = of_kind("NetworkPolicy")
    assert chosen_by(policy["spec"]["podSelector"]["matchLabels"]) == [one("Deployment", "alertmanager")]
    [rule] = policy["spec"]["ingress"]
    [peer] = rule["from"]
    assert chosen_by(peer["podSelector"]["matchLabels"]) == [one("Deployment", "prometheus")]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9093}]


def test_mounted_volumes_exist_and_are_mounted() -> None:
    for workload in of_kind(*WORKLOADS):
        volumes = {volume["name"] for volume in pod(workload).get("volumes", [])}
        mounted = {mount["name"] for entry in containers(workload) for mount in entry.get("volumeMounts", [])}
        assert mounted == volumes
        for volume in pod(workload).get("volumes", []):
            if "configMap" in volume:
                one("ConfigMap", volume["configMap"]["name"])


# --------------------------------------------------------------------------------------------------------------- rights


def test_only_kube_state_metrics_speaks_to_the_api_server() -> None:
    accounts = {account["metadata"]["name"] for account in of_kind("ServiceAccount")}
    for workload in of_kind(*WORKLOADS):
        spec = pod(workload)
        if spec["automountServiceAccountToken"]:
            assert spec["serviceAccountName"] in accounts
            accounts.remove(spec["serviceAccountName"])
        else:
            assert "serviceAccountName" not in spec
    assert not accounts
    assert [account["automountServiceAccountToken"] for account in of_kind("ServiceAccount")] == [False]


def test_it_may_list_and_watch_what_it_shows_and_no_more() -> None:
    [role] = of_kind("ClusterRole")
    [binding] = of_kind("ClusterRoleBinding")
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"],
    }  # fmt: skip
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": KSM, "namespace": "monitoring"}]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": argument(KSM, "resources").split(","), "verbs": ["list", "watch"]}
    ]
    shown = {re.match(r"kube_([a-z]+?)s?_", name)[1] for name in argument(KSM, "metric-allowlist").split(",")}  # type: ignore[index]  # all match
    assert {f"{resource}s" for resource in shown} == set(argument(KSM, "resources").split(","))


# ---------------------------------------------------------------------------------------------------- what is collected


def test_the_allow_list_is_what_is_read() -> None:
    """Every metric that a query or a rule names, and no other."""
    assert sorted(argument(KSM, "metric-allowlist").split(",")) == sorted(KUBE)
    assert argument(KSM, "metric-opt-in-list") == "kube_pod_nodeselectors"
    assert "kube_pod_nodeselectors" in KUBE
    assert {"kube_node_status_addresses", "kube_pod_deletion_timestamp", "kube_persistentvolume_info"} <= KUBE


def test_an_entry_of_the_allow_list_lets_no_other_metric_through() -> None:
    """kube-state-metrics takes each entry as a regular expression that may match anywhere in a name."""
    entries = argument(KSM, "metric-allowlist").split(",")
    names = {series.name for series in read_scrape("kube-state-metrics-2.20-no-allow-lists.prom")}
    through = {name for name in names if any(re.search(entry, name) for entry in entries)}
    assert through <= set(entries)
    assert len(through) > 15


def test_nothing_else_is_read() -> None:
    others = NAMES - KUBE - NODE - RECORDED
    assert others == {"up", "kube_state_metrics_build_info"}


def test_annotations_and_labels_that_are_read_are_shown() -> None:
    annotations = allow_list(KSM, "metric-annotations-allowlist")
    assert {re.sub(r"\W", "_", key) for keys in annotations.values() for key in keys} == ANNOTATIONS
    assert annotations.keys() == {"persistentvolumes", "pods"}
    labels = allow_list(KSM, "metric-labels-allowlist")
    assert labels.keys() == {"nodes"}
    read = {name for text in EXPRESSIONS for name in re.findall(r"\blabel_(\w+)=", text)}
    assert read <= {re.sub(r"\W", "_", key) for key in labels["nodes"]}
    assert {"topology.kubernetes.io/zone", "node.kubernetes.io/instance-type", "k3s-autoscaler/managed"} <= set(
        labels["nodes"]
    )


def test_the_proof_is_a_volume_that_nothing_can_use() -> None:
    """Kubernetes binds a claim to it that names its class; no driver of its name will ever be installed."""
    [volume] = of_kind("PersistentVolume")
    assert volume["metadata"]["name"] == PROOF_VOLUME
    assert volume["spec"] == {
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": PROOF_VOLUME,
        "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": PROOF_VOLUME, "volumeHandle": "none"},
    }
    [annotation] = allow_list(KSM, "metric-annotations-allowlist")["persistentvolumes"]
    assert volume["metadata"]["annotations"] == {annotation: "none"}
    assert "persistentvolumes" in argument(KSM, "resources").split(",")


def test_workers_labels_are_shown() -> None:
    """Each label that the worker's boot script sets, but for the region: a cluster has one. And one for operators."""
    script = (ROOT / "cloudformation" / "scripts" / "worker-bootstrap.sh").read_text(encoding="utf-8")
    set_by_us = set(re.findall(r"--node-label=([\w./-]+)=", script))
    assert "k3s-autoscaler/managed" in set_by_us
    assert set(allow_list(KSM, "metric-labels-allowlist")["nodes"]) == (
        set_by_us - {"topology.kubernetes.io/region"} | {"k3s-autoscaler/pool"}
    )


def test_the_simulated_cluster_shows_nothing_that_a_real_one_would_hide() -> None:
    assert set(ALLOWED_NODE_LABELS) == set(allow_list(KSM, "metric-labels-allowlist")["nodes"])
    assert set(ALLOWED_POD_ANNOTATIONS) == set(allow_list(KSM, "metric-annotations-allowlist")["pods"])


def test_node_exporter_collects_what_the_rules_read_and_no_more() -> None:
    arguments = container("node-exporter")["args"]
    assert "--collector.disable-defaults" in arguments
    collectors = {text.removeprefix("--collector.") for text in arguments if text.startswith("--collector.")} - {
        "disable-defaults"
    }
    prefixes = {"cpu": "node_cpu_", "meminfo": "node_memory_", "uname": "node_uname_"}
    assert collectors == prefixes.keys()
    assert all(any(name.startswith(prefix) for prefix in prefixes.values()) for name in NODE)
    assert all(any(name.startswith(prefix) for name in NODE) for prefix in prefixes.values())


def test_the_scrape_keeps_of_node_exporter_what_the_rules_read() -> None:
    sample = read_scrape("node-exporter.prom")
    left = kept(sample, "node-exporter")
    assert {one.name for one in left} == NODE
    assert {one.labels["mode"] for one in left if "mode" in one.labels} == {"idle"}
    assert len([one for one in sample if one.labels.get("mode") == "idle"]) == len(
        [one for one in left if one.labels.get("mode") == "idle"]
    )


def test_the_scrape_of_the_telemetry_port_keeps_the_version() -> None:
    told = [Series("kube_state_metrics_build_info", {"version": "v2.20.0"}, "1"), Series("go_goroutines", {}, "9")]
    assert kept(told, "kube-state-metrics-telemetry") == told[:1]


def test_the_page_on_metrics_gives_the_same_flags() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for flag in ("resources", "metric-allowlist", "metric-opt-in-list", "metric-labels-allowlist"):
        [told] = re.findall(rf"^--{flag}=(\S+)$", text, re.MULTILINE)
        assert sorted(told.split(",")) == sorted(argument(KSM, flag).split(",")), flag
    [told] = re.findall(r"^--metric-annotations-allowlist=(\S+)$", text, re.MULTILINE)
    listed = {resource: sorted(keys.split(",")) for resource, keys in re.findall(r"(\w+)=\[([^\]]*)\]", told)}
    assert listed == {
        resource: sorted(keys) for resource, keys in allow_list(KSM, "metric-annotations-allowlist").items()
    }


# ------------------------------------------------------------------------------------------------- Prometheus' settings


def test_prometheus_keeps_seven_days_on_the_server() -> None:
    assert argument("prometheus", "storage.tsdb.retention.time") == "7d"
    spec = pod(one("Deployment", "prometheus"))
    mounts = {mount["name"]: mount["mountPath"] for mount in container("prometheus")["volumeMounts"]}
    assert mounts["data"] == argument("prometheus", "storage.tsdb.path")
    [data] = [volume for volume in spec["volumes"] if volume["name"] == "data"]
    assert data["hostPath"]["type"] == "DirectoryOrCreate"
    assert one("Deployment", "prometheus")["spec"]["strategy"] == {"type": "Recreate"}
    [owner] = spec["initContainers"]
    assert owner["command"] == [
        "chown",
        f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}",
        mounts["data"],
    ]
    assert owner["image"] == container("prometheus")["image"]


def test_prometheus_reads_the_files_that_are_mounted() -> None:
    [config] = [volume for volume in pod(one("Deployment", "prometheus"))["volumes"] if volume["name"] == "config"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container("prometheus")["volumeMounts"]}
    paths = {item["path"] for item in config["configMap"]["items"]}
    assert argument("prometheus", "config.file") == f"{mounts['config']}/prometheus.yml"
    rule_files = yaml.safe_load(one("ConfigMap", "prometheus")["data"]["prometheus.yml"])["rule_files"]
    assert paths == {"prometheus.yml", *rule_files}
    # A file that is mounted alone never changes.
    assert not any("subPath" in mount for mount in container("prometheus")["volumeMounts"])


def test_a_query_cannot_take_more_memory_than_there_is() -> None:
    """A sample in a query is 16 bytes (Prometheus' documentation of query.max-samples' default, 50 million)."""
    limit = int(container("prometheus")["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    assert int(argument("prometheus", "query.max-samples")) * 16 < limit / 4


# ---------------------------------------------------------------------------------------------- Alertmanager's settings


def test_alertmanager_reads_address_and_token_from_the_secret() -> None:
    spec = pod(one("Deployment", "alertmanager"))
    [secret] = [volume for volume in spec["volumes"] if "secret" in volume]
    assert secret["secret"]["secretName"] == "alertmanager-webhook"
    assert secret["secret"]["optional"] is True
    paths = {item["key"]: item["path"] for item in secret["secret"]["items"]}
    assert paths.keys() == {"url", "token"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container("alertmanager")["volumeMounts"]}
    assert not any("subPath" in mount for mount in container("alertmanager")["volumeMounts"])
    config: dict[str, Any] = yaml.safe_load(one("ConfigMap", "alertmanager")["data"]["alertmanager.yml"])
    [hook] = config["receivers"][1]["webhook_configs"]
    assert hook["url_file"] == f"{mounts[secret['name']]}/{paths['url']}"
    assert hook["http_config"]["authorization"]["credentials_file"] == f"{mounts[secret['name']]}/{paths['token']}"
    # Readable by the group that the pod is in, and by nobody else.
    assert secret["secret"]["defaultMode"] == 0o440
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


def test_the_sync_script_keeps_that_secret() -> None:
    script = (ROOT / "cloudformation" / "scripts" / "server-sync.sh").read_text(encoding="utf-8")
    for said in ('"name":"alertmanager-webhook","namespace":"monitoring"', '"url":', '"token":'):
        assert said in script
