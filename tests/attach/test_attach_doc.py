"""docs/attach.md: what it shows parses, says what our own files say, and is what the tests of this folder run."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.aws.credential import parse_auth
from autoscaler.observe.query import moving_query, rooms_query, sight_query
from autoscaler.policy_text import parse_policy
from tests.attach.document import DOCUMENT, ROOT, configuration, snippet, snippets
from tests.monitoring.programs import run

VALUES = "# values.yaml"


def test_every_yaml_and_json_parses() -> None:
    assert len(snippets("yaml")) >= 6
    for text in snippets("yaml"):
        assert isinstance(yaml.safe_load(text), dict)
    assert len(snippets("json")) == 3
    for text in snippets("json"):
        parse_auth(text)


def test_the_policy_is_one() -> None:
    policy = parse_policy(snippet("yaml", "# policy.yml"), source="docs/attach.md")
    assert policy.metrics.matchers == {"cluster": "shop"}
    nodes = [f"ip-10-0-{number}-10.eu-central-1.compute.internal" for number in range(20)]
    questions = (
        sight_query(policy, with_owners=True),
        rooms_query(policy, nodes, with_init=True, with_overhead=True),
        moving_query(policy, nodes),
    )
    assert max(len(question.encode()) for question in questions) < 64 * 1024, "-search.maxQueryLen"


def _lists(flags: list[str]) -> set[tuple[str, str]]:
    """(kind, key) of allow-lists such as `nodes=[a,b]`."""
    found = re.findall(r"(\w+)=\[([^]]*)\]", ",".join(flags))
    return {(kind, key) for kind, keys in found for key in keys.split(",")}


def test_kube_state_metrics_shows_what_our_own_manifest_makes_it_show() -> None:
    documents = yaml.safe_load_all(
        (ROOT / "monitoring/manifests/autoscaler-kube-state-metrics.yaml").read_text("utf-8")
    )
    (deployment,) = (document for document in documents if document["kind"] == "Deployment")
    flags = dict(argument.split("=", 1) for argument in deployment["spec"]["template"]["spec"]["containers"][0]["args"])
    values = configuration(VALUES)["kube-state-metrics"]
    assert _lists(values["metricLabelsAllowlist"]) == _lists([flags["--metric-labels-allowlist"]])
    assert _lists(values["metricAnnotationsAllowList"]) == _lists([flags["--metric-annotations-allowlist"]])
    assert values["extraArgs"] == [f"--metric-opt-in-list={flags['--metric-opt-in-list']}"]


def _routes(tree: dict[str, Any]) -> Any:
    (ours,) = (route for route in tree["routes"] if route["receiver"] == "k3s-autoscaler")
    return ours["routes"]


def test_the_routes_are_those_of_our_own_alertmanager() -> None:
    config = configuration(VALUES)["alertmanager"]["config"]
    own = yaml.safe_load((ROOT / "monitoring" / "alertmanager.yml").read_text(encoding="utf-8"))
    assert _routes(config["route"]) == _routes(own["route"])
    (receiver,) = (receiver for receiver in own["receivers"] if receiver["name"] == "k3s-autoscaler")
    (shown,) = (receiver for receiver in config["receivers"] if receiver["name"] == "k3s-autoscaler")
    mine, theirs = receiver["webhook_configs"][0], shown["webhook_configs"][0]
    secret = configuration(VALUES)["alertmanager"]["alertmanagerSpec"]["secrets"][0]
    assert theirs["http_config"]["authorization"].pop("credentials_file") == f"/etc/alertmanager/secrets/{secret}/token"
    mine["http_config"]["authorization"].pop("credentials_file")
    assert {**theirs, "url": ""} == {**mine, "url": ""}


@pytest.mark.real_programs
def test_alertmanager_takes_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(configuration(VALUES)["alertmanager"]["config"]), encoding="utf-8")
    done = run("amtool", "check-config", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real_programs
def test_prometheus_takes_the_remote_write(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(snippet("yaml", "# prometheus.yml"), encoding="utf-8")
    done = run("promtool", "check", "config", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_loop_makes_prometheus_rules_of_our_files(tmp_path: Path) -> None:
    (tmp_path / "build/attach").mkdir(parents=True)
    (tmp_path / "build/attach/rules").symlink_to(ROOT / "monitoring" / "rules")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\ncat\n", encoding="utf-8")
    kubectl.chmod(0o755)
    done = subprocess.run(
        ["bash", "-eu", "-c", snippet("sh", "# rules")],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    made = {rule["metadata"]["name"]: rule for rule in yaml.safe_load_all(done.stdout) if rule}
    assert made.keys() == {"k3s-autoscaler-cluster", "k3s-autoscaler-utilisation"}
    for name, rule in made.items():
        own = yaml.safe_load(
            (ROOT / f"monitoring/rules/{name.removeprefix('k3s-autoscaler-')}.yml").read_text(encoding="utf-8")
        )
        assert rule["spec"] == own
        assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")


def test_the_files_that_it_names_are_rendered() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in re.findall(r"build/attach/(manifests/[\w.-]+)", text):
        assert (ROOT / "monitoring" / name).exists(), name


SAID = {
    "the Prometheus credential does not read": "autoscaler/aws/credential.py",
    "which the request sets itself": "autoscaler/aws/credential.py",
    "answered with a part of what it has": "autoscaler/aws/prometheus.py",
    "answered with a redirect": "autoscaler/aws/prometheus.py",
    "answered with HTTP status": "autoscaler/aws/prometheus.py",
}


@pytest.mark.parametrize(("sentence", "file"), SAID.items())
def test_the_sentences_are_the_codes_own(sentence: str, file: str) -> None:
    assert sentence in (ROOT / file).read_text(encoding="utf-8")
    assert sentence.removeprefix("answered with HTTP") in DOCUMENT.read_text(encoding="utf-8")


def test_the_third_credential_has_the_tenant() -> None:
    assert json.loads(snippets("json")[2])["headers"] == {"X-Scope-OrgID": "shop"}
