"""Rendering: no number lives in two places, and a wrong setting changes nothing."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from autoscaler.deploy.rules import PATHS, RenderError, Settings, render, rules_mark, write
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp, Workers
from autoscaler.policy_text import parse_policy
from tests.monitoring.programs import ROOT, run

UNLIKE = Policy(
    version=1,
    scale_up=ScaleUp(pending_for_s=7, cpu_above=0.57, memory_above=0.71, window_s=83),
    scale_down=ScaleDown(cpu_below=0.29, memory_below=0.31, window_s=701),
    repair=Repair(not_ready_s=97),
    metrics=MetricsPolicy(cluster_interval_s=3, utilisation_interval_s=11, cpu_rate_window_s=37),
)


def rules(files: dict[str, str]) -> dict[str, Any]:
    return {
        rule["alert"]: rule
        for path in ("rules/cluster.yml", "rules/utilisation.yml")
        for rule in yaml.safe_load(files[path])["groups"][0]["rules"]
        if "alert" in rule
    }


def test_the_committed_files_are_the_committed_policys() -> None:
    """`make rules` and commit what it wrote, if this fails."""
    policy = parse_policy((ROOT / "policy.yml").read_text(encoding="utf-8"))
    for path, text in render(policy, Settings()).items():
        assert (ROOT / "monitoring" / path).read_text(encoding="utf-8") == text, path


def mark_of(files: Mapping[str, str]) -> str:
    """What the rules record of themselves."""
    return str(yaml.safe_load(files["rules/utilisation.yml"])["groups"][0]["rules"][-1]["labels"]["rendered"])


def test_rules_name_themselves_by_what_they_say() -> None:
    """Another policy that says the same to rules has the same mark, any other threshold another."""
    policy = Policy(version=1)
    mark = mark_of(render(policy, Settings()))
    assert re.fullmatch(r"[0-9a-f]{12}", mark)
    assert mark_of(render(policy, Settings(cluster_id="other"))) == mark
    more = msgspec.structs.replace(policy, workers=Workers(max=30))
    assert mark_of(render(more, Settings())) == mark
    others = [
        msgspec.structs.replace(policy, scale_up=ScaleUp(pending_for_s=11)),
        msgspec.structs.replace(policy, scale_up=ScaleUp(cpu_above=0.71)),
        msgspec.structs.replace(policy, metrics=MetricsPolicy(matchers={"cluster": "shop"})),
    ]
    assert len({mark, *(mark_of(render(other, Settings())) for other in others)}) == 4
    assert rules_mark(policy, Settings()) == mark


def test_every_number_comes_from_the_policy() -> None:
    files = render(UNLIKE, Settings())
    alerts = rules(files)
    assert {name: rule.get("for") for name, rule in alerts.items()} == {
        "K3sUnschedulablePods": "7s",
        "K3sNodeNotReady": "97s",
        "Watchdog": None,
        "K3sHighCpu": "83s",
        "K3sHighMemory": "83s",
        "K3sLowUtilisation": "701s",
    }
    assert alerts["K3sHighCpu"]["expr"].endswith("> 0.57\n")
    assert alerts["K3sHighMemory"]["expr"].endswith("> 0.71\n")
    assert "< 0.29\n" in alerts["K3sLowUtilisation"]["expr"]
    assert "< 0.31\n" in alerts["K3sLowUtilisation"]["expr"]
    groups = [yaml.safe_load(files[f"rules/{name}.yml"])["groups"][0] for name in ("cluster", "utilisation")]
    assert [(group["name"], group["interval"]) for group in groups] == [
        ("k3s-autoscaler-cluster", "3s"),
        ("k3s-autoscaler-utilisation", "11s"),
    ]
    jobs = {
        job["job_name"]: job["scrape_interval"] for job in yaml.safe_load(files["prometheus.yml"])["scrape_configs"]
    }
    assert jobs == {
        "kube-state-metrics": "3s",
        "kube-state-metrics-telemetry": "11s",
        "node-exporter": "11s",
        "prometheus": "11s",
    }
    assert "[37s]" in files["rules/utilisation.yml"]
    assert "[22s] offset 37s" in files["rules/utilisation.yml"]
    assert yaml.safe_load(files["rules/utilisation.yml"])["groups"][0]["rules"][-1]["labels"] == {
        "group": "utilisation",
        "interval_s": "11",
        "rendered": mark_of(files),
    }
    default = render(Policy(version=1), Settings())
    for number in ("0.7", "0.8", "0.3", "0.6", "70 %", "600s", "300s", "10s", "2s", "15s"):
        token = re.compile(rf"(?<![\w.]){re.escape(number)}(?!\w)")
        assert any(token.search(text) for text in default.values()), number
        assert not any(token.search(files[path]) for path in PATHS if path.startswith("rules/")), number


def test_percentages_read_well() -> None:
    assert "limit 57 %" in rules(render(UNLIKE, Settings()))["K3sHighCpu"]["annotations"]["summary"]
    assert "limit 29 %" in rules(render(UNLIKE, Settings()))["K3sLowUtilisation"]["annotations"]["summary"]


def test_nothing_is_left_unfilled() -> None:
    for path, text in render(Policy(version=1), Settings()).items():
        assert "@{" not in text, path
        assert text.startswith("# Rendered "), path
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path


def test_settings_reach_the_files() -> None:
    settings = Settings(
        cluster_id="shop-eu",
        webhook_url="http://127.0.0.1:3000/alerts",
        credentials_file="/run/with space/token",
        kube_state_metrics={"static_configs": [{"targets": ["127.0.0.1:8080"]}]},
        node_exporter={"http_sd_configs": [{"url": "http://127.0.0.1:8081/nodes", "refresh_interval": "1s"}]},
        prometheus={"static_configs": [{"targets": ["127.0.0.1:9999"]}]},
        alertmanager={"static_configs": [{"targets": ["127.0.0.1:9093"]}]},
    )
    files = render(Policy(version=1), settings)
    prometheus, alertmanager = yaml.safe_load(files["prometheus.yml"]), yaml.safe_load(files["alertmanager.yml"])
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    assert jobs["kube-state-metrics"]["static_configs"] == [{"targets": ["127.0.0.1:8080"]}]
    assert jobs["node-exporter"]["http_sd_configs"] == [
        {"url": "http://127.0.0.1:8081/nodes", "refresh_interval": "1s"}
    ]
    assert jobs["prometheus"]["static_configs"] == [{"targets": ["127.0.0.1:9999"]}]
    assert prometheus["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]
    assert prometheus["global"]["external_labels"] == {"cluster": "shop-eu"}
    hook = alertmanager["receivers"][1]["webhook_configs"][0]
    assert hook["url"] == "http://127.0.0.1:3000/alerts"
    assert hook["http_config"]["authorization"]["credentials_file"] == "/run/with space/token"
    assert 'cluster = "shop-eu"' in alertmanager["route"]["routes"][0]["matchers"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cluster_id": ""}, "cluster id ''"),
        ({"cluster_id": 'a"\nb'}, "cluster id"),
        ({"webhook_url": "alerts"}, "'alerts' is no web address"),
        ({"webhook_url": "ftp://host/alerts"}, "no web address"),
        ({"webhook_url": "https://ho st/alerts"}, "no web address"),
        ({"webhook_url": "https://host:port/alerts"}, "no web address"),
        ({"credentials_file": " "}, "credentials file"),
        ({"node_exporter": {}}, "discovery of node_exporter"),
        ({"alertmanager": {"targets": ["a"]}}, "discovery of alertmanager"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(settings: dict[str, object], named: str) -> None:
    with pytest.raises(RenderError, match=named) as refused:
        msgspec.structs.replace(Settings(), **settings)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    write({"rules/a.yml": "old\n", "b.yml": "b\n"}, tmp_path)
    write({"rules/a.yml": "new\n"}, tmp_path)
    found = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"rules/a.yml": "new\n", "b.yml": "b\n"}
    # Prometheus runs as another user.
    assert (tmp_path / "b.yml").stat().st_mode & 0o777 == 0o644


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoscaler.deploy.rules", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_renders_another_policy_elsewhere(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yml"
    policy.write_text("version: 1\nscale_up: {pending_for_s: 3}\nmetrics: {matchers: {replica: a}}\n", encoding="utf-8")
    arguments = ("--cluster-id", "demo", "--webhook-url", "http://127.0.0.1:1/alerts", "--local")
    done = command("--policy", policy, *arguments, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["global"]["external_labels"] == {"cluster": "demo", "replica": "a"}
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.yml")) == sorted([*PATHS, "policy.yml"])
    assert "for: 3s" in (tmp_path / "rules" / "cluster.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("policy", "arguments", "told"),
    [
        ('version: 1\nmetrics: {matchers: {cluster: "$a"}}\n', (), "metrics.matchers.cluster is '$a'"),
        ("version: 1\nworkers: {max: -1}\n", (), "is not a valid policy"),
        (None, (), "could not be read: No such file or directory. Name the policy with --policy."),
        ("version: 1\n", ("--webhook-url", "x"), "'x' is no web address"),
        ("version: 1\n", ("--cluster-id", "a b"), "cluster id 'a b'"),
    ],
)
def test_bad_input_changes_nothing(tmp_path: Path, policy: str | None, arguments: tuple[str, ...], told: str) -> None:
    file, out = tmp_path / "policy.yml", tmp_path / "out"
    if policy is not None:
        file.write_text(policy, encoding="utf-8")
    shutil.copytree(ROOT / "monitoring" / "rules", out / "rules")
    before = {path.name: path.read_bytes() for path in out.rglob("*.yml")}
    done = command("--policy", file, "--out", out, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in out.rglob("*.yml")} == before


def test_dollars_are_left_to_promql_and_go() -> None:
    files = render(Policy(version=1), Settings())
    assert '"$1"' in files["rules/utilisation.yml"]
    assert "{{ $value }}" in files["rules/cluster.yml"]


# --------------------------------------------------------------------------------------------- which cluster's they are


SHOP = Policy(version=1, metrics=MetricsPolicy(matchers={"cluster": "shop", "tenant": 'a "b"'}))


def every_rule(files: dict[str, str]) -> list[dict[str, Any]]:
    return [
        rule
        for path in ("rules/cluster.yml", "rules/utilisation.yml")
        for rule in yaml.safe_load(files[path])["groups"][0]["rules"]
    ]


def selectors(files: dict[str, str]) -> list[str]:
    """What stands in the braces of each selector, in expressions and in what annotations ask."""
    texts = [text for rule in every_rule(files) for text in (rule["expr"], *rule.get("annotations", {}).values())]
    return [inside for text in texts for inside in re.findall(r'(?<=\w)\{((?!\{)(?:"(?:\\.|[^"\\])*"|[^"}])*)\}', text)]


def test_the_policys_matchers_are_in_every_selector_label_and_scrape() -> None:
    files = render(SHOP, Settings())
    found = selectors(files)
    assert len(found) > 30
    assert [inside for inside in found if not inside.endswith('cluster="shop",tenant="a \\"b\\""')] == []
    for rule in every_rule(files):
        assert rule["labels"].items() >= {("cluster", "shop"), ("tenant", 'a "b"')}, rule
    config = yaml.safe_load(files["prometheus.yml"])
    for job in config["scrape_configs"]:
        assert job["relabel_configs"] == [
            {"target_label": "cluster", "replacement": "shop"},
            {"target_label": "tenant", "replacement": 'a "b"'},
        ], job
    assert config["global"]["external_labels"] == {"cluster": Settings().cluster_id}
    # What the alerts carry, whatever the service calls the cluster.
    assert 'cluster = "shop"' in yaml.safe_load(files["alertmanager.yml"])["route"]["routes"][0]["matchers"]


def test_a_prometheus_of_its_own_has_them_as_external_labels_only() -> None:
    """Its rules and alerts never see them; who reads it from outside sees them on every series."""
    files = render(SHOP, Settings(local=True))
    plain = render(Policy(version=1), Settings())
    for path in ("rules/cluster.yml", "rules/utilisation.yml"):
        assert files[path] == plain[path]
    config = yaml.safe_load(files["prometheus.yml"])
    assert config["global"]["external_labels"] == {"cluster": "shop", "tenant": 'a "b"'}
    assert not any("relabel_configs" in job for job in config["scrape_configs"])
    assert 'cluster = "shop"' in yaml.safe_load(files["alertmanager.yml"])["route"]["routes"][0]["matchers"]


def test_without_matchers_nothing_names_a_cluster() -> None:
    files = render(Policy(version=1), Settings())
    assert files == render(Policy(version=1), Settings(local=True))
    assert not any("cluster=" in inside for inside in selectors(files))
    assert not any("cluster" in rule.get("labels", {}) for rule in every_rule(files))


@pytest.mark.parametrize("value", ["a`b", "{{ a", "$1", "a\nb"])
def test_a_matcher_that_would_mean_something_else_in_a_file_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"metrics\.matchers\.cluster is ") as refused:
        MetricsPolicy(matchers={"cluster": value})
    assert "\n" not in str(refused.value)


@pytest.mark.real_programs
@pytest.mark.parametrize("local", [False, True])
def test_prometheus_accepts_rules_with_matchers(tmp_path: Path, local: bool) -> None:
    write(render(SHOP, Settings(local=local)), tmp_path)
    done = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
