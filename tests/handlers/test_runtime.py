"""The environment, and the wiring from it to the real adapters."""

from pathlib import Path
from typing import Any

import pytest

from autoscaler.model import Mode, Trigger
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.ports import Ports
from autoscaler.runtime import SettingsError, build, read_settings
from autoscaler.simulator.cluster import SimCluster
from handlers import alerts, lifecycle, sweep
from tests.handlers.support import FakeContext

ROOT = Path(__file__).resolve().parents[2]
ENVIRON = {
    "CLUSTER_ID": "demo",
    "STATE_TABLE": "s",
    "IDEMPOTENCY_TABLE": "i",
    "PROMETHEUS_URL": "http://10.0.1.10:30090",
    "LAUNCH_TEMPLATE_ID": "lt-1",
    "SUBNET_IDS": "subnet-1, subnet-2,",
    "NODE_COMMAND_DOCUMENT": "doc",
}


def test_the_least_environment() -> None:
    settings = read_settings(ENVIRON | {"PROMETHEUS_AUTH_PARAMETER": "", "NOTIFY_TOPIC_ARN": " "})
    assert settings.subnet_ids == ("subnet-1", "subnet-2")
    assert settings.policy_file == "policy.yml"
    assert (settings.alert_token_parameter, settings.prometheus_auth_parameter, settings.notify_topic_arn) == (
        None,
    ) * 3


def test_the_templates_of_pools_are_read_apart() -> None:
    told = {"POOL_LAUNCH_TEMPLATES": "gpu-a/amd64=lt-2,general/arm64=lt-3"}
    assert read_settings(ENVIRON | told).pool_templates == (("gpu-a", "amd64", "lt-2"), ("general", "arm64", "lt-3"))
    assert read_settings(ENVIRON | {"POOL_LAUNCH_TEMPLATES": ""}).pool_templates == ()


def test_one_sentence_lists_everything_that_is_missing() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"CLUSTER_ID": " "})
    for name in ENVIRON:
        assert f"{name} is not set" in str(caught.value)
    assert str(caught.value).count(".") == 2


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CLUSTER_ID", "a b", "letters, digits"),
        ("CLUSTER_ID", "x" * 129, "at most 128"),
        ("PROMETHEUS_URL", "10.0.1.10:30090", "http(s)://host:port"),
        ("PROMETHEUS_URL", "ftp://host", "http(s)://host:port"),
        ("PROMETHEUS_URL", "http://host:99999", "no address"),
        ("PROMETHEUS_URL", "http://[::1", "no address"),
        ("PROMETHEUS_URL", "http://host/?query=1", "holds a query string or a fragment"),
        ("PROMETHEUS_URL", "http://host/?", "holds a query string or a fragment"),
        ("PROMETHEUS_URL", "http://host/prometheus#top", "holds a query string or a fragment"),
        ("PROMETHEUS_URL", "http://@host", "holds a credential"),
        ("PROMETHEUS_URL", "http://host/a b", "such as /prometheus"),
        ("PROMETHEUS_URL", "http://host/prometheus/api/v1/", "leave it out"),
        ("PROMETHEUS_URL", "http://host/prometheus/api/v1/query", "leave it out"),
        ("PROMETHEUS_URL", "http://ada:hunter2@host", "holds a credential"),
        ("LAUNCH_TEMPLATE_ID", "worker", "lt-"),
        ("POOL_LAUNCH_TEMPLATES", "gpu=lt-1", "pool/architecture=lt-... is allowed"),
        ("POOL_LAUNCH_TEMPLATES", "gpu/amd64=lt-1,x", "separated by commas"),
        ("SUBNET_IDS", "subnet-1,vpc-1", "subnet ids"),
        ("SUBNET_IDS", ",", "subnet ids"),
        ("START_MODE", "paused", "observe or active is allowed"),
    ],
)
def test_wrong_values(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(ENVIRON | {name: value})
    assert name in str(caught.value)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("value", "mode"), [("", None), ("observe", Mode.OBSERVE), ("active", Mode.ACTIVE)])
def test_the_start_mode_is_optional(value: str, mode: Mode | None) -> None:
    assert read_settings(ENVIRON | {"START_MODE": value}).start_mode is mode


def test_the_start_mode_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    app = build(ENVIRON | {"START_MODE": "observe"})
    cluster = SimCluster(Policy(version=1))
    document = app.reconcile(
        cluster.ports(), cluster_id=cluster.cluster_id, policy=cluster.policy, trigger=Trigger(kind="sweep")
    )
    assert document["mode"] == "observe"


def test_the_wiring_makes_no_call_and_its_ports_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    app = build(ENVIRON)
    ports = app.ports(FakeContext(remaining_ms=2500))
    assert ports.clock.remaining_s() == 2.5
    assert ports.calls() == {}
    assert ports.ids.new() != ports.ids.new()
    assert not app.accept_token("anything"), "no parameter: every webhook is refused"


def test_a_policy_that_is_missing_or_wrong_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="POLICY_FILE"):
        build(ENVIRON | {"POLICY_FILE": str(tmp_path / "none.yml")})
    wrong = tmp_path / "policy.yml"
    wrong.write_text("version: 1\nworkers: {min: 5, max: 2}\n")
    with pytest.raises(PolicyError, match="min"):
        build(ENVIRON | {"POLICY_FILE": str(wrong)})


@pytest.mark.usefixtures("_moto")
def test_calls_are_counted_anew_in_every_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    seen: list[dict[str, int]] = []

    def look(ports: Ports, *, cluster_id: str, policy: Policy, **_: Any) -> dict[str, Any]:
        del cluster_id, policy
        with pytest.raises(Exception, match="ResourceNotFound"):
            ports.store.load()
        assert ports.fleet.describe() == []
        seen.append(dict(ports.calls()))
        return {"message": "m", "action": "none", "metrics_status": "ok"}

    app = build(ENVIRON)
    app = type(app)(**{**{name: getattr(app, name) for name in app.__struct_fields__}, "reconcile": look})
    for _ in range(2):
        sweep.handle(app, {}, FakeContext())
    assert seen == [{"dynamodb": 1, "ec2": 1}] * 2


@pytest.mark.parametrize("module", [alerts, sweep, lifecycle])
def test_the_entry_points_say_what_is_missing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRON:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="CLUSTER_ID is not set"):
        module.handler({}, FakeContext())


@pytest.mark.usefixtures("_moto")
def test_no_log_line_of_a_library_can_hold_a_decrypted_parameter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lambda's own log level may be DEBUG; botocore would then log the body of GetParameter's answer."""
    monkeypatch.chdir(ROOT)
    caplog.set_level("DEBUG")
    app = build(ENVIRON | {"ALERT_TOKEN_PARAMETER": "/k3s/demo/webhook-token"})
    app.clients.ssm().put_parameter(Name="/k3s/demo/webhook-token", Value="t0p-s3cr3t", Type="SecureString")
    assert app.accept_token("t0p-s3cr3t")
    assert "t0p-s3cr3t" not in caplog.text
