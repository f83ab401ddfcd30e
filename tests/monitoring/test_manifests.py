"""The in-cluster manifests: valid, rendered from the one source, and each part fits the others."""

import copy
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import utils as kubernetes  # type: ignore[import-untyped]  # the package has no types

from autoscaler.deploy.rules import MANIFESTS, RenderError, Settings, render_manifests
from autoscaler.deploy.versions import IMAGES
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.policy import Policy, ScaleUp
from autoscaler.policy_text import parse_policy
from tests.monitoring.manifests import FOLDER, OBJECTS, WORKLOADS, Manifest, containers, load, of_kind, one, pod
from tests.monitoring.programs import ROOT, run

# K3s' minors follow Kubernetes'. The oldest and the newest that a cluster of ours may run; both schemas are strict:
# an unknown field is an error, as it is for the API server's strict field validation.
VERSIONS = ("1.31", "1.37")
POLICY = parse_policy((ROOT / "policy.yml").read_text(encoding="utf-8"))
RULES = ("cluster.yml", "utilisation.yml")
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")


def title(entry: tuple[str, Manifest]) -> str:
    return f"{entry[1]['kind']}/{entry[1]['metadata']['name']}"


# ----------------------------------------------------------------------------------------------------------- one source


def test_the_committed_manifests_are_the_committed_policys() -> None:
    """`make rules` and commit what it wrote, if this fails."""
    rendered = render_manifests(POLICY, Settings().cluster_id, {})
    assert {path: (ROOT / "monitoring" / path).read_text(encoding="utf-8") for path in rendered} == rendered
    assert sorted(f"manifests/{file.name}" for file in FOLDER.iterdir()) == sorted(MANIFESTS)


def test_prometheus_gets_the_very_files_of_monitoring() -> None:
    data = one("ConfigMap", "prometheus")["data"]
    assert data == {
        "prometheus.yml": (ROOT / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"),
        **{name: (ROOT / "monitoring" / "rules" / name).read_text(encoding="utf-8") for name in RULES},
    }


def test_alertmanager_differs_only_in_where_address_and_token_come_from() -> None:
    outside = (ROOT / "monitoring" / "alertmanager.yml").read_text(encoding="utf-8").splitlines()
    inside = one("ConfigMap", "alertmanager")["data"]["alertmanager.yml"].splitlines()
    assert len(inside) == len(outside)
    assert [
        (before.strip(), after.strip()) for before, after in zip(outside, inside, strict=True) if before != after
    ] == [
        (f'- url: "{Settings().webhook_url}"', '- url_file: "/etc/alertmanager-webhook/url"'),
        (
            'credentials_file: "/etc/alertmanager/webhook-token"',
            'credentials_file: "/etc/alertmanager-webhook/token"',
        ),
    ]


def test_policy_and_cluster_reach_the_manifests() -> None:
    policy = Policy(
        version=1,
        scale_up=ScaleUp(pending_for_s=7),
        metrics=MetricsPolicy(cluster_interval_s=3, utilisation_interval_s=11),
    )
    files = render_manifests(policy, "shop-eu", {})
    prometheus = load(files["manifests/autoscaler-prometheus.yaml"])[0]["data"]
    config = yaml.safe_load(prometheus["prometheus.yml"])
    assert config["global"]["external_labels"] == {"cluster": "shop-eu"}
    assert {job["job_name"]: job["scrape_interval"] for job in config["scrape_configs"]} == {
        "kube-state-metrics": "3s",
        "kube-state-metrics-telemetry": "11s",
        "node-exporter": "11s",
        "prometheus": "11s",
    }
    [pending] = [
        rule
        for rule in yaml.safe_load(prometheus["cluster.yml"])["groups"][0]["rules"]
        if rule.get("alert") == "K3sUnschedulablePods"
    ]
    assert pending["for"] == "7s"
    alertmanager = load(files["manifests/autoscaler-alertmanager.yaml"])[0]["data"]["alertmanager.yml"]
    assert 'cluster = "shop-eu"' in yaml.safe_load(alertmanager)["route"]["routes"][0]["matchers"]
    with pytest.raises(RenderError, match="cluster id"):
        render_manifests(policy, 'a"b', {})


def test_a_changed_policy_is_read_anew_by_prometheus_without_a_restart() -> None:
    """A restart leaves a gap in every window. Alertmanager has to restart for a new configuration."""
    before, after = (
        {
            manifest["metadata"]["name"]: manifest["spec"]["template"]
            for text in render_manifests(policy, cluster, {}).values()
            for manifest in load(text)
            if manifest["kind"] in WORKLOADS
        }
        for policy, cluster in ((POLICY, "one"), (Policy(version=1, scale_up=ScaleUp(pending_for_s=7)), "two"))
    )
    assert {name for name in before if before[name] != after[name]} == {"alertmanager"}
    assert "--enable-feature=auto-reload-config" in pod(one("Deployment", "prometheus"))["containers"][0]["args"]
    config = one("ConfigMap", "alertmanager")["data"]["alertmanager.yml"]
    [annotation] = one("Deployment", "alertmanager")["spec"]["template"]["metadata"]["annotations"].values()
    assert annotation == hashlib.sha256(config.encode()).hexdigest()


# --------------------------------------------------------------------------------------------------------------- images


def references(files: dict[str, str]) -> dict[str, str]:
    """Image references by the image's own name."""
    found = {
        entry["image"]
        for text in files.values()
        for manifest in load(text)
        if manifest["kind"] in WORKLOADS
        for entry in containers(manifest)
    }
    by_name = {re.split(r"[:@]", reference.rsplit("/", 1)[1])[0]: reference for reference in found}
    assert len(by_name) == len(found)
    return by_name


def test_versions_are_pinned_and_new_enough() -> None:
    tags = {
        name: reference.rsplit(":", 1)[1] for name, reference in references(render_manifests(POLICY, "a", {})).items()
    }
    assert sorted(tags) == sorted(IMAGES)
    versions = {
        name: tuple(map(int, found.groups()))
        for name, tag in tags.items()
        if (found := re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", tag))
    }
    assert versions.keys() == tags.keys()
    assert versions["kube-state-metrics"] >= (2, 19)  # tells gated pods apart
    assert versions["alertmanager"] >= (0, 26)  # url_file
    assert versions["prometheus"] >= (3, 0)  # auto-reload-config
    for name, version in versions.items():
        assert f"{name} {version[0]}.{version[1]}" in PAGE.lower()


def test_a_digest_is_added_to_the_version_that_it_pins() -> None:
    digests = {image: f"sha256:{index:064x}" for index, image in enumerate(IMAGES)}
    plain, pinned = (references(render_manifests(POLICY, "a", given)) for given in ({}, digests))
    assert pinned == {name: f"{reference}@{digests[name]}" for name, reference in plain.items()}


@pytest.mark.parametrize(
    "given", [{"grafana": f"sha256:{0:064x}"}, {"prometheus": "latest"}, {"prometheus": "sha256:12"}, {"": ""}]
)
def test_a_wrong_digest_is_refused_in_one_sentence(given: dict[str, str]) -> None:
    with pytest.raises(RenderError, match="name one of alertmanager, kube-state-metrics") as refused:
        render_manifests(POLICY, "a", given)
    assert "\n" not in str(refused.value)


# --------------------------------------------------------------------------------------------------------------- schema


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("entry", OBJECTS, ids=title)
def test_the_schema_of_kubernetes_accepts_it(entry: tuple[str, Manifest], version: str) -> None:
    kubernetes.validate(entry[1], version, strict=True)


def misspelt(spec: dict[str, Any]) -> None:
    spec["template"]["spec"]["nodeSelectors"] = spec["template"]["spec"].pop("nodeSelector")


def wrong_type(spec: dict[str, Any]) -> None:
    spec["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"


def without_selector(spec: dict[str, Any]) -> None:
    del spec["selector"]


def number_as_argument(spec: dict[str, Any]) -> None:
    spec["template"]["spec"]["containers"][0]["args"].append(8080)


@pytest.mark.parametrize("broken", [misspelt, wrong_type, without_selector, number_as_argument])
def test_the_schema_refuses_what_the_api_server_would(broken: Callable[[dict[str, Any]], None]) -> None:
    manifest = copy.deepcopy(one("Deployment", "prometheus"))
    broken(manifest["spec"])
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(manifest, VERSIONS[0], strict=True)


def test_every_object_is_named_once_and_lives_in_its_namespace() -> None:
    assert len({title(entry) for entry in OBJECTS}) == len(OBJECTS)
    assert title(OBJECTS[0]) == "Namespace/monitoring"
    for entry in OBJECTS:
        metadata = entry[1]["metadata"]
        clusterwide = entry[1]["kind"] in {"Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume"}
        assert metadata.get("namespace") == (None if clusterwide else "monitoring"), title(entry)
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "k3s-autoscaler", title(entry)


def test_names_of_files_are_names_of_add_ons() -> None:
    """K3s names an AddOn after the file, and refuses what is no DNS name."""
    for path in MANIFESTS:
        assert re.fullmatch(r"autoscaler-[a-z0-9-]+", Path(path).stem), path
        assert f"| `{Path(path).name}` |" in PAGE


# ---------------------------------------------------------------------------------- what the programs themselves accept


@pytest.mark.real_programs
def test_prometheus_accepts_its_configuration_as_it_is_mounted(tmp_path: Path) -> None:
    [volume] = [entry for entry in pod(one("Deployment", "prometheus"))["volumes"] if "configMap" in entry]
    data = one("ConfigMap", volume["configMap"]["name"])["data"]
    assert {item["key"] for item in volume["configMap"]["items"]} == data.keys()
    for item in volume["configMap"]["items"]:
        target = tmp_path / item["path"]
        target.parent.mkdir(exist_ok=True)
        target.write_text(data[item["key"]], encoding="utf-8")
    checked = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rule files found" in checked.stdout
    linted = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted((tmp_path / "rules").iterdir()))
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert linted.stdout.count("SUCCESS") == len(RULES)


@pytest.mark.real_programs
def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    """Debian's amtool is 0.25 and knows no url_file (0.26): an address takes its place for the check."""
    config = one("ConfigMap", "alertmanager")["data"]["alertmanager.yml"]
    assert config.count("url_file: ") == 1
    file = tmp_path / "alertmanager.yml"
    file.write_text(re.sub(r'url_file: ".*"', 'url: "https://127.0.0.1/alerts"', config), encoding="utf-8")
    done = run("amtool", "check-config", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


# ----------------------------------------------------------------------------------------------- the place of each part


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "kube-state-metrics"])
def test_what_the_decisions_rest_on_stays_on_the_server(name: str) -> None:
    workload = one("Deployment", name)
    spec = pod(workload)
    assert spec["nodeSelector"] == {"node-role.kubernetes.io/control-plane": "true"}
    assert {"node-role.kubernetes.io/control-plane", "CriticalAddonsOnly"} <= {
        rule["key"] for rule in spec["tolerations"]
    }
    assert spec["priorityClassName"] == "system-cluster-critical"
    for entry in containers(workload):
        assert entry["resources"]["requests"] == entry["resources"]["limits"], entry["name"]
        assert entry["resources"]["limits"].keys() == {"cpu", "memory"}


def test_all_of_it_fits_on_a_t3_medium() -> None:
    """2 CPUs and 4 GiB, which K3s and its add-ons share: at most half of the one and a third of the other are ours."""
    cpu = memory = 0
    for workload in of_kind(*WORKLOADS):
        for entry in pod(workload)["containers"]:
            limits = entry["resources"]["limits"]
            cpu += int(limits["cpu"].removesuffix("m"))
            memory += int(limits["memory"].removesuffix("Mi"))
    assert cpu <= 1000
    assert memory <= 1200
    assert f"they may take {cpu} mCPU and {memory:,} MiB" in PAGE


def test_a_machine_is_measured_wherever_it_is_and_gives_little_away() -> None:
    spec = pod(one("DaemonSet", "node-exporter"))
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["hostNetwork"] is True
    assert spec["priorityClassName"] == "system-node-critical"
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "20m", "memory": "40Mi"}


def test_nothing_keeps_a_worker_from_being_drained() -> None:
    """Only the DaemonSet may run on workers: no budget, no bare pod, no volume that is tied to a node."""
    for entry in OBJECTS:
        assert entry[1]["kind"] not in {"Pod", "PodDisruptionBudget", "PersistentVolumeClaim", "StatefulSet"}
    off_the_server = [
        workload["metadata"]["name"]
        for workload in of_kind(*WORKLOADS)
        if "node-role.kubernetes.io/control-plane" not in pod(workload)["nodeSelector"]
    ]
    assert off_the_server == ["node-exporter"]
    for workload in of_kind(*WORKLOADS):
        annotations = workload["spec"]["template"]["metadata"].get("annotations", {})
        assert annotations.keys() <= {"k3s-autoscaler/config-sha256"}


# ------------------------------------------------------------------------------------------------------------- security


@pytest.mark.parametrize("workload", of_kind(*WORKLOADS), ids=lambda workload: str(workload["metadata"]["name"]))
def test_containers_may_do_little(workload: Manifest) -> None:
    spec = pod(workload)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65534
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for entry in containers(workload):
        rights = entry["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in rights
        if entry["name"] == "own-the-data-folder":
            assert (rights["runAsUser"], rights["capabilities"]["add"]) == (0, ["CHOWN"])
            assert [mount["name"] for mount in entry["volumeMounts"]] == ["data"]
        else:
            assert rights.keys() == {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}
            assert rights["capabilities"].keys() == {"drop"}


def test_the_host_is_touched_in_two_places_only() -> None:
    on_host = {
        (workload["metadata"]["name"], key)
        for workload in of_kind(*WORKLOADS)
        for key in ("hostNetwork", "hostPID", "hostIPC")
        if key in pod(workload)
    }
    assert on_host == {("node-exporter", "hostNetwork")}
    paths = [
        volume["hostPath"]["path"]
        for workload in of_kind(*WORKLOADS)
        for volume in pod(workload).get("volumes", [])
        if "hostPath" in volume
    ]
    assert paths == ["/var/lib/rancher/k3s-autoscaler/prometheus"]
