"""The committed files as Prometheus and Alertmanager read them, and where alerts go."""

import pytest
import yaml

from tests.monitoring.programs import ROOT, run

FOLDER = ROOT / "monitoring"
ALERTMANAGER = FOLDER / "alertmanager.yml"


@pytest.mark.real_programs
def test_prometheus_accepts_its_configuration() -> None:
    done = run("promtool", "check", "config", FOLDER / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


@pytest.mark.real_programs
def test_prometheus_accepts_the_rules_without_a_warning() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted((FOLDER / "rules").glob("*.yml")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == 2


@pytest.mark.real_programs
def test_alertmanager_accepts_its_configuration() -> None:
    done = run("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.real_programs
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("alertname=K3sUnschedulablePods cluster=k3s-main scale=up", "k3s-autoscaler"),
        ("alertname=K3sHighCpu cluster=k3s-main scale=up", "k3s-autoscaler"),
        ("alertname=K3sLowUtilisation cluster=k3s-main scale=down", "k3s-autoscaler"),
        ("alertname=K3sNodeNotReady cluster=k3s-main scale=repair node=a", "k3s-autoscaler"),
        ("alertname=Watchdog cluster=k3s-main scale=none", "k3s-autoscaler"),
        ("alertname=K3sUnschedulablePods cluster=another scale=up", "nobody"),
        ("alertname=K3sUnschedulablePods scale=up", "nobody"),
        ("alertname=DiskFull cluster=k3s-main", "nobody"),
        ("alertname=Watchdog cluster=k3s-main severity=none", "nobody"),
    ],
)
def test_where_an_alert_goes(labels: str, receiver: str) -> None:
    done = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels.split())
    assert (done.returncode, done.stdout.strip()) == (0, receiver), done.stderr


def test_how_often_each_alert_is_repeated() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    ours = config["route"]["routes"][0]
    assert ours["group_by"] == ["alertname"]
    assert {
        route["matchers"][0]: (route["group_wait"], route["group_interval"], route["repeat_interval"])
        for route in ours["routes"]
    } == {
        'alertname = "K3sUnschedulablePods"': ("0s", "5s", "10s"),
        'scale = "up"': ("0s", "15s", "1m"),
        'scale = "repair"': ("0s", "15s", "2m"),
        'scale = "down"': ("0s", "1m", "5m"),
        'scale = "none"': ("0s", "1m", "1m"),
    }


def test_the_example_address_is_nobodys() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    assert [receiver["name"] for receiver in config["receivers"]] == ["nobody", "k3s-autoscaler"]
    hook = config["receivers"][1]["webhook_configs"][0]
    assert hook["url"] == "https://example.execute-api.eu-central-1.amazonaws.com/alerts"
    assert hook["send_resolved"] is False
    assert hook["http_config"]["authorization"] == {
        "type": "Bearer",
        "credentials_file": "/etc/alertmanager/webhook-token",
    }


def test_the_scrapes() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert {job["job_name"]: job["scrape_interval"] for job in config["scrape_configs"]} == {
        "kube-state-metrics": "2s",
        "kube-state-metrics-telemetry": "15s",
        "node-exporter": "15s",
        "prometheus": "15s",
    }
    for job in config["scrape_configs"]:
        assert int(job["scrape_timeout"][:-1]) <= int(job["scrape_interval"][:-1])
